"""Run folders: train, evaluate, explain and report as functions; the CLI adds only words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fli2moe import report
from fli2moe.config import Config
from fli2moe.data.load import load_dataset
from fli2moe.data.sample import Sample
from fli2moe.errors import InputError, unknown_name
from fli2moe.evaluation import evaluate, metric_tables
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.store import read_explanations, write_explanations
from fli2moe.features import Features, Progress, default_cache, encode_samples
from fli2moe.files import check_writable, read_json
from fli2moe.plot import can_plot, metric_figures, save_figure
from fli2moe.predictor import Predictor
from fli2moe.run_folder import refuse_overwriting, run_config

logger = logging.getLogger(__name__)

EVALUATE_AGAIN = "run `fli2moe evaluate` again"

EpochProgress = Callable[[str, Mapping[str, float]], None]
"""Called with (run name, row of the history) after each epoch."""


def train_run(
    config: Config,
    out: Path,
    *,
    overwrite: bool = False,
    log: Sequence[str] = (),
    progress: Progress | None = None,
    progress_epoch: EpochProgress | None = None,
) -> Predictor:
    """Trains what `config` names into the run folder `out`.

    Args:
        config: everything the run needs.
        out: the run folder.
        overwrite: replace a trained model there.
        log: `csv` and `tensorboard`: each epoch's figures, written to `out/log` as they come.
        progress: called while encoding.
        progress_epoch: called with the model's name and the figures after each epoch.

    Raises:
        InputError: for an unknown kind of log, when `out` holds a trained model and `overwrite` is
            off, or the data are bad.
        MachineError: when `out` cannot be written.
    """
    from fli2moe.loggers import loggers_of
    from fli2moe.training import fit

    if not overwrite:
        refuse_overwriting(out)  # before the data are read
    dataset = load_dataset(config.data)
    for note in dataset.notes:
        logger.warning("data: %s", note)
    check_writable(out)
    loggers = loggers_of(log, out)

    def epoch(row: Mapping[str, float]) -> None:
        if progress_epoch:
            progress_epoch(config.model.name, row)

    predictor = fit(
        config,
        dataset,
        out,
        overwrite=overwrite,
        progress=progress,
        progress_epoch=epoch,
        loggers=loggers,
    )
    _forget_results(out)
    return predictor


def evaluate_run(
    run: Path,
    *,
    against: Sequence[Path] = (),
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures the run's model on its test split and writes what was found into the run folder.

    That is `metrics.json`, `samples.parquet` (a row per test sample), `tables.md`, `tables.tex`,
    the model card and, where matplotlib is installed, `plots/*.png`.

    Args:
        run: the run folder.
        against: other runs on the same data, each shown by its folder's name, with as many parents
            as tell it from the others and from the model.
        options: {`explain.key` or `evaluation.key`: value} over the run's config, for this call.
        seed: of every choice of samples and every estimate; the config's by default.
        progress: called with (stage, done, total).

    Raises:
        InputError: when a run is given twice, is `run` itself, or was trained on other data; when
            an option is unknown or was fixed in training.
    """
    predictor = _load(run, options)
    names = _names(run, against, predictor.config.model.name)
    others = {name: Predictor.load(path) for name, path in names.items()}
    for name, other in others.items():
        if other.config.data != predictor.config.data:
            raise InputError(f"--against {name}", "trained on other data", "the same data section")
    metrics = evaluate(
        predictor,
        load_dataset(predictor.config.data),
        cache=default_cache(run),
        out=run,
        against=others,
        seed=predictor.config.seed if seed is None else seed,
        progress=progress,
    )
    predictor.write_card(run)  # it shows the figures
    if can_plot():
        for name, figure in metric_figures(metrics).items():
            save_figure(figure, run / "plots" / f"{name}.png")
    return metrics


def explain_run(
    run: Path,
    *,
    split: str = "test",
    limit: int | None = None,
    ids: Sequence[str] = (),
    budget: int | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Explains samples of a split (every predicted label) into `run/explanations`.

    `options` and `seed` are as in `evaluate_run`.

    Returns:
        the number of explanations.

    Raises:
        InputError: for an unknown split, id or option, no sample at all, or too small a budget.
    """
    predictor = _load(run, options)
    seed = predictor.config.seed if seed is None else seed
    samples = load_dataset(predictor.config.data).split(split)
    if ids:
        by_id = {s.id: s for s in samples}
        for name in ids:
            if name not in by_id:
                raise InputError(f"--id {name}", f"no such sample in split {split}", "an id of it")
        samples = tuple(by_id[name] for name in ids)
    samples = samples[:limit]
    features = encode_samples(samples, predictor.encoders, default_cache(run), progress)
    explanations = _explain(predictor, samples, features, budget, seed, progress)
    return write_explanations(explanations, run / "explanations")


def report_run(run: Path, out: Path | None = None) -> Path:
    """Writes `report.html` of a run's explanations and, where they are there, its metrics."""
    config = run_config(run)
    dataset = load_dataset(config.data)
    samples = {s.id: s for s in dataset.samples}
    explanations = list(read_explanations(run / "explanations"))
    missing = [e.sample_id for e in explanations if e.sample_id not in samples]
    if missing:
        found = f"explains {missing[0]!r}, which the data do not have"
        raise InputError(str(run / "explanations"), found, "", "explain again")
    measured = _measured(run / "metrics.json")
    shown = [samples[name] for name in dict.fromkeys(e.sample_id for e in explanations)]
    about = {
        "Data": Path(config.data.path).name,
        "Model": config.model.name,
        "Modalities": ", ".join(
            f"{n} ({Path(m.encoder).name})" for n, m in config.data.modalities.items()
        ),
        "Samples shown": str(len(shown)),
    }
    return report.write(
        explanations,
        shown,
        out or run / "report.html",
        about=about,
        metrics=_tables(run / "metrics.json", measured) if measured else None,
        measured=measured,
        notice=dataset.notice,
    )


def probe_sample(
    run: Path,
    inputs: Mapping[str, str],
    *,
    target: str | None = None,
    budget: int | None = None,
    head: str | None = None,
    seed: int | None = None,
) -> Explanation:
    """Explains one new sample given as raw inputs; a `head` that is asked for must be there."""
    predictor = Predictor.load(run)
    if head not in (None, *predictor.model.heads):
        raise unknown_name("probe", "head", str(head), predictor.model.heads)
    seed = predictor.config.seed if seed is None else seed
    return predictor.explain(dict(inputs), target, sample_id="probe", budget=budget, seed=seed)


def _load(run: Path, options: Mapping[str, Any] | None) -> Predictor:
    predictor = Predictor.load(run)
    return replace(predictor, config=predictor.config.after_training(options or {}))


def _measured(metrics: Path) -> dict[str, Any] | None:
    return read_json(metrics, EVALUATE_AGAIN) if metrics.is_file() else None


def _tables(metrics: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return metric_tables(values)
    except (KeyError, TypeError, AttributeError) as error:
        found, expected = f"damaged or of another version: {error}", "what `fli2moe evaluate` wrote"
        raise InputError(str(metrics), found, expected, EVALUATE_AGAIN) from None


def _forget_results(out: Path) -> None:
    """Removes what an earlier model of this folder left: its figures are not the new model's."""
    for name in ("metrics.json", "report.html", "explanations/manifest.json"):
        (out / name).unlink(missing_ok=True)


def _explain(
    predictor: Predictor,
    samples: Sequence[Sample],
    features: Features,
    budget: int | None,
    seed: int,
    progress: Progress | None,
) -> Iterator[Explanation]:
    for done, sample in enumerate(samples):
        tokens = features.batch([done])
        targets = predictor.task.targets(predictor.run(tokens).logits)[0]
        for target in targets:
            yield predictor.explain(
                sample.inputs,
                predictor.task.classes[target],
                sample_id=sample.id,
                labels=sample.labels,
                budget=budget,
                seed=seed,
                tokens=tokens,
            )
        if progress:
            progress("explain", done + 1, len(samples))


def _names(run: Path, against: Sequence[Path], model: str) -> dict[str, Path]:
    """Returns {name: folder}, the names being the ends of the paths, none of them `model`."""
    folders = [path.resolve() for path in against]
    for n, folder in enumerate(folders):
        if folder in (run.resolve(), *folders[:n]):
            found = "given twice" if folder in folders[:n] else "the run itself"
            raise InputError(f"--against {against[n]}", found, "each other run once")
    length, names = 1, [folder.name for folder in folders]
    while len({model, *names}) <= len(folders):  # ends as different paths do
        length += 1
        names = [Path(*folder.parts[-length:]).as_posix() for folder in folders]
    return dict(zip(names, against, strict=True))

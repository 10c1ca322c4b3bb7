"""Run folders: train, evaluate, explain and report as functions; the CLI adds only words."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from fli2moe import ranks, report
from fli2moe.batches import check_kinds
from fli2moe.config import Config
from fli2moe.data.load import check_share, load_dataset
from fli2moe.data.rejects import REJECTS, Rejected, count_rejects, write_rejects
from fli2moe.data.sample import Dataset, Sample
from fli2moe.encoders import Encoder
from fli2moe.errors import InputError, unknown_name
from fli2moe.evaluation import EvaluateJob, evaluate, metric_tables
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.store import read_explanations
from fli2moe.feature_cache import FeatureCache
from fli2moe.features import Progress, default_cache, encode_samples, encoding_into
from fli2moe.files import check_writable, locked, read_json
from fli2moe.parallel import ExplainJob, encode_job, launch, run_parts
from fli2moe.parallel.explaining import ON_BAD
from fli2moe.parallel.workers import Done
from fli2moe.plot import can_plot, metric_figures, save_figure
from fli2moe.predictor import Predictor
from fli2moe.reading import unreadable, usable
from fli2moe.report.overview import charts
from fli2moe.run_folder import load_encoders, refuse_overwriting, run_config

logger = logging.getLogger(__name__)

EVALUATE_AGAIN = "run `fli2moe evaluate` again"

LOOKED_AT = 500
"""Training texts whose length is compared with what their encoder reads."""

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

    With `training.devices` or `training.nodes` above 1 this starts the processes and waits for
    them, unless it is one of them already (torchrun, srun).

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
    if config.training.processes > 1 and not ranks.is_rank():
        check_writable(out)
        launch(config, out, overwrite=overwrite, log=log)
        return Predictor.load(out)
    first = ranks.speaks(config.training.processes)
    dataset = load_dataset(config.data)
    for note in dataset.notes:
        logger.warning("data: %s", note)
    check_writable(out)
    loggers = loggers_of(log, out) if first else []
    encoders = load_encoders(config)
    dataset = usable(dataset, config, encoders, default_cache(out), progress)
    if first:
        _tell(dataset, out)
        _tell_truncated(dataset, encoders, config.seed)

    def epoch(row: Mapping[str, float]) -> None:
        if progress_epoch:
            progress_epoch(config.model.name, row)

    with locked(out) if first else nullcontext():
        predictor = fit(
            config,
            dataset,
            out,
            overwrite=overwrite,
            encoders=encoders,
            progress=progress,
            progress_epoch=epoch,
            loggers=loggers,
        )
    return predictor


def _tell(dataset: Dataset, out: Path) -> None:
    """Says how many samples were left out, and writes which."""
    write_rejects(dataset.rejected, out)
    if dataset.rejected:
        total = len(dataset.rejected) + len(dataset.samples)
        share = 100 * len(dataset.rejected) / total
        text = "data: %d of %d samples left out (%.1f%%), see %s"
        logger.warning(text, len(dataset.rejected), total, share, out / REJECTS)


def _tell_truncated(dataset: Dataset, encoders: Mapping[str, Encoder], seed: int) -> None:
    """Says which share of the training texts is longer than their encoder reads."""
    for name, encoder in encoders.items():
        texts = [str(s.inputs[name]) for s in dataset.train if name in s.inputs]
        if encoder.kind != "text" or not texts:
            continue
        looked = random.Random(seed).sample(texts, min(LOOKED_AT, len(texts)))
        cut = sum(bool(encoder.unseen(text)) for text in looked)
        if cut:
            text = "%s: %d of %d training texts looked at are longer than their encoder reads"
            logger.warning(text + " (%.0f%%)", name, cut, len(looked), 100 * cut / len(looked))


def evaluate_run(
    run: Path,
    *,
    against: Sequence[Path] = (),
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    workers: str = "1",
    address: str | None = None,
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
        workers: `1`, a number of processes, or `ray`: each measures whole parts of the evaluation;
            the results are the same.
        address: of a Ray cluster.
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
    config, cache = predictor.config, default_cache(run)
    dataset = usable(load_dataset(config.data), config, predictor.encoders, cache, progress)
    seed = config.seed if seed is None else seed

    def ahead(sections: Sequence[str]) -> None:
        given = dict(options or {})
        job = EvaluateJob(run.resolve(), dataset.test, cache, seed, given, tuple(sections))
        done = _counted(progress, "evaluate", len(sections))
        run_parts(job, job.order(), workers, done, address=address)

    with locked(run):
        metrics = evaluate(
            predictor,
            dataset,
            cache=cache,
            out=run,
            against=others,
            seed=seed,
            ahead=None if workers == "1" else ahead,
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
    workers: str = "1",
    address: str | None = None,
    on_bad: str | None = None,
    max_bad_share: float | None = None,
    progress: Progress | None = None,
) -> int:
    """Explains samples of a split (every predicted label) into `run/explanations`.

    It may be killed at any moment: the same call does only what is missing, and ends with the same
    files. `options` and `seed` are as in `evaluate_run`.

    Args:
        run: the run folder.
        split: train, val or test.
        limit: at most so many samples.
        ids: only these.
        budget: model evaluations of each; the config's by default.
        options: as above.
        seed: as above.
        workers: `1`, a number of processes, or `ray`; the results are the same.
        address: of a Ray cluster.
        on_bad: `stop` at a sample that cannot be read or explained, or `skip` it: it then stands in
            `explanations/rejects.jsonl`; `data.on_bad` by default.
        max_bad_share: stop where a larger share of the samples cannot be read; any by default.
        progress: called with (`explain`, samples done, samples).

    Returns:
        the number of explanations.

    Raises:
        InputError: for an unknown split, id or option, no sample at all, or too small a budget.
        MachineError: when workers die again and again.
    """
    predictor = _load(run, options)
    data = predictor.config.data
    on_bad = data.on_bad if on_bad is None else on_bad
    if on_bad not in ON_BAD:
        raise unknown_name("--on-bad", "choice", on_bad, ON_BAD)
    seed = predictor.config.seed if seed is None else seed
    samples = load_dataset(predictor.config.data).split(split)
    if ids:
        by_id = {s.id: s for s in samples}
        for name in ids:
            if name not in by_id:
                raise InputError(f"--id {name}", f"no such sample in split {split}", "an id of it")
        samples = tuple(by_id[name] for name in ids)
    samples = samples[:limit]
    cache = default_cache(run)
    bad = _encode(samples, predictor, cache, on_bad, progress)
    most = 1.0 if max_bad_share is None else max_bad_share
    check_share(data.path, bad, len(samples) - len(bad), most)
    job = ExplainJob(run.resolve(), samples, cache, seed, budget, dict(options or {}), on_bad)
    store = job.store(predictor)
    with locked(run):
        there = store.open()
        if there is not None:
            return there
        left = [part for part in range(job.parts) if not store.has(part)]
        finished = len(samples) - sum(len(job.part(n)) for n in left)
        if finished:
            logger.warning("%d of %d samples were explained before", finished, len(samples))

        done = _counted(
            progress, "explain", len(samples), finished, lambda part: len(job.part(part))
        )
        run_parts(job, left, workers, done, address=address)
        return store.finish(job.parts)


def _counted(
    progress: Progress | None,
    stage: str,
    total: int,
    finished: int = 0,
    size: Callable[[int], int] = lambda part: 1,
) -> Done:
    """Returns what counts the parts of a job that are done, and reports them."""

    def done(part: int) -> None:
        nonlocal finished
        finished += size(part)
        if progress:
            progress(stage, finished, total)

    return done


def _encode(
    samples: Sequence[Sample],
    predictor: Predictor,
    cache: Path,
    on_bad: str,
    progress: Progress | None,
) -> list[Rejected]:
    """Fills the cache: by many at once, or one by one where one of them cannot be encoded.

    It is done here, whoever explains, as features may depend on their batch in the last bit.
    """
    if on_bad == "stop":
        encode_samples(samples, predictor.encoders, cache, progress)
        return []
    return unreadable(samples, predictor.encoders, cache, progress)  # told when it is explained


def encode_data(
    config: Config,
    out: Path,
    *,
    workers: str = "1",
    address: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Encodes a data set into the cache that `train` with the same `out` reads.

    It may be killed at any moment; the same call does what is missing. `train` does it, too, in one
    process: this is for encoders that are large and machines that are several.

    Args:
        config: the data and the encoders.
        out: the run folder; the cache is the folder `features` beside it.
        workers: as in `explain_run`.
        address: as in `explain_run`.
        progress: called with (`encode`, shards done, shards).

    Returns:
        how many shards of up to 256 rows were made.

    Raises:
        InputError: when a sample cannot be encoded.
        MachineError: when workers die again and again.
    """
    dataset = load_dataset(config.data)
    encoders = load_encoders(config)
    check_kinds(dataset, encoders)
    cache = default_cache(out)
    with ExitStack() as held:
        for encoder in {e.fingerprint: e for e in encoders.values()}.values():
            held.enter_context(encoding_into(FeatureCache(cache, encoder)))
        job = encode_job(config, dataset, encoders, cache)
        total = len(job.shards)
        done = _counted(progress, "encode", total)
        run_parts(job, range(total), workers, done, address=address)
    return total


def report_run(run: Path, out: Path | None = None) -> Path:
    """Writes `report.html` of a run's explanations and, where they are there, its metrics."""
    config = run_config(run)
    with locked(run):
        return _report(run, config, run / "report.html" if out is None else out)


def _report(run: Path, config: Config, out: Path) -> Path:
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
    left_out = count_rejects(run / REJECTS), count_rejects(run / "explanations" / REJECTS)
    if any(left_out):
        said = f"{left_out[0]} in training, {left_out[1]} in explaining; see rejects.jsonl"
        about["Samples left out"] = said
    figures = run / "metrics.json"
    try:
        tables = None if measured is None else metric_tables(measured)
        charts(measured or {}, explanations)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise _damaged(figures, error) from error
    return report.write(
        explanations,
        shown,
        out,
        about=about,
        metrics=tables,
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
    return Predictor.load(run).with_options(options or {})


def _measured(metrics: Path) -> dict[str, Any] | None:
    return read_json(metrics, EVALUATE_AGAIN) if metrics.is_file() else None


def _damaged(metrics: Path, error: Exception) -> InputError:
    found, expected = f"damaged or of another version: {error!r}", "what `fli2moe evaluate` wrote"
    return InputError(str(metrics), found, expected, EVALUATE_AGAIN)


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

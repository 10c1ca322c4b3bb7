"""Run folders: train, evaluate, explain and report as functions; the CLI adds only words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fli2moe import report
from fli2moe.config import Config
from fli2moe.data.load import load_dataset
from fli2moe.data.sample import Sample
from fli2moe.data.shapes import write_shapes
from fli2moe.errors import InputError
from fli2moe.evaluation import evaluate, metric_tables
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.store import read_explanations, write_explanations
from fli2moe.features import Features, Progress, default_cache, encode_samples
from fli2moe.files import check_writable, read_json, write_json
from fli2moe.predictor import Predictor
from fli2moe.run_folder import run_config

logger = logging.getLogger(__name__)

EpochProgress = Callable[[str, Mapping[str, float]], None]
"""Called with (run name, row of the history) after each epoch."""

DEMO_SIZES = (5000, 500, 500)


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: the metrics, the report, and the seconds of each stage."""

    metrics: Mapping[str, Any]
    report: Path
    seconds: Mapping[str, float]


def train_run(
    config: Config,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    progress_epoch: EpochProgress | None = None,
) -> Predictor:
    """Trains what `config` names into the run folder `out`.

    Raises:
        InputError: when `out` holds a trained model and `overwrite` is off, or the data are bad.
        MachineError: when `out` cannot be written.
    """
    from fli2moe.training import fit

    if (out / "predictor.json").exists() and not overwrite:
        raise InputError(str(out), "holds a trained model", "a new folder", "or give --overwrite")
    dataset = load_dataset(config.data)
    for note in dataset.notes:
        logger.warning("data: %s", note)
    check_writable(out)

    def epoch(row: Mapping[str, float]) -> None:
        if progress_epoch:
            progress_epoch(config.model.name, row)

    predictor = fit(config, dataset, out, progress=progress, progress_epoch=epoch)
    _forget_results(out)
    return predictor


def evaluate_run(
    run: Path,
    *,
    against: Sequence[Path] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures the run's model on its test split and writes `metrics.json`.

    Args:
        run: the run folder.
        against: other runs on the same data, each shown by its folder's name, with as many parents
            as tell it from the others and from the model.
        seed: of every choice of samples and every estimate.
        progress: called with (stage, done, total).

    Raises:
        InputError: when a run is given twice, is `run` itself, or was trained on other data.
    """
    predictor = Predictor.load(run)
    names = _names(run, against, predictor.config.model.name)
    others = {name: Predictor.load(path) for name, path in names.items()}
    for name, other in others.items():
        if other.config.data != predictor.config.data:
            raise InputError(f"--against {name}", "trained on other data", "the same data section")
    return evaluate(
        predictor,
        load_dataset(predictor.config.data),
        cache=default_cache(run),
        out=run,
        against=others,
        seed=seed,
        progress=progress,
    )


def explain_run(
    run: Path,
    *,
    split: str = "test",
    limit: int | None = None,
    ids: Sequence[str] = (),
    budget: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> int:
    """Explains samples of a split (every predicted label) into `run/explanations`.

    Returns:
        the number of explanations.

    Raises:
        InputError: for an unknown split or id, no sample at all, or too small a budget.
    """
    predictor = Predictor.load(run)
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
    samples = {s.id: s for s in load_dataset(config.data).samples}
    explanations = list(read_explanations(run / "explanations"))
    missing = [e.sample_id for e in explanations if e.sample_id not in samples]
    if missing:
        found = f"explains {missing[0]!r}, which the data do not have"
        raise InputError(str(run / "explanations"), found, "", "explain again")
    tables = _tables(run / "metrics.json")
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
        explanations, shown, out or run / "report.html", about=about, metrics=tables
    )


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    sizes: tuple[int, int, int] = DEMO_SIZES,
    samples: int = 12,
    progress: Progress | None = None,
    progress_epoch: EpochProgress | None = None,
) -> DemoResult:
    """Makes data with planted truth, trains the mixture and the dense baseline, explains, reports.

    Args:
        out: run folder; the data go to `out/data`, the baseline to `<out>-dense`.
        seed: of the data and everything after it.
        sizes: number of training, validation and test samples.
        samples: test samples in the report.
        progress: called while encoding, evaluating and explaining.
        progress_epoch: called after each epoch.
    """
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        seconds[stage] = round(time.perf_counter() - clock, 1)
        clock = time.perf_counter()

    manifest = write_shapes(out / "data", sizes=sizes, seed=seed)
    lap("data")
    config = demo_config(manifest, seed)
    baseline = out.with_name(f"{out.name}-dense")  # beside `out`, so that it shares the cache
    train_run(config, out, overwrite=True, progress=progress, progress_epoch=progress_epoch)
    lap("train fli2moe")
    dense = config.model_copy(update={"model": config.model.model_copy(update={"name": "dense"})})
    train_run(dense, baseline, overwrite=True, progress=progress, progress_epoch=progress_epoch)
    lap("train dense")
    metrics = evaluate_run(out, against=[baseline], seed=seed, progress=progress)
    lap("evaluate")
    explain_run(out, limit=samples, seed=seed, progress=progress)
    lap("explain")
    page = report_run(out)
    lap("report")
    write_json(out / "demo.json", {"seconds": seconds, "sizes": list(sizes), "seed": seed})
    return DemoResult(metrics, page, seconds)


def demo_config(manifest: Path, seed: int = 0) -> Config:
    """Returns the demo's configuration over a manifest that `write_shapes` wrote."""
    modalities = {
        "text": {"encoder": "builtin:words"},
        "image": {"encoder": "builtin:patches"},
    }
    data = {"path": str(manifest.resolve()), "labels": "multilabel", "modalities": modalities}
    return Config.from_dict({"preset": "demo", "seed": seed, "data": data}, where="demo")


def probe_sample(
    run: Path, inputs: Mapping[str, str], *, target: str | None, budget: int | None, seed: int
) -> Explanation:
    """Explains one new sample given as raw inputs."""
    return Predictor.load(run).explain(
        dict(inputs), target, sample_id="probe", budget=budget, seed=seed
    )


def _tables(metrics: Path) -> dict[str, Any] | None:
    if not metrics.is_file():
        return None
    remedy = "run `fli2moe evaluate` again"
    values = read_json(metrics, remedy)
    try:
        return metric_tables(values)
    except (KeyError, TypeError, AttributeError) as error:
        found = f"damaged or of another version: {error}"
        raise InputError(str(metrics), found, "what `fli2moe evaluate` wrote", remedy) from None


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

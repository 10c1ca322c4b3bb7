"""Run folders: train, evaluate, explain and report as functions; the CLI adds only words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fli2moe import report
from fli2moe.config import Config
from fli2moe.data.load import load_dataset
from fli2moe.data.sample import Dataset, Sample
from fli2moe.data.shapes import write_shapes
from fli2moe.errors import InputError
from fli2moe.evaluation import evaluate, metric_tables
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.store import read_explanations, write_explanations
from fli2moe.features import Progress
from fli2moe.files import read_json, write_json
from fli2moe.predictor import Predictor

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
    """
    from fli2moe.training import default_cache, fit

    if (out / "predictor.json").exists() and not overwrite:
        raise InputError(str(out), "holds a trained model", "a new folder", "or give --overwrite")
    dataset = load_dataset(config.data)

    def epoch(row: Mapping[str, float]) -> None:
        if progress_epoch:
            progress_epoch(config.model.name, row)

    return fit(
        config, dataset, out, cache=default_cache(out), progress=progress, progress_epoch=epoch
    )


def evaluate_run(
    run: Path,
    *,
    against: Sequence[Path] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures the run's model on its test split and writes `metrics.json`."""
    predictor = Predictor.load(run)
    others = {_name(path): Predictor.load(path) for path in against}
    for name, other in others.items():
        if other.config.data != predictor.config.data:
            raise InputError(f"--against {name}", "trained on other data", "the same data section")
    return evaluate(
        predictor,
        load_dataset(predictor.config.data),
        cache=run.resolve().parent / "features",
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
        InputError: for an unknown split or id, or too small a budget.
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
    explanations = _explain(predictor, samples, budget, seed, progress)
    return write_explanations(explanations, run / "explanations")


def report_run(run: Path, out: Path | None = None) -> Path:
    """Writes `report.html` of a run's explanations and, where they are there, its metrics."""
    config = Config.from_yaml(run / "config.yaml")
    samples = {s.id: s for s in load_dataset(config.data).samples}
    explanations = list(read_explanations(run / "explanations"))
    missing = [e.sample_id for e in explanations if e.sample_id not in samples]
    if missing:
        found = f"explains {missing[0]!r}, which the data do not have"
        raise InputError(str(run / "explanations"), found, "", "explain again")
    metrics = run / "metrics.json"
    tables = metric_tables(read_json(metrics)) if metrics.is_file() else None
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


def _explain(
    predictor: Predictor,
    samples: Sequence[Sample],
    budget: int | None,
    seed: int,
    progress: Progress | None,
) -> Iterator[Explanation]:
    for done, sample in enumerate(samples):
        tokens = predictor.encode([sample.inputs])
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


def dataset_of(run: Path) -> Dataset:
    """Returns the data set that a run was trained on."""
    return load_dataset(Config.from_yaml(run / "config.yaml").data)


def _name(run: Path) -> str:
    return run.resolve().name

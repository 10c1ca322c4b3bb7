"""evaluate(): every figure of one trained model on the test split, as one JSON value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError
from fli2moe.evaluation.across_models import check_comparable, compare_explanations
from fli2moe.evaluation.linear_probe import linear_probe
from fli2moe.evaluation.part import Part
from fli2moe.evaluation.rendering import to_latex, to_markdown
from fli2moe.evaluation.results import write_samples
from fli2moe.evaluation.sections import PARTS, measured, timed
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.evaluation.tables import metric_tables
from fli2moe.evaluation.task import expert_figures, task_metrics
from fli2moe.evaluation.unfinished import Unfinished, settings_of
from fli2moe.features import Progress
from fli2moe.files import write_json, write_text
from fli2moe.predictor import Predictor

Ahead = Callable[[Sequence[str]], None]
"""Called with names of parts."""


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    *,
    cache: str | Path,
    out: str | Path | None = None,
    against: Mapping[str, Predictor] | None = None,
    seed: int = 0,
    ahead: Ahead | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures a trained model on the test split.

    It may be killed: parts that were finished are kept in `out` until all are there.

    Args:
        predictor: the model.
        dataset: with a test split (and a train split for the linear probe).
        cache: folder of the feature cache.
        out: run folder; `metrics.json`, `samples.parquet` (a row per test sample), `tables.md` and
            `tables.tex` are written there.
        against: {name: other model}, whose task metrics stand beside (the dense baseline), and
            whose explanations are compared with this one's where `evaluation.parts` has `sanity`.
        seed: of every choice of samples and every estimate.
        ahead: called with the parts that are not there yet, to have them measured by others, which
            keep them in `out`.
        progress: called with (stage, done, total).

    Raises:
        InputError: when there are no test samples, or another model has this one's name, or other
            classes or features where explanations are compared.
    """
    options, name = predictor.config.evaluation, predictor.config.model.name
    others = against or {}
    if "sanity" in options.parts:
        for other in others.values():
            check_comparable(predictor, other)
    if name in others:
        remedy = "give the other model another name"
        raise InputError(f"against {name}", "the name of the model itself", "", remedy)
    if not dataset.test:
        raise InputError(dataset.source, "no test samples", "a test split")
    seconds: dict[str, float] = {}
    with timed(seconds, "task"):
        test = run_split(predictor, dataset.test, Path(cache), progress)
        metrics: dict[str, Any] = {
            "data": {"source": Path(dataset.source).name, "test_samples": len(test.samples)},
            "model": {"name": name, "fingerprint": predictor.fingerprint},
            "task": task_metrics(predictor, test),
            "experts": expert_figures(predictor, test),
        }
        if dataset.notice:
            metrics["data"]["notice"] = dataset.notice
        for theirs, other in others.items():
            split = run_split(other, dataset.test, Path(cache), progress)
            metrics.setdefault("against", {})[theirs] = task_metrics(other, split)
    if options.probe and dataset.train:
        with timed(seconds, "linear_probe"):
            probe = linear_probe(predictor, dataset, Path(cache), test, progress)
        metrics["linear_probe"] = probe
    unfinished = Unfinished.of(None if out is None else Path(out), predictor, test, seed)
    asked = [section for section in PARTS if section in options.parts]
    if ahead is not None:
        ahead([section for section in asked if unfinished.find(section) is None])
    parts: dict[str, Part] = {}
    for section in asked:
        part, seconds[section] = measured(section, predictor, test, seed, unfinished, progress)
        if part.summary:
            parts[section], metrics[section] = part, dict(part.summary)
    if others and "sanity" in options.parts:
        with timed(seconds, "explanations_against"):
            metrics["explanations_against"] = {
                theirs: compare_explanations(predictor, other, test, seed, progress)
                for theirs, other in others.items()
            }
    metrics["settings"] = settings_of(predictor, seed)
    metrics["seconds"] = seconds
    if out is not None:
        _write(Path(out), predictor, test, metrics, parts)
        unfinished.remove()
    return metrics


def _write(
    out: Path,
    predictor: Predictor,
    test: TestSplit,
    metrics: Mapping[str, Any],
    parts: Mapping[str, Part],
) -> None:
    """Writes all results; `metrics.json` comes last and says that the others are whole."""
    tables = metric_tables(metrics)
    write_samples(out / "samples.parquet", predictor, test, [part.rows for part in parts.values()])
    write_text(out / "tables.md", to_markdown(tables))
    write_text(out / "tables.tex", to_latex(tables))
    write_json(out / "metrics.json", metrics)

"""evaluate(): every figure of one trained model on the test split, as one JSON value."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError
from fli2moe.evaluation.faithfulness import faithfulness
from fli2moe.evaluation.interactions import interaction_shares
from fli2moe.evaluation.linear_probe import linear_probe
from fli2moe.evaluation.planted import planted_recovery
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.features import Progress
from fli2moe.files import write_json
from fli2moe.predictor import Predictor


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    *,
    cache: str | Path,
    out: str | Path | None = None,
    against: Mapping[str, Predictor] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures a trained model on the test split.

    Args:
        predictor: the model.
        dataset: with a test split (and a train split for the linear probe).
        cache: folder of the feature cache.
        out: run folder; `metrics.json` is written there.
        against: {name: other model}, whose task metrics stand beside (the dense baseline).
        seed: of every choice of samples and every estimate.
        progress: called with (stage, done, total).

    Raises:
        InputError: when there are no test samples, or another model has this one's name.
    """
    options, name = predictor.config.evaluation, predictor.config.model.name
    if name in (against or {}):
        remedy = "give the other model another name"
        raise InputError(f"against {name}", "the name of the model itself", "", remedy)
    if not dataset.test:
        raise InputError(dataset.source, "no test samples", "a test split")
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        seconds[stage] = round(time.perf_counter() - clock, 2)
        clock = time.perf_counter()

    test = run_split(predictor, dataset.test, Path(cache), progress)
    metrics: dict[str, Any] = {
        "data": {"source": Path(dataset.source).name, "test_samples": len(test.samples)},
        "model": {"name": name, "fingerprint": predictor.fingerprint},
        "task": task_metrics(predictor, test),
        "experts": expert_figures(predictor, test),
    }
    for theirs, other in (against or {}).items():
        split = run_split(other, dataset.test, Path(cache), progress)
        metrics.setdefault("against", {})[theirs] = task_metrics(other, split)
    lap("task")
    if options.probe and dataset.train:
        metrics["linear_probe"] = linear_probe(predictor, dataset, Path(cache), test, progress)
        lap("linear_probe")
    metrics["faithfulness"] = faithfulness(predictor, test, seed, progress)
    lap("faithfulness")
    metrics["interaction_share"] = interaction_shares(predictor, test, seed, progress)
    lap("interaction_share")
    planted = planted_recovery(predictor, test, seed, progress)
    if planted:
        metrics["planted"] = planted
        lap("planted")
    metrics["settings"] = {"seed": seed, **options.model_dump(mode="json")}
    metrics["settings"]["explain"] = predictor.config.explain.model_dump(mode="json")
    metrics["seconds"] = seconds
    if out is not None:
        write_json(Path(out) / "metrics.json", metrics)
    return metrics


def task_metrics(predictor: Predictor, test: TestSplit) -> dict[str, Any]:
    """Returns accuracy, F1 and AUROC, and each label's accuracy for multi-label."""
    task = predictor.task
    result: dict[str, Any] = dict(task.metrics(test.logits, test.target))
    if task.multilabel:
        correct = (task.predict(test.logits) == test.target.bool()).float().mean(0)
        result["accuracy_per_label"] = dict(zip(task.classes, correct.tolist(), strict=True))
    return result


def expert_figures(predictor: Predictor, test: TestSplit) -> dict[str, Any]:
    """Returns each expert's mean router weight and mean contribution (design 3.8), with their sd.

    Router weights alone are not identifiable, so the share of |weight x score| stands beside: the
    mean over a sample's targets, then over samples. For multi-label also `share_per_label`, over
    the samples with that target; None where there are none.
    """
    task = predictor.task
    shares = torch.stack([of_sample.mean(0) for of_sample in test.shares])  # (N, E)
    rows = torch.cat(test.shares)  # (all targets, E)
    target_of = torch.tensor([c for of_sample in test.targets for c in of_sample])
    figures: dict[str, Any] = {}
    for e, name in enumerate(predictor.model.experts):
        figures[name] = {
            "weight": float(test.weights[:, e].mean()),
            "weight_sd": float(test.weights[:, e].std(correction=0)),
            "share": float(shares[:, e].mean()),
            "share_sd": float(shares[:, e].std(correction=0)),
        }
        if task.multilabel:
            of_labels = {label: rows[target_of == c, e] for c, label in enumerate(task.classes)}
            figures[name]["share_per_label"] = {
                label: float(values.mean()) if len(values) else None
                for label, values in of_labels.items()
            }
    return figures

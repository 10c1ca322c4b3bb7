"""Task metrics, and what each expert has to do with the output."""

from __future__ import annotations

from typing import Any

import torch

from fli2moe.evaluation.split import TestSplit
from fli2moe.predictor import Predictor


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
    mean over a sample's targets, then over samples. `weight_per_label` is the mean weight over the
    samples with that target, None where there are none. `share_per_label`, for
    multi-label only, is that of the share.
    """
    task = predictor.task
    shares = torch.stack([of_sample.mean(0) for of_sample in test.shares])  # (N, E)
    rows = torch.cat(test.shares)  # (all targets, E)
    target_of = torch.tensor([c for of_sample in test.targets for c in of_sample])
    counts = torch.tensor([len(of_sample) for of_sample in test.targets])
    weights = test.weights.repeat_interleave(counts, dim=0)  # (all targets, E)
    figures: dict[str, Any] = {}
    for e, name in enumerate(predictor.model.experts):
        figures[name] = {
            "weight": float(test.weights[:, e].mean()),
            "weight_sd": float(test.weights[:, e].std(correction=0)),
            "share": float(shares[:, e].mean()),
            "share_sd": float(shares[:, e].std(correction=0)),
            "weight_per_label": {
                label: float(weights[target_of == c, e].mean()) if (target_of == c).any() else None
                for c, label in enumerate(task.classes)
            },
        }
        if task.multilabel:
            of_labels = {label: rows[target_of == c, e] for c, label in enumerate(task.classes)}
            figures[name]["share_per_label"] = {
                label: float(values.mean()) if len(values) else None
                for label, values in of_labels.items()
            }
    return figures

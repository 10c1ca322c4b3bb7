"""A linear probe on the mean-pooled frozen features: what the encoders alone give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.data.sample import Dataset
from fli2moe.evaluation.split import TestSplit
from fli2moe.features import Progress, encode_samples
from fli2moe.predictor import Predictor

STRENGTHS = (0.01, 0.1, 1.0)
NEVER = -1e4
"""Logit of a class that training never saw."""


def linear_probe(
    predictor: Predictor,
    dataset: Dataset,
    cache: Path,
    test: TestSplit,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Returns task metrics of logistic regressions on each modality and on all concatenated.

    Features are standardised; the inverse regularisation C is chosen among `STRENGTHS` by the
    validation split (the first without one).

    Args:
        predictor: whose encoders and task are used.
        dataset: with a train split.
        cache: folder of the feature cache.
        test: the test samples with their features.
        progress: called after each view with (`linear probe`, views done, views).
    """
    task = predictor.task
    splits = {s: samples for s in ("train", "val") if (samples := dataset.split(s))}
    pooled = {
        s: encode_samples(samples, predictor.encoders, cache, progress).pooled()
        for s, samples in splits.items()
    }
    pooled["test"] = test.features.pooled()
    labels = {s: task.encode([x.labels for x in samples]) for s, samples in splits.items()}
    modalities = predictor.model.modalities
    views = {m: (m,) for m in modalities} | {" + ".join(modalities): modalities}
    result = {}
    for name, parts in views.items():
        x = {s: np.concatenate([p[m] for m in parts], axis=1) for s, p in pooled.items()}
        fits = {c: _scores(x, labels["train"], c, predictor) for c in STRENGTHS}
        best = STRENGTHS[0]
        if "val" in x:
            score = {
                c: task.metrics(f["val"], labels["val"])["accuracy"] or 0.0 for c, f in fits.items()
            }
            best = max(score, key=score.__getitem__)
        result[name] = {**task.metrics(fits[best]["test"], test.target), "C": best}
        if progress:
            progress("linear probe", len(result), len(views))
    return result


def _scores(
    x: dict[str, NDArray[Any]], target: Tensor, strength: float, predictor: Predictor
) -> dict[str, Tensor]:
    """Fits on `train` and returns {split: logits (N, C)} of the other splits."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    size = len(predictor.task.classes)
    others = [s for s in x if s != "train"]
    scores = {s: torch.full((len(x[s]), size), NEVER) for s in others}
    if not predictor.task.multilabel:
        present = sorted(set(target.tolist()))  # classes absent from training keep NEVER
        if len(present) == 1:
            for s in others:
                scores[s][:, present] = -NEVER
            return scores
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        model.fit(x["train"], target.numpy())
        for s in others:
            values = torch.from_numpy(model.predict_log_proba(x[s])).float()
            scores[s][:, present] = values.clamp_min(NEVER)
        return scores
    for c in range(size):
        column = target[:, c].numpy()
        if column.min() == column.max():
            for s in others:
                scores[s][:, c] = -NEVER if column[0] else NEVER
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        model.fit(x["train"], column)
        for s in others:
            scores[s][:, c] = torch.from_numpy(model.decision_function(x[s])).float()
    return scores

"""A linear probe on the mean-pooled frozen features: what the encoders alone give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.data.sample import Dataset
from fli2moe.features import encode_samples
from fli2moe.predictor import Predictor

STRENGTHS = (0.01, 0.1, 1.0)


def linear_probe(
    predictor: Predictor, dataset: Dataset, cache: Path, target: Tensor
) -> dict[str, Any]:
    """Returns task metrics of logistic regressions on each modality and on all concatenated.

    Features are standardised; the inverse regularisation C is chosen among `STRENGTHS` by the
    validation split (the first without one).

    Args:
        predictor: whose encoders and task are used.
        dataset: with train and test splits.
        cache: folder of the feature cache.
        target: test labels as `Task.encode` returns them.
    """
    task = predictor.task
    splits = {s: dataset.split(s) for s in ("train", "val", "test")}
    pooled = {
        s: encode_samples(samples, predictor.encoders, cache).pooled()
        for s, samples in splits.items()
        if samples
    }
    labels = {s: task.encode([x.labels for x in samples]) for s, samples in splits.items()}
    labels["test"] = target
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
        result[name] = {**task.metrics(fits[best]["test"], target), "C": best}
    return result


def _scores(
    x: dict[str, NDArray[Any]], target: Tensor, strength: float, predictor: Predictor
) -> dict[str, Tensor]:
    """Fits on `train` and returns {split: logits (N, C)} of the other splits."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes = len(predictor.task.classes)
    others = [s for s in x if s != "train"]
    scores = {s: torch.full((len(x[s]), classes), -1e4) for s in others}
    if not predictor.task.multilabel:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        model.fit(x["train"], target.numpy())
        columns = torch.from_numpy(model.classes_)  # classes absent from training keep -1e4
        for s in others:
            values = model.predict_log_proba(x[s])
            scores[s][:, columns] = torch.from_numpy(values).float().clamp_min(-1e4)
        return scores
    for c in range(classes):
        column = target[:, c].numpy()
        if column.min() == column.max():
            for s in others:
                scores[s][:, c] = 1e4 if column[0] else -1e4
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        model.fit(x["train"], column)
        for s in others:
            scores[s][:, c] = torch.from_numpy(model.decision_function(x[s])).float()
    return scores

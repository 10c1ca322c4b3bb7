"""Means with standard errors over samples; nothing measured is None, never 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_and_error(values: Sequence[float]) -> dict[str, float | int | None]:
    """Returns {mean, standard_error, n} of the finite values; None where not defined."""
    kept = np.array([v for v in values if np.isfinite(v)], dtype=np.float64)
    if not len(kept):
        return {"mean": None, "standard_error": None, "n": 0}
    error = float(kept.std(ddof=1) / np.sqrt(len(kept))) if len(kept) > 1 else None
    return {"mean": float(kept.mean()), "standard_error": error, "n": len(kept)}


def mean_of(values: Sequence[float]) -> float:
    """Returns the mean of the finite values; NaN where there are none."""
    kept = [v for v in values if np.isfinite(v)]
    return float(np.mean(kept)) if kept else np.nan

"""Means with standard errors over samples; nothing measured is None, never 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mean_and_error(values: Sequence[float]) -> dict[str, float | int | None]:
    """Returns {mean, standard_error, n} of the finite values; None where not defined."""
    kept = _finite(values)
    if not len(kept):
        return {"mean": None, "standard_error": None, "n": 0}
    error = float(kept.std(ddof=1) / np.sqrt(len(kept))) if len(kept) > 1 else None
    return {"mean": float(kept.mean()), "standard_error": error, "n": len(kept)}


def mean_of(values: Sequence[float]) -> float:
    """Returns the mean of the finite values; NaN where there are none."""
    kept = _finite(values)
    return float(kept.mean()) if len(kept) else np.nan


RESAMPLES = 2000  # of a bootstrap
MOST_EXACT = 50  # differences of an exact test


def wilcoxon(differences: Sequence[float], alternative: str = "greater") -> float | None:
    """Returns the p value of Wilcoxon's signed-rank test; None below two finite values.

    Differences of zero are ranked and count half on either side; where all are zero p is 1: nothing
    speaks against the null hypothesis. Exact up to 50 differences, ties and zeros or not; beyond,
    scipy's normal approximation.

    Args:
        differences: of pairs, one per sample.
        alternative: `greater` (than zero), `less` or `two-sided`.
    """
    from scipy.stats import wilcoxon as signed_rank

    kept = _finite(differences)
    if len(kept) < 2:
        return None
    if not kept.any():
        return 1.0
    if len(kept) <= MOST_EXACT:
        return _exact_signed_rank(kept, alternative)
    found = signed_rank(kept, zero_method="zsplit", alternative=alternative, method="asymptotic")
    return float(found.pvalue)


def _exact_signed_rank(kept: NDArray[np.float64], alternative: str) -> float:
    """The p value over all signs of the ranks; scipy's exact one is for distinct differences."""
    from scipy.stats import rankdata

    doubled = np.rint(2 * rankdata(np.abs(kept))).astype(np.int64)  # whole numbers, ties too
    ways = np.ones(1)  # of each sum of positive ranks; zeros add the same to every sum
    for rank in doubled[kept != 0].tolist():
        without = np.concatenate([ways, np.zeros(rank)])
        without[rank:] += ways
        ways = without
    seen = int(doubled[kept > 0].sum())
    above, below = ways[seen:].sum() / ways.sum(), ways[: seen + 1].sum() / ways.sum()
    both = min(1.0, 2 * min(above, below))
    return float({"greater": above, "less": below, "two-sided": both}[alternative])


def bootstrap_interval(
    values: Sequence[float], seed: int = 0, level: float = 0.95
) -> tuple[float, float] | None:
    """Returns the percentile interval of the mean over samples; None below two finite values."""
    kept = _finite(values)
    if len(kept) < 2:
        return None
    generator = np.random.default_rng(seed)
    means = kept[generator.integers(len(kept), size=(RESAMPLES, len(kept)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p values adjusted for being several (Holm 1979); what was not tested stays None."""
    tested = [i for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(tested, key=lambda i: p_values[i] or 0.0)):
        largest = max(largest, min(1.0, (len(tested) - rank) * (p_values[i] or 0.0)))
        adjusted[i] = largest
    return adjusted


def effect_size(differences: Sequence[float]) -> float | None:
    """Returns Cohen's d_z, mean over standard deviation; None where that is not defined."""
    kept = _finite(differences)
    if len(kept) < 2 or not (spread := float(kept.std(ddof=1))):
        return None
    return float(kept.mean()) / spread


def rank_biserial(differences: Sequence[float]) -> float | None:
    """Returns the matched-pairs rank-biserial correlation; None without finite values.

    The sum of the ranks of positive differences minus that of negative ones, over all ranks, -1 to
    1 (Kerby 2014). Differences of zero are ranked and count for neither, as in `wilcoxon`.
    """
    from scipy.stats import rankdata

    kept = _finite(differences)
    if not len(kept):
        return None
    ranks = rankdata(np.abs(kept))
    return float((np.sign(kept) * ranks).sum() / ranks.sum())


def share_above(differences: Sequence[float]) -> float | None:
    """Returns the share of finite differences above zero; None without any."""
    kept = _finite(differences)
    return float((kept > 0).mean()) if len(kept) else None


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(list(values), dtype=np.float64)
    kept: NDArray[np.float64] = array[np.isfinite(array)]
    return kept

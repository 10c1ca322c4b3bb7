"""Is importance held by few tokens, and do two experts find the same ones?

Design 3.5 names the measures; what they do with signs, ties and nothing at all is ours:

- Concentration is of magnitudes |x|: a token that speaks against the target is important too.
  Methods that give no negative values are not affected.
- The top is that of the raw values, as in masking: what speaks for the target. Where importances
  tie at its edge, the tied tokens share its last places equally: a method that gives many tokens 0
  would else find the same first tokens for every expert.
- Without importance (all zero), or with a single token, there is nothing to concentrate; importance
  that is equal everywhere ranks nothing. Then the value is NaN.
"""

from __future__ import annotations

from math import ceil, comb
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from fli2moe.errors import InputError

TOP_PERCENT = 10.0


def gini(importance: NDArray[np.float64]) -> float:
    """Returns the Gini coefficient of the magnitudes of (T,) importances.

    Half the mean absolute difference over the mean: 0 where all are equal, (T - 1) / T where one
    token holds everything.

    Raises:
        InputError: for importances of another shape or not finite, as all functions here.
    """
    x = np.sort(_magnitudes(importance))
    if not len(x):
        return np.nan
    order = 2 * np.arange(1, len(x) + 1) - len(x) - 1
    return float(order @ x / (len(x) * x.sum()))


def normalised_entropy(importance: NDArray[np.float64]) -> float:
    """Returns the entropy of the magnitudes' shares over ln T: 1 where all are equal, 0 for one."""
    x = _magnitudes(importance)
    if not len(x):
        return np.nan
    shares = x[x > 0] / x.sum()
    return float(-(shares @ np.log(shares)) / np.log(len(x)))


def top_share(importance: NDArray[np.float64], percent: float = TOP_PERCENT) -> float:
    """Returns the share of the sum of magnitudes that the largest `percent` of them hold."""
    x = np.sort(_magnitudes(importance))
    if not len(x):
        return np.nan
    return float(x[-top_count(len(x), percent) :].sum() / x.sum())


def top_overlap(
    first: NDArray[np.float64], second: NDArray[np.float64], percent: float = TOP_PERCENT
) -> float:
    """Returns the Jaccard overlap |A & B| / |A | B| of two importances' top tokens.

    With ties at an edge, |A & B| is its mean over all ways to break them, each by itself: the sum
    over tokens of the product of both places' shares.
    """
    one, other = _two(first, second)
    if not (_ranks(one) and _ranks(other)):
        return np.nan
    k = top_count(len(one), percent)
    both = float(_places(one, k) @ _places(other, k))
    return both / (2 * k - both)


def chance_overlap(tokens: int, percent: float = TOP_PERCENT) -> float:
    """Returns the expected Jaccard overlap of two independent random choices of the top's size.

    Exact: the size of the intersection is hypergeometric.
    """
    k = top_count(tokens, percent)
    return sum(
        comb(k, both) * comb(tokens - k, k - both) * both / (2 * k - both) for both in range(k + 1)
    ) / comb(tokens, k)


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Returns Spearman's correlation of two importances (T,); ties have their mean rank."""
    one, other = _two(first, second)
    if not (_ranks(one) and _ranks(other)):
        return np.nan
    ranks = np.stack([rankdata(one), rankdata(other)])
    return float(np.corrcoef(ranks)[0, 1])


def top_count(tokens: int, percent: float = TOP_PERCENT) -> int:
    """Returns max(1, ceil(`percent` of the tokens)), as in masking.

    Raises:
        InputError: without tokens, or for a percentage that is not above 0 and at most 100.
    """
    if tokens < 1:
        raise InputError("top tokens", f"{tokens} tokens", "at least one")
    if not 0 < percent <= 100:
        raise InputError("top tokens", f"{percent}%", "above 0 and at most 100")
    return max(1, ceil(percent * tokens / 100))


def _places(x: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """(T,) how much of a place among the k largest each token has; they sum to k."""
    edge = np.sort(x)[-k]
    above, tied = x > edge, x == edge
    places: NDArray[np.float64] = above + tied * (k - above.sum()) / tied.sum()
    return places


def _magnitudes(importance: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) |x| over the largest; empty where there is nothing to concentrate."""
    x = np.abs(_finite(importance))
    if len(x) < 2 or not x.any():
        return np.empty(0)
    scaled: NDArray[np.float64] = x / x.max()  # gradients may be so small that a sum would be 0
    return scaled


def _ranks(x: NDArray[np.float64]) -> bool:
    return len(x) > 1 and bool(x.min() < x.max())


def _two(first: Any, second: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one, other = _finite(first), _finite(second)
    if one.shape != other.shape:
        raise InputError("importance", f"{len(one)} and {len(other)} tokens", "the same tokens")
    return one, other


def _finite(importance: Any) -> NDArray[np.float64]:
    x = np.asarray(importance, dtype=np.float64)
    if x.ndim != 1:
        raise InputError("importance", f"shape {x.shape}", "one value per token, (T,)")
    if not np.isfinite(x).all():
        raise InputError("importance", "NaN or infinite values", "finite values")
    return x

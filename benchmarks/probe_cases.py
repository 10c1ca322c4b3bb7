"""What a probe is measured on, what it answered, and how far that is from the truth."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

Values = NDArray[np.float64]
Evaluate = Callable[[Tensor], Tensor]
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Case:
    """One game and what is known of its cross-modal pairs, in the order of the game's own.

    Attributes:
        sizes: {modality: players}, two modalities.
        function: makes the game's function, bool (N, P) -> (N,), with nothing kept from before.
        truth: (m,) the exact or, by a long run, the reference value of every pair.
        k: how many pairs of largest |truth| are to be found.
        index: `SII` or `redundancy_gap`.
        variance: (m,) squared standard error of `truth`; None where it is exact.
        about: JSON values that tell which case it is.
    """

    sizes: Mapping[str, int]
    function: Callable[[], Evaluate]
    truth: Values
    k: int
    index: str = "SII"
    variance: Values | None = None
    about: Mapping[str, Any] | None = None

    @property
    def n_players(self) -> int:
        """Players of both modalities."""
        return sum(self.sizes.values())


@dataclass(frozen=True)
class Estimate:
    """What one run of a method answered.

    Attributes:
        value: (m,) of every cross-modal pair; NaN where the method has no answer.
        error: (m,) standard errors, where the method has them.
        audited: (m,) whether a pair was measured again, where the method says so.
        evaluations: rows that the game's function was asked for.
        own_seconds: CPU seconds, those inside the game's function not counted.
    """

    value: Values
    error: Values | None
    audited: NDArray[np.bool_] | None
    evaluations: int
    own_seconds: float


def figures(case: Case, found: Estimate) -> dict[str, Any]:
    """Returns the figures of one run; None where one has no meaning.

    precision: share of the k pairs of largest |truth| among the k pairs of largest |value|; a pair
        whose value is 0 is not found, whatever its place.
    nmse: squared error over squared truth, over all cross-modal pairs; a pair without an answer
        counts as 0. Against a reference with noise, the noise that it adds to both sums is taken
        off (`nmse_raw` is without that, `reference_noise` is the share of it).
    rank: Spearman's correlation of value and truth (signed), over all cross-modal pairs.
    coverage, coverage_audited: share of pairs with |value - truth| <= 1.96 standard errors, over
        all pairs and over the audited ones; the reference's variance is added where it has one.
    missed: share of the k true pairs that were not audited, where the method audits.
    """
    value = np.nan_to_num(found.value, nan=0.0)
    noise = np.zeros_like(case.truth) if case.variance is None else case.variance
    squares, errors = (case.truth**2).sum(), ((value - case.truth) ** 2).sum()
    ordered = np.argsort(-np.abs(case.truth), kind="stable")[: case.k]
    wanted = np.zeros(len(value), dtype=np.bool_)
    wanted[ordered] = True
    best = np.argsort(-np.abs(value), kind="stable")[: case.k]
    row: dict[str, Any] = {
        "k": case.k,
        "evaluations": found.evaluations,
        "own_seconds": found.own_seconds,
        "precision": float((wanted[best] & (value[best] != 0)).mean()),
        "nmse": float((errors - noise.sum()) / max(squares - noise.sum(), 1e-300)),
        "nmse_raw": float(errors / squares),
        "reference_noise": float(noise.sum() / squares),
        "rank": _rank(value, case.truth),
        "coverage": None,
        "coverage_audited": None,
        "missed": None,
        "audited": None,
    }
    if found.error is not None:
        limit = NORMAL_95 * np.sqrt(np.nan_to_num(found.error, nan=np.inf) ** 2 + noise)
        inside = np.abs(found.value - case.truth) <= limit
        row["coverage"] = float(inside.mean())
        if found.audited is not None and found.audited.any():
            row["coverage_audited"] = float(inside[found.audited].mean())
    if found.audited is not None and found.audited.any():
        row["audited"] = int(found.audited.sum())
        row["missed"] = float((wanted & ~found.audited).sum() / case.k)
    return row


def _rank(value: Values, truth: Values) -> float | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant input: no rank
        rank = float(spearmanr(value, truth).statistic)
    return None if np.isnan(rank) else rank

"""Racing: which of the audited pairs are surely among the best k, and which surely are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from fli2moe.errors import InputError
from fli2moe.explain.probes.terms import Values
from fli2moe.explain.probes.uncertainty import observed_range, standard_error


@dataclass(frozen=True)
class Race:
    """A question that measuring may stop at: are the best `top` pairs of a head separated?

    Attributes:
        top: k.
        confidence: that all separations hold together (Bonferroni over pairs and rounds).
        term: what is ranked, `interaction` or `gap`.
        head: whose, as a column.
    """

    top: int
    confidence: float = 0.95
    term: str = "interaction"
    head: int = 0

    def __post_init__(self) -> None:
        if self.top < 1:
            raise InputError("top", f"{self.top}", "at least 1")
        if not 0.5 <= self.confidence < 1.0:
            raise InputError("confidence", f"{self.confidence}", "from .5 to below 1")


@dataclass(frozen=True, eq=False)
class Standing:
    """What the contexts so far say.

    Attributes:
        above: (m, m) whether the pair of the row is surely above that of the column.
        order: (m,) pairs by mean, largest first.
        settled: whether each of the best k is surely above each of the others.
        rank_from, rank_to: (m,) best and worst rank that the separations leave open, from 1.
    """

    above: NDArray[np.bool_]
    order: NDArray[np.int64]
    settled: bool
    rank_from: NDArray[np.int64]
    rank_to: NDArray[np.int64]

    def lost(self, top: int) -> NDArray[np.bool_]:
        """Returns (m,) which pairs are surely below k others: they need no more contexts."""
        below: NDArray[np.bool_] = self.above.sum(axis=0) >= top
        return below


def standing(terms: Values, race: Race, rounds: int, value_range: float) -> Standing:
    """Compares all pairs on the contexts they share.

    A pair is above another when the mean difference of their terms exceeds z standard errors of
    that difference (`uncertainty.standard_error`: independent units, with the range term), z of
    the one-sided level (1 - confidence) / (m (m - 1) r (r + 1)) in round r: over all ordered pairs
    and all rounds these sum to less than 1 - confidence.

    Args:
        terms: (n, m) of one head, contexts in antithetic units.
        race: the question.
        rounds: r, from 1.
        value_range: of the game: where terms never differed.
    """
    m = terms.shape[1]
    level = (1 - race.confidence) / (max(m * (m - 1), 1) * rounds * (rounds + 1))
    z = float(-ndtri(level))
    mean = terms.mean(axis=0)
    above = np.zeros((m, m), dtype=np.bool_)
    for p in range(m):
        gap = terms[:, [p]] - terms  # (n, m)
        error = standard_error(gap, 2, observed_range(gap), np.full(m, value_range))
        with np.errstate(invalid="ignore"):
            above[p] = np.where(np.isnan(error), False, mean[p] - mean > z * error)
        above[p, p] = False
    order = np.argsort(-mean, kind="stable")
    best, rest = order[: race.top], order[race.top :]
    settled = bool(above[np.ix_(best, rest)].all())
    return Standing(above, order, settled, 1 + above.sum(axis=0), m - above.sum(axis=1))

"""What four values of a game say about a pair in one context: interaction and redundancy.

For a pair (i, j) and a context S without them (design 3.6):
a = v(S+i) - v(S), b = v(S+j) - v(S), c = v(S+i+j) - v(S).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Corners:
    """The four values of every pair in every context; the arrays share one shape, (n, m, H) mostly.

    Attributes:
        neither: v(S).
        first: v(S+i).
        second: v(S+j).
        both: v(S+i+j).
    """

    neither: Values
    first: Values
    second: Values
    both: Values

    @property
    def interaction(self) -> Values:
        """Delta = c - a - b (Grabisch and Roubens 1999)."""
        return self.both - self.first - self.second + self.neither

    @property
    def spread(self) -> Values:
        """Largest minus smallest of the four values."""
        values = np.stack((self.neither, self.first, self.second, self.both))
        spread: Values = np.ptp(values, axis=0)
        return spread


@dataclass(frozen=True, eq=False)
class GapTerms:
    """The redundancy gap of every pair in every context, in the shape of its corners.

    Attributes:
        gap: RG_S.
        weaker: min(|a|, |b|), what the weaker of the two offers alone: RG_S is at most that.
        shared: 1{ab > 0} min(|a|, |b|); the overlap is the ratio of the means of RG_S and this.
        positive: RG_S where the pair speaks for the target (a > 0), else 0.
    """

    gap: Values
    weaker: Values
    shared: Values
    positive: Values

    @property
    def negative(self) -> Values:
        """RG_S where the pair speaks against the target, else 0."""
        return self.gap - self.positive


def gap_terms(corners: Corners) -> GapTerms:
    """Returns RG_S = 1{ab > 0} max(0, min(|a|, |b|) - |sigma c - max(|a|, |b|)|), sigma = sign(a).

    Our definition (design 3.6): the minimum redundancy of partial information decomposition minus
    absolute synergy, a net amount.
    """
    a = corners.first - corners.neither
    b = corners.second - corners.neither
    c = corners.both - corners.neither
    weaker = np.minimum(np.abs(a), np.abs(b))
    shared = np.where(np.sign(a) * np.sign(b) > 0, weaker, 0.0)
    unexplained = np.abs(np.sign(a) * c - np.maximum(np.abs(a), np.abs(b)))
    gap = np.maximum(0.0, shared - unexplained)
    return GapTerms(gap, weaker, shared, np.where(a > 0, gap, 0.0))


def overlap(gap: Values, shared: Values) -> Values:
    """Returns rho = RG / E[1{ab > 0} min(|a|, |b|)], NaN where the pair shares nothing at all."""
    rho = np.full_like(gap, np.nan)
    np.divide(gap, shared, out=rho, where=shared > 0)
    return rho

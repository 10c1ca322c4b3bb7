"""Terms of pairs in the contexts they were measured in, and their means with errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.shrink import shrink
from fli2moe.explain.probes.terms import Corners, Values, gap_terms, overlap
from fli2moe.explain.probes.uncertainty import observed_range, standard_error

TERMS = ("interaction", "gap", "shared", "positive", "weaker")


@dataclass(frozen=True, eq=False)
class Known:
    """A surrogate as a game of its own, and the means of its terms under the contexts' law.

    Attributes:
        game: whose evaluations cost nothing; heads as in the game that it stands for.
        means: {name of a term: (m, H)}, one row for each pair of the shortlist.
        inflation: {name of a term: (H,)} how many times larger than screened the errors of the
            surrogate turned out to be; empty where nothing was weighed against one.
        errors: {name: (m, H)} standard error of each mean; NaN where the surrogate never varied.
        doubts: {name: (m, H)} how far the surrogate may err, as screened; where given, what is
            measured is weighed against it (`shrink.shrink`).
        low, high: (H,) smallest and largest value of the game that it stands for, as far as seen.
    """

    game: TokenGame
    means: Mapping[str, Values]
    errors: Mapping[str, Values]
    doubts: Mapping[str, Values]
    low: Values
    high: Values


@dataclass(frozen=True, eq=False)
class Draw:
    """Some of the pairs in one block of contexts.

    Attributes:
        rows: (m',) which pairs of the shortlist.
        terms: {name: (n, m', H)}.
        known: the same of the surrogate; empty without one.
    """

    rows: NDArray[np.int64]
    terms: Mapping[str, Values]
    known: Mapping[str, Values]

    def of(self, rows: NDArray[np.int64], name: str, surrogate: bool = False) -> Values:
        """Returns (n, len(rows), H) the terms of some of the rows that are here."""
        source = self.known if surrogate else self.terms
        return source[name][:, np.searchsorted(self.rows, rows)]


@dataclass(frozen=True, eq=False)
class Measured:
    """Means of the terms of a shortlist, the surrogate taken out as control variate.

    Attributes:
        n_contexts: (m,) contexts that each pair was measured in.
        values: {name of a term: (m, H)} its mean.
        errors: {name: (m, H)} standard error of each mean.
    """

    GAPS: ClassVar[tuple[str, ...]] = (
        *("value", "standard_error", "positive", "positive_error"),
        *("negative", "negative_error", "overlap", "overlap_error"),
    )
    n_contexts: NDArray[np.int64]
    values: Mapping[str, Values]
    errors: Mapping[str, Values]
    inflation: Mapping[str, Values]

    def interactions(self) -> dict[str, Values]:
        """Returns {value, standard_error}: (m, H) of the SII."""
        return {
            "value": self.values["interaction"],
            "standard_error": self.errors["interaction"],
        }

    def gaps(self) -> dict[str, Values]:
        """Returns (m, H) columns of the redundancy gap: RG+, RG-, overlap, an error of each."""
        value = np.maximum(self.values["gap"], 0.0)
        positive = np.minimum(np.maximum(self.values["positive"], 0.0), value)
        error, positive_error = self.errors["gap"], self.errors["positive"]
        shared = np.maximum(self.values["shared"], 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            overlap_error = np.where(shared > 0, error / shared, np.nan)
        parts = (positive, positive_error, value - positive, np.hypot(error, positive_error))
        rho = np.minimum(overlap(value, shared), 1.0)
        return dict(zip(self.GAPS, (value, error, *parts, rho, overlap_error), strict=True))


def terms_of(corners: Corners) -> dict[str, Values]:
    """Returns {name: (n, m, H)} of all `TERMS`."""
    gap = gap_terms(corners)
    parts = (corners.interaction, gap.gap, gap.shared, gap.positive, gap.weaker)
    return dict(zip(TERMS, parts, strict=True))


def average(
    draws: Sequence[Draw], n_pairs: int, known: Known | None, value_range: Values
) -> Measured:
    """Returns the means over all contexts of E[t] = E[t - beta t_s] + beta E[t_s].

    beta, within [0, 1], is the regression slope of the game's terms on the surrogate's, pooled over
    pairs and contexts (control variates: Lavenberg and Welch 1981; the pooling is ours). The error
    is that of the mean difference, whose range is the pair's own or, where nothing varied, the
    widest of the shortlist, the pair's largest |t|, that of the shortlist, or the game's. What is
    redundant in a few contexts only is seldom seen: for the gap and its parts, all at most
    w = min(|a|, |b|), the range is at least the largest |w - beta w_s|.

    Args:
        draws: each pair in at least one.
        n_pairs: of the shortlist.
        known: the surrogate; None without one.
        value_range: (H,) of the game.
    """
    counts = np.zeros(n_pairs, dtype=np.int64)
    for draw in draws:
        counts[draw.rows] += len(draw.terms["gap"])
    weaker = [_all_of(draws, row, "weaker") for row in range(n_pairs)]
    values, errors, inflation = {}, {}, {}
    for name in TERMS:
        own = [_all_of(draws, row, name) for row in range(n_pairs)]
        sizes = np.stack([np.abs(t).max(axis=0) for t in own])  # (m, H)
        least = [np.zeros_like(w) if name == "interaction" else w for w in weaker]
        shift = np.zeros((n_pairs, len(value_range)))
        sure = np.zeros_like(shift)
        if known is not None:
            other = [_all_of(draws, row, name, surrogate=True) for row in range(n_pairs)]
            beta = _slope(own, other)
            own = [t - beta * s for t, s in zip(own, other, strict=True)]
            if name != "interaction":
                other = [_all_of(draws, row, "weaker", surrogate=True) for row in range(n_pairs)]
                least = [w - beta * s for w, s in zip(least, other, strict=True)]
            shift = beta * known.means[name]
            sure = np.where(beta > 0, beta * known.errors[name], 0.0)
        ranges = np.stack([observed_range(t - t.mean(axis=0)) for t in own])
        ranges = np.maximum(ranges, np.stack([np.abs(w).max(axis=0) for w in least]))
        widest = ranges.max(axis=0)
        values[name] = np.stack([t.mean(axis=0) for t in own]) + shift
        errors[name] = np.stack(
            [
                standard_error(t, 2, span, widest, size, sizes.max(axis=0), value_range)
                for t, span, size in zip(own, ranges, sizes, strict=True)
            ]
        )
        errors[name] = np.hypot(errors[name], sure)
        if known is not None and name in known.doubts:
            noise = np.hypot(np.stack([_noise(t) for t in own]), sure)
            values[name], errors[name], inflation[name] = shrink(
                values[name], errors[name], noise, known.means[name], known.doubts[name]
            )
    return Measured(counts, values, errors, inflation)


def _noise(terms: Values) -> Values:
    """(H,) standard deviation of the mean, from antithetic units alone; 0 for a single one."""
    units = terms.reshape(-1, 2, terms.shape[-1]).mean(axis=1)
    if len(units) < 2:
        return np.zeros(terms.shape[-1])
    deviation: Values = np.sqrt(units.var(axis=0, ddof=1) / len(units))
    return deviation


def _all_of(draws: Sequence[Draw], row: int, name: str, surrogate: bool = False) -> Values:
    rows = np.array([row])
    here = [d.of(rows, name, surrogate)[:, 0] for d in draws if row in d.rows]
    return np.concatenate(here)


def _slope(own: Sequence[Values], other: Sequence[Values]) -> Values:
    """(H,) the pooled slope, within [0, 1]; 0 where the surrogate never varies."""
    above = np.sum(
        [((t - t.mean(0)) * (s - s.mean(0))).sum(0) for t, s in zip(own, other, strict=True)], 0
    )
    below = np.sum([((s - s.mean(0)) ** 2).sum(0) for s in other], axis=0)
    slope = np.divide(above, below, out=np.zeros_like(below), where=below > 0)
    clipped: Values = np.clip(slope, 0.0, 1.0)
    return clipped

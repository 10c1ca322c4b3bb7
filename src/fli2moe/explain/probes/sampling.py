"""From sampled contexts to tables of pair scores, within a budget; shared by the samplers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import InputError
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.pairs import asked_heads, pair_scores
from fli2moe.explain.probes.terms import Corners, Values, gap_terms, overlap
from fli2moe.explain.probes.uncertainty import observed_range, standard_error
from fli2moe.explain.scores import Interactions, PairScores

ROWS_AT_ONCE = 16_384  # coalitions built at a time: 4 MB for 260 players
EXTRAS = 4  # the values of nobody and of everybody, and a check of one coalition


@dataclass(frozen=True, eq=False)
class Request:
    """What a caller asked of a probe, checked.

    Attributes:
        method: name of the estimator.
        reason: why that one.
        pairs: (m, 2) player indices.
        listed: whether the caller listed them one by one.
        law: of the contexts.
        budget: most new evaluations.
        seed: of the contexts.
        heads: those to score; None for all.
        readings: what a shortlist is drawn up for: {`sii` or `redundancy`: heads}.
        top, confidence: stop when the best `top` pairs of the first head are separated; None to
            spend the budget.
    """

    method: str
    reason: str
    pairs: NDArray[np.int64]
    law: str
    budget: int
    seed: int
    heads: tuple[str, ...] | None
    readings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    top: int | None = None
    confidence: float = 0.95
    listed: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """JSON values for the result."""
        return {
            "method": self.method,
            "reason": self.reason,
            "contexts": self.law,
            "budget": self.budget,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Sampler:
    """An estimator that measures pairs in sampled contexts.

    Attributes:
        cost: (pairs) -> evaluations of one context of all of them.
        measure: (game, pairs, law, n_contexts, generator) -> corners (n, m, H).
        per_unit: contexts in one independent unit: 2 for antithetic pairs.
    """

    cost: Callable[[NDArray[np.int64]], int]
    measure: Callable[[TokenGame, NDArray[np.int64], str, int, np.random.Generator], Corners]
    per_unit: int

    def interactions(self, game: TokenGame, request: Request) -> PairScores:
        """Returns the SII: the mean interaction over the contexts."""
        return _interactions(game, request, draw(self, game, request))

    def gaps(self, game: TokenGame, request: Request) -> PairScores:
        """Returns the redundancy gap, with RG+, RG-, overlap and an error of each."""
        return _gaps(game, request, draw(self, game, request))

    def both(self, game: TokenGame, request: Request) -> Interactions:
        """Returns both tables of one draw."""
        sample = draw(self, game, request)
        return Interactions(_interactions(game, request, sample), _gaps(game, request, sample))


@dataclass(frozen=True, eq=False)
class Sample:
    """Pairs measured in contexts.

    Attributes:
        corners: (n, m, H) values.
        per_unit: contexts in one independent unit.
        certain: whether these are all the contexts there are (`full`): no sampling error.
        value_range: (H,) largest minus smallest value seen, of every head.
        evaluations: new ones made.
    """

    corners: Corners
    per_unit: int
    certain: bool
    value_range: Values
    evaluations: int

    def error(self, terms: Values, *ranges: Values) -> Values:
        """Returns the standard error of the mean of terms (n, m, H)."""
        if self.certain:
            return np.zeros(terms.shape[1:])
        return standard_error(terms, self.per_unit, *ranges)


def draw(sampler: Sampler, game: TokenGame, request: Request) -> Sample:
    """Measures the pairs in as many contexts as the budget pays for.

    Every context is charged in full, whatever happens to be cached already, so that the numbers
    depend on budget and seed only. Four evaluations beside them go to the values of nobody and of
    everybody (the range of the game) and to a check that the game is deterministic, unless the
    budget pays for the contexts only.

    Raises:
        InputError: when the budget does not pay for one context.
    """
    cost = sampler.cost(request.pairs)
    n_contexts = 1 if request.law == "full" else affordable(sampler, request.pairs, request.budget)
    if request.budget < cost:
        found = f"{request.budget} evaluations"
        expected = f"at least {cost} for one context of {len(request.pairs)} pairs"
        remedy = "raise it, ask for fewer pairs, or group the players"
        raise InputError(f"budget of {request.method}", found, expected, remedy)
    before = game.evaluations + game.repeats
    generator = np.random.default_rng(request.seed)
    corners = sampler.measure(game, request.pairs, request.law, n_contexts, generator)
    values = np.stack([corners.neither, corners.first, corners.second, corners.both])
    low, high = values.min(axis=(0, 1, 2)), values.max(axis=(0, 1, 2))
    spare = request.budget - n_contexts * cost
    if spare >= 2:
        ends = game.heads(np.repeat([[False], [True]], game.n_players, axis=1))
        low, high = np.minimum(low, ends.min(axis=0)), np.maximum(high, ends.max(axis=0))
    if spare >= EXTRAS:
        game.check()
    return Sample(
        corners,
        sampler.per_unit if n_contexts > 1 else 1,
        request.law == "full",
        high - low,
        game.evaluations + game.repeats - before,
    )


def affordable(sampler: Sampler, pairs: NDArray[np.int64], budget: int) -> int:
    """Returns how many contexts of all pairs the budget pays for: whole units, or a single one.

    What `draw` wants beside them is kept back where a whole unit remains.
    """
    cost, unit = sampler.cost(pairs), sampler.per_unit
    n_contexts = (budget - EXTRAS) // cost
    if n_contexts < unit:
        n_contexts = budget // cost
    return n_contexts - n_contexts % unit if n_contexts >= unit else n_contexts


def _interactions(game: TokenGame, request: Request, sample: Sample) -> PairScores:
    delta = sample.corners.interaction
    spread = sample.corners.spread.max(axis=0)  # (m, H)
    ranges = observed_range(delta), spread, spread.max(axis=0), sample.value_range
    error = sample.error(delta, *ranges)
    columns = {"value": delta.mean(axis=0), "standard_error": error}
    return _table(game, request, sample, "SII", columns)


def _gaps(game: TokenGame, request: Request, sample: Sample) -> PairScores:
    terms = gap_terms(sample.corners)
    spread = sample.corners.spread.max(axis=(0, 1))  # (H,) of any pair
    ranges = terms.weaker.max(axis=0), spread, sample.value_range  # RG_S <= weaker
    columns = {"value": terms.gap.mean(axis=0)}
    columns["standard_error"] = sample.error(terms.gap, *ranges)
    for name, part in (("positive", terms.positive), ("negative", terms.negative)):
        columns[name] = part.mean(axis=0)
        columns[f"{name}_error"] = sample.error(part, *ranges)
    shared = terms.shared.mean(axis=0)
    rho = overlap(columns["value"], shared)
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN where nothing is shared
        residual = (terms.gap - rho * terms.shared) / shared  # the ratio, linearised
    columns["overlap"] = rho
    columns["overlap_error"] = sample.error(residual, np.ones_like(rho))
    return _table(game, request, sample, "redundancy_gap", columns)


def _table(
    game: TokenGame, request: Request, sample: Sample, index: str, columns: dict[str, Values]
) -> PairScores:
    heads = asked_heads(game, request.heads)
    settings = {**request.settings, "evaluations": sample.evaluations}
    n_contexts = len(sample.corners.neither)
    return pair_scores(game, request.pairs, heads, index, columns, n_contexts, settings)

"""Measuring a shortlist of pairs in fresh contexts, until the budget ends or a race is settled.

The best of thousands of screened values is partly luck. Measured again in contexts that had no
part in choosing it, a pair's value is unbiased; a surrogate takes out most of the noise
(`measured.average`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.laws import draw_contexts
from fli2moe.explain.probes.measured import Draw, Known, Measured, average, terms_of
from fli2moe.explain.probes.monte_carlo import corners_in, shared_cost
from fli2moe.explain.probes.race import Race, Standing, standing
from fli2moe.explain.probes.terms import Corners, Values

CONTEXTS = 6  # fewest contexts worth measuring: three antithetic units
ROUND = 6  # contexts of one round of a race
ENDS = 2  # the values of nobody and of everybody: the range of the game


@dataclass(frozen=True, eq=False)
class Audit:
    """What a shortlist turned out to be.

    Attributes:
        measured: means and errors of every pair.
        fit: (H,) share of the variance of the contexts' values that the surrogate explains, which
            is held out: they had no part in it; NaN without a surrogate.
        standing: of the pairs still in the race when it ended; None without a race.
        racing: (m',) their rows.
        rounds: of the race.
    """

    measured: Measured
    fit: Values
    standing: Standing | None
    racing: NDArray[np.int64]
    rounds: int

    def ranks(self, top: int) -> tuple[Values, Values]:
        """Returns (m,) the best and the worst rank, among the audited pairs, that is left open.

        A pair that left the race is below `top` others; more is not known of it. It may be above a
        pair that is still in the race, unless that one is surely among the best `top`.
        """
        m = len(self.measured.n_contexts)
        best, worst = np.full(m, float(top + 1)), np.full(m, float(m))
        if self.standing is None:
            return np.ones(m), worst
        best[self.racing] = self.standing.rank_from
        among = self.standing.rank_to
        worst[self.racing] = np.where(among > top, among + m - len(self.racing), among)
        return best, worst

    def verdict(self, top: int, confidence: float) -> dict[str, Any]:
        """Returns what the race came to, as JSON values."""
        settled = self.standing is not None and self.standing.settled
        return {"top": top, "confidence": confidence, "settled": settled, "rounds": self.rounds}


def audit(
    game: TokenGame,
    pairs: NDArray[np.int64],
    law: str,
    budget: int,
    generator: np.random.Generator,
    known: Known | None = None,
    race: Race | None = None,
) -> Audit:
    """Measures pairs in shared antithetic contexts.

    Args:
        game: all its heads are measured.
        pairs: (m, 2).
        law: of the contexts.
        budget: most evaluations; pays for two contexts of all pairs at least, and where it does for
            `CONTEXTS`, for the values of nobody and of everybody too, if it can.
        generator: of the contexts.
        known: a surrogate of the same heads.
        race: stops when settled, and stops measuring pairs that surely lost; None spends the
            budget on all pairs alike.
    """
    racing = np.arange(len(pairs))
    draws: list[Draw] = []
    values: list[tuple[Values, Values]] = []
    stand: Standing | None = None
    ends = np.empty((0, len(game.head_names)))
    if budget >= CONTEXTS * shared_cost(pairs) + ENDS:
        budget -= ENDS
        ends = game.heads(np.repeat([[False], [True]], game.n_players, axis=1))
    while True:
        cost = shared_cost(pairs[racing])
        count = budget // cost if race is None else min(ROUND, budget // cost)
        count -= count % 2
        if not count:
            break
        budget -= count * cost
        contexts = draw_contexts(law, count, game.n_players, generator)
        corners = corners_in(game, pairs[racing], contexts)
        guess = None if known is None else corners_in(known.game, pairs[racing], contexts)
        draws.append(Draw(racing, terms_of(corners), {} if guess is None else terms_of(guess)))
        values.append((_flat(corners), _flat(corners) if guess is None else _flat(guess)))
        if race is None:
            break
        span = _span([ends, *(v for v, _ in values)], known)
        stand = _stand(draws, racing, known, race, float(span[race.head]))
        if stand.settled:
            break
        going = ~stand.lost(race.top)
        if not going.all():
            racing = racing[going]
            stand = _stand(draws, racing, known, race, float(span[race.head]))
    seen = np.concatenate([v for v, _ in values])
    fit = np.full(seen.shape[1], np.nan)
    if known is not None:
        wrong = seen - np.concatenate([g for _, g in values])
        variance = seen.var(axis=0)
        np.divide(np.mean(wrong**2, axis=0), variance, out=fit, where=variance > 0)
        fit = 1 - fit
    measured = average(draws, len(pairs), known, _span([ends, seen], known))
    return Audit(measured, fit, stand, racing, len(draws))


def _stand(
    draws: list[Draw], rows: NDArray[np.int64], known: Known | None, race: Race, value_range: float
) -> Standing:
    """The standing of some pairs, from all contexts that they share."""
    terms = np.concatenate([d.of(rows, race.term)[:, :, race.head] for d in draws])
    if known is not None:
        guess = np.concatenate([d.of(rows, race.term, True)[:, :, race.head] for d in draws])
        terms = terms - guess + known.means[race.term][rows, race.head]
    return standing(terms, race, len(draws), value_range)


def _span(values: list[Values], known: Known | None) -> Values:
    """(H,) the range of the game: of the values seen here, and of those the surrogate rests on."""
    seen = np.concatenate(values)
    low, high = seen.min(axis=0), seen.max(axis=0)
    if known is not None:
        low, high = np.minimum(low, known.low), np.maximum(high, known.high)
    span: Values = high - low
    return span


def _flat(corners: Corners) -> Values:
    """(4 n m, H) all values."""
    values = np.stack([corners.neither, corners.first, corners.second, corners.both])
    return values.reshape(-1, values.shape[-1])

"""What a surrogate says of terms that are not linear in the game, measured on the surrogate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.laws import draw_contexts
from fli2moe.explain.probes.measured import Draw, Known, Measured, average, terms_of
from fli2moe.explain.probes.monte_carlo import corners_in
from fli2moe.explain.probes.sampling import Request
from fli2moe.explain.probes.surrogate import Surrogate, surrogate_game
from fli2moe.explain.probes.terms import Values
from fli2moe.explain.probes.threads import in_threads

GUESSED = 128  # pairs of a head whose gap is measured on the surrogate
GUESSED_IN = 32  # contexts of that
KNOWN_IN = 192  # contexts of the surrogate's own means of audited pairs


@dataclass(frozen=True, eq=False)
class Guess:
    """Redundancy gaps of the surrogates.

    Attributes:
        columns: {name: (m, H)} as `Measured.gaps`.
        scored: (m, H) whether the surrogate says anything of the pair.
    """

    columns: Mapping[str, Values]
    scored: NDArray[np.bool_]


def guess_gaps(
    game: TokenGame,
    surrogates: Sequence[Surrogate],
    request: Request,
    sii_errors: Values,
    generator: np.random.Generator,
) -> Guess:
    """Returns the redundancy gaps of the surrogates, each head's by itself.

    Of each head the `GUESSED` pairs with the largest `Surrogate.backup_scores` are measured on it.
    A pair whose score is zero has no gap there, as the two have no term in common. Other pairs are
    not scored. Standard errors add those of the SII: RG_S is at most |Delta_S|, and errs with it.

    Args:
        game: that the surrogates stand for.
        surrogates: H of them.
        request: its pairs (m, 2) and law.
        sii_errors: (m, H) of the screened SII.
        generator: of the contexts.
    """
    pairs, heads = request.pairs, len(surrogates)
    bound = np.stack([s.backup_scores()[pairs[:, 0], pairs[:, 1]] for s in surrogates], axis=1)
    best = np.argsort(-bound, axis=0, kind="stable")[:GUESSED]  # (G, H)
    scored = bound <= 0
    for h in range(heads):
        scored[best[:, h], h] = True
    columns = {name: np.zeros((len(pairs), heads)) for name in Measured.GAPS}
    for name in columns:
        if name.endswith("error"):
            columns[name] += sii_errors
    columns["overlap"][:] = columns["overlap_error"][:] = np.nan
    contexts = draw_contexts(request.law, GUESSED_IN, game.n_players, generator)
    rows = [best[bound[best[:, h], h] > 0, h] for h in range(heads)]

    def measured(h: int) -> dict[str, Values]:
        stand_in = surrogate_game(game, surrogates[h : h + 1])
        return _means(stand_in, pairs[rows[h]], contexts).gaps() if len(rows[h]) else {}

    for h, gaps in enumerate(in_threads(measured, range(heads))):
        for name, column in gaps.items():
            value = column[:, 0]
            if name.endswith("error") and name != "overlap_error":
                value = np.hypot(value, sii_errors[rows[h], h])
            columns[name][rows[h], h] = value
    return Guess(columns, scored)


def known_terms(
    game: TokenGame,
    surrogates: Sequence[Surrogate],
    pairs: NDArray[np.int64],
    law: str,
    doubt: Values,
    generator: np.random.Generator,
) -> Known:
    """Returns the means of the surrogates' terms: the SII exactly, the gap's parts measured.

    Args:
        game: of the surrogates.
        surrogates: H of them.
        pairs: (m, 2) the shortlist.
        law: of the contexts.
        doubt: (m, H) standard errors of the screened SII.
        generator: of the contexts.
    """
    contexts = draw_contexts(law, KNOWN_IN, game.n_players, generator)
    measured = _means(game, pairs, contexts)
    means, errors = dict(measured.values), dict(measured.errors)
    means["interaction"] = np.stack([s.expected(pairs, law) for s in surrogates], axis=1)
    errors["interaction"] = np.zeros_like(means["interaction"])
    low = np.array([s.design.low[s.head] for s in surrogates])
    high = np.array([s.design.high[s.head] for s in surrogates])
    doubts = {name: np.hypot(doubt, np.nan_to_num(error)) for name, error in errors.items()}
    return Known(game, means, errors, doubts, low, high)


def _means(game: TokenGame, pairs: NDArray[np.int64], contexts: NDArray[np.bool_]) -> Measured:
    corners = corners_in(game, pairs, contexts)
    draw = Draw(np.arange(len(pairs)), terms_of(corners), {})
    span = np.ptp(corners.neither, axis=(0, 1)) + corners.spread.max(axis=(0, 1))
    return average([draw], len(pairs), None, span)

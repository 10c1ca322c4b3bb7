"""Exact pair scores of small games, by evaluating every coalition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import InputError
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.laws import check_law, size_weights
from fli2moe.explain.probes.pairs import Pairs, asked_heads, asked_pairs, pair_scores
from fli2moe.explain.probes.sampling import Request
from fli2moe.explain.probes.terms import Corners, Values, gap_terms, overlap
from fli2moe.explain.scores import Interactions

MOST_PLAYERS = 16


def exact_interactions(
    game: TokenGame, pairs: Pairs | None = None, contexts: str = "shapley"
) -> Interactions:
    """Returns the exact SII and redundancy gap of every head; evaluates all 2^P coalitions.

    One more evaluation checks that the game is deterministic, where that is not yet known.

    Args:
        game: at most 16 players.
        pairs: player indices; None for all cross-modal pairs.
        contexts: law of the contexts, `shapley` (SII of Grabisch and Roubens 1999), `banzhaf` or
            `full`; the redundancy gap is our definition (design 3.6).

    Raises:
        InputError: more than 16 players, an unknown law, or pairs that cannot be.
    """
    check_law(contexts)
    wanted = asked_pairs(game, pairs)
    budget = 2**game.n_players + 1
    return measure_exact(game, Request("exact", "asked for", wanted, contexts, budget, 0, None))


def measure_exact(game: TokenGame, request: Request) -> Interactions:
    """As `exact_interactions`; checks for changing values where the budget has that to spare.

    Raises:
        InputError: more than 16 players.
    """
    before = game.evaluations + game.repeats
    table = value_table(game)
    if request.budget > len(table):
        game.check()
    spent = game.evaluations + game.repeats - before
    heads = asked_heads(game, request.heads)
    settings = {**request.settings, "evaluations": spent}
    weights = size_weights(request.law, game.n_players - 2)
    sii, gaps = _measure(table, request.pairs, weights, game.n_players)
    n_contexts = 1 if request.law == "full" else 2 ** (game.n_players - 2)
    return Interactions(
        pair_scores(game, request.pairs, heads, "SII", sii, n_contexts, settings),
        pair_scores(game, request.pairs, heads, "redundancy_gap", gaps, n_contexts, settings),
    )


def value_table(game: TokenGame) -> Values:
    """Returns (2^P, H) the value of every coalition; player p is present where bit p is set.

    Raises:
        InputError: more than 16 players.
    """
    if game.n_players > MOST_PLAYERS:
        found = f"{game.n_players} players, that is 2^{game.n_players} evaluations"
        remedy = "group the players, or use method='monte_carlo'"
        raise InputError("exact", found, f"at most {MOST_PLAYERS} players", remedy)
    codes = np.arange(2**game.n_players)
    return game.heads((codes[:, None] >> np.arange(game.n_players)) & 1 == 1)


def _measure(
    table: Values, pairs: NDArray[np.int64], weights: Values, n_players: int
) -> tuple[dict[str, Values], dict[str, Values]]:
    codes = np.arange(2**n_players)
    sizes = np.zeros_like(codes)
    for p in range(n_players):
        sizes += (codes >> p) & 1
    shape = (len(pairs), table.shape[1])
    sii, gap, shared, positive = (np.empty(shape) for _ in range(4))
    for row, (i, j) in enumerate(pairs):
        bit_i, bit_j = 1 << int(i), 1 << int(j)
        context = codes[(codes & (bit_i | bit_j)) == 0]
        weight = weights[sizes[context]]  # (2^(P-2),)
        corners = Corners(
            table[context],
            table[context | bit_i],
            table[context | bit_j],
            table[context | bit_i | bit_j],
        )
        terms = gap_terms(corners)
        sii[row] = weight @ corners.interaction
        gap[row], shared[row] = weight @ terms.gap, weight @ terms.shared
        positive[row] = weight @ terms.positive
    zero = np.zeros(shape)
    gaps = {"value": gap, "standard_error": zero, "positive": positive, "negative": gap - positive}
    return {"value": sii, "standard_error": zero}, {**gaps, "overlap": overlap(gap, shared)}

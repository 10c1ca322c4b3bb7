"""Contexts shared by many pairs: 1 + |players| + |pairs| evaluations a context, not 4 a pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.laws import draw_contexts
from fli2moe.explain.probes.sampling import ROWS_AT_ONCE, Sampler
from fli2moe.explain.probes.terms import Corners, Values


def shared_cost(pairs: NDArray[np.int64]) -> int:
    """Returns 1 + |I| + |J| + m, the evaluations of one context of m pairs over players I and J."""
    return 1 + len(np.unique(pairs)) + len(pairs)


def shared_corners(
    game: TokenGame,
    pairs: NDArray[np.int64],
    law: str,
    n_contexts: int,
    generator: np.random.Generator,
) -> Corners:
    """Measures all pairs in contexts that are drawn in antithetic pairs (design 3.7)."""
    return corners_in(game, pairs, draw_contexts(law, n_contexts, game.n_players, generator))


def corners_in(game: TokenGame, pairs: NDArray[np.int64], contexts: NDArray[np.bool_]) -> Corners:
    """Measures all pairs (m, 2) in each of the contexts (n, P).

    A draw S covers all players, so for a pair (i, j) the context is S without i and j, which has
    the right law because S's members are independent given q. Its four values are v(S) and those
    with i, with j and with both flipped; v(S) and the single flips are shared between pairs.
    """
    players, where = np.unique(pairs, return_inverse=True)
    where = where.reshape(pairs.shape)
    flips = np.zeros((1 + len(players) + len(pairs), game.n_players), dtype=np.bool_)
    flips[1 + np.arange(len(players)), players] = True
    rows = 1 + len(players) + np.arange(len(pairs))
    flips[rows[:, None], pairs] = True
    parts = []
    step = max(1, ROWS_AT_ONCE // len(flips))
    for start in range(0, len(contexts), step):
        present = contexts[start : start + step]
        coalitions = (present[:, None] ^ flips).reshape(-1, game.n_players)
        values = game.heads(coalitions).reshape(len(present), len(flips), -1)
        parts.append(_corners(values, present, pairs, where))
    return _joined(parts)


def _corners(
    values: Values, present: NDArray[np.bool_], pairs: NDArray[np.int64], where: NDArray[np.int64]
) -> Corners:
    m, n_singles = len(pairs), values.shape[1] - 1 - len(pairs)
    flipped = np.stack(  # (4, n, m, H), by 2 * (i flipped) + (j flipped)
        [
            np.repeat(values[:, :1], m, axis=1),
            values[:, 1 + where[:, 1]],
            values[:, 1 + where[:, 0]],
            values[:, 1 + n_singles :],
        ]
    )
    in_first, in_second = present[:, pairs[:, 0]], present[:, pairs[:, 1]]  # (n, m)

    def corner(first: bool, second: bool) -> Values:
        code = 2 * (in_first != first) + (in_second != second)
        values: Values = np.take_along_axis(flipped, code[None, :, :, None], axis=0)[0]
        return values

    return Corners(
        corner(False, False), corner(True, False), corner(False, True), corner(True, True)
    )


def _joined(parts: list[Corners]) -> Corners:
    return Corners(
        np.concatenate([part.neither for part in parts]),
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
        np.concatenate([part.both for part in parts]),
    )


MONTE_CARLO = Sampler(cost=shared_cost, measure=shared_corners, per_unit=2)

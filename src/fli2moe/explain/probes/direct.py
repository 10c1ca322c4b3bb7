"""The paper's probe: four evaluations for every pair and context, nothing shared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.sampling import Sampler
from fli2moe.explain.probes.terms import Corners, Values


def direct_cost(pairs: NDArray[np.int64]) -> int:
    """Returns the evaluations of one context of every pair."""
    return 4 * len(pairs)


def direct_corners(
    game: TokenGame,
    pairs: NDArray[np.int64],
    law: str,
    n_contexts: int,
    generator: np.random.Generator,
) -> Corners:
    """Measures every pair in contexts of its own, all independent.

    For `shapley` a context's q is uniform on [0, 1], which makes its size uniform (design 3.6).
    """
    shape = (n_contexts, len(pairs))
    values: list[Values] = []  # four of (m, H) for each context
    rows = np.arange(len(pairs))
    for _ in range(n_contexts):
        present = _contexts(law, len(pairs), game.n_players, generator)
        coalitions = np.repeat(present[None], 4, axis=0)  # (4, m, P)
        for corner, (first, second) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
            coalitions[corner, rows, pairs[:, 0]] = bool(first)
            coalitions[corner, rows, pairs[:, 1]] = bool(second)
        values.append(game.heads(coalitions.reshape(-1, game.n_players)))
    corners = np.stack(values).reshape(shape[0], 4, shape[1], -1)
    return Corners(corners[:, 0], corners[:, 1], corners[:, 2], corners[:, 3])


def _contexts(
    law: str, rows: int, n_players: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    if law == "full":
        return np.ones((rows, n_players), dtype=np.bool_)
    q = generator.random((rows, 1)) if law == "shapley" else np.full((rows, 1), 0.5)
    return generator.random((rows, n_players)) < q


DIRECT = Sampler(cost=direct_cost, measure=direct_corners, per_unit=1)

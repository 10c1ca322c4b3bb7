"""The paper's probe: four evaluations for every pair and context, nothing shared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.sampling import ROWS_AT_ONCE, Sampler
from fli2moe.explain.probes.terms import Corners, Values

# (first present, second present), in the order of the fields of `Corners`
CORNERS = ((False, False), (True, False), (False, True), (True, True))


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
    rows = np.arange(len(pairs))
    step = max(1, ROWS_AT_ONCE // direct_cost(pairs))
    parts: list[Values] = []  # each (contexts, 4, m, H)
    for start in range(0, n_contexts, step):
        count = min(step, n_contexts - start)
        present = _contexts(law, (count, len(pairs), game.n_players), generator)
        coalitions = np.repeat(present[:, None], 4, axis=1)  # (contexts, 4, m, P)
        for corner, (first, second) in enumerate(CORNERS):
            coalitions[:, corner, rows, pairs[:, 0]] = first
            coalitions[:, corner, rows, pairs[:, 1]] = second
        values = game.heads(coalitions.reshape(-1, game.n_players))
        parts.append(values.reshape(count, 4, len(pairs), -1))
    corners = np.concatenate(parts)
    return Corners(corners[:, 0], corners[:, 1], corners[:, 2], corners[:, 3])


def _contexts(
    law: str, shape: tuple[int, int, int], generator: np.random.Generator
) -> NDArray[np.bool_]:
    if law == "full":
        return np.ones(shape, dtype=np.bool_)
    q = generator.random((*shape[:2], 1)) if law == "shapley" else 0.5
    return generator.random(shape) < q


DIRECT = Sampler(cost=direct_cost, measure=direct_corners, per_unit=1)

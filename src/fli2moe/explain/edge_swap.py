"""Pairs with the same players and multiplicities but other partners: the control that decides.

In a game without any pair structure the top pairs already beat random ones, because they hold the
top players; only exchanging partners removes that (design 3.8, control d).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from fli2moe.tokens import Player

SWEEPS = 10  # exchanges tried for each pair, so that the result does not depend on where it began


def edge_swapped(
    pairs: NDArray[np.int64],
    players: Sequence[Player],
    generator: np.random.Generator,
    forbidden: NDArray[np.int64] | None = None,
) -> NDArray[np.int64] | None:
    """Returns (m, 2) pairs in which every player stands as often as before, none of them given.

    Pairs of the same two modalities exchange partners. A first answer comes from a maximum flow
    from first to second players, which finds one wherever there is one; random exchanges of two
    pairs' partners follow. Not all answers are equally likely.

    Args:
        pairs: (m, 2) distinct cross-modal pairs.
        players: of the game.
        generator: of the exchanges.
        forbidden: (k, 2) pairs that may not occur; `pairs` by default.

    Returns:
        None where no such set of distinct pairs exists.
    """
    banned = {_key(p) for p in (pairs if forbidden is None else forbidden).tolist()}
    kinds: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for i, j in pairs.tolist():
        a, b = (i, j) if players[i].modality <= players[j].modality else (j, i)
        kinds.setdefault((players[a].modality, players[b].modality), []).append((a, b))
    swapped: list[tuple[int, int]] = []
    for edges in kinds.values():
        start = _any_answer(edges, banned)
        if start is None:
            return None
        swapped += _exchanged(start, banned, generator)
    return np.array([_key(edge) for edge in swapped], dtype=np.int64)


def _key(pair: Sequence[int]) -> tuple[int, int]:
    return min(pair), max(pair)


def _any_answer(
    edges: list[tuple[int, int]], banned: set[tuple[int, int]]
) -> list[tuple[int, int]] | None:
    """One set of distinct allowed edges with the same degrees, by maximum flow."""
    left, out = np.unique([a for a, _ in edges], return_counts=True)
    right, into = np.unique([b for _, b in edges], return_counts=True)
    source, sink = len(left) + len(right), len(left) + len(right) + 1
    capacity = np.zeros((sink + 1, sink + 1), dtype=np.int32)
    capacity[source, : len(left)] = out
    capacity[len(left) : source, sink] = into
    for i, a in enumerate(left.tolist()):
        for j, b in enumerate(right.tolist()):
            capacity[i, len(left) + j] = _key((a, b)) not in banned
    found = maximum_flow(csr_array(capacity), source, sink)
    if found.flow_value < len(edges):
        return None
    flow = found.flow.toarray()[: len(left), len(left) : source]
    return [(int(left[i]), int(right[j])) for i, j in np.argwhere(flow > 0)]


def _exchanged(
    edges: list[tuple[int, int]], banned: set[tuple[int, int]], generator: np.random.Generator
) -> list[tuple[int, int]]:
    """The edges after random exchanges of partners that keep them distinct and allowed."""
    there = {_key(edge) for edge in edges}
    for _ in range(SWEEPS * len(edges) if len(edges) > 1 else 0):
        p, q = generator.choice(len(edges), 2, replace=False).tolist()
        (a, b), (c, d) = edges[p], edges[q]
        new = _key((a, d)), _key((c, b))
        if new[0] != new[1] and not any(key in there or key in banned for key in new):
            there -= {_key(edges[p]), _key(edges[q])}
            there |= set(new)
            edges[p], edges[q] = (a, d), (c, b)
    return edges

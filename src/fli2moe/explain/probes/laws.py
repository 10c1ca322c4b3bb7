"""Laws of the contexts a pair is measured in, as weights by size and as random draws."""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import unknown_name

LAWS = ("shapley", "banzhaf", "full")
"""`shapley`: size uniform, as in SII; `banzhaf`: each player with probability 1/2; `full`: all."""


def check_law(law: str) -> None:
    """Raises InputError unless `law` is one of `LAWS`."""
    if law not in LAWS:
        raise unknown_name("contexts", "law", law, LAWS)


def size_weights(law: str, others: int) -> NDArray[np.float64]:
    """Returns (others + 1,) the probability of one context of each size, out of `others` players.

    `shapley`: s! (P-2-s)! / (P-1)! for P - 2 others (Grabisch and Roubens 1999).
    """
    check_law(law)
    if law == "full":
        return np.array([0.0] * others + [1.0])
    if law == "banzhaf":
        return np.full(others + 1, 0.5**others)
    return np.array([1.0 / ((others + 1) * comb(others, size)) for size in range(others + 1)])


def draw_contexts(
    law: str, n_contexts: int, n_players: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Returns (n, P) antithetic draws: rows 2k and 2k + 1 are complements of each other.

    For `shapley` a player is present when its own uniform number lies below q. The q of the first
    rows are stratified over [0, 1/2] and the complement then has 1 - q, so that all q together are
    stratified over [0, 1] (design 3.7). A single context has q uniform on [0, 1]. For `banzhaf`
    q = 1/2. `full` has one context only: everybody.
    """
    check_law(law)
    if law == "full":
        return np.ones((1, n_players), dtype=np.bool_)
    units = max(1, n_contexts // 2)
    if law == "banzhaf":
        q = np.full(units, 0.5)
    elif n_contexts == 1:
        q = generator.random(1)
    else:
        q = (np.arange(units) + generator.random(units)) / (2 * units)
    present = generator.random((units, n_players)) < q[:, None]
    both = np.stack([present, ~present], axis=1).reshape(2 * units, n_players)
    return both[:n_contexts]

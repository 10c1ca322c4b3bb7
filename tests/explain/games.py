"""Games with known answers, and an independent brute-force implementation of both scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from math import factorial

import numpy as np
import torch
from torch import Tensor

from fli2moe.explain import TokenGame

Function = Callable[[Tensor], Tensor]


def all_of(*players: int) -> Function:
    return lambda z: z[:, list(players)].all(dim=1).double()


def any_of(*players: int) -> Function:
    return lambda z: z[:, list(players)].any(dim=1).double()


def odd_of(*players: int) -> Function:
    return lambda z: (z[:, list(players)].sum(dim=1) % 2).double()


def moebius(terms: Mapping[tuple[int, ...], float]) -> Function:
    """v(S) = sum of the weights of the terms that S contains."""

    def f(z: Tensor) -> Tensor:
        total = torch.zeros(len(z), dtype=torch.float64)
        for members, weight in terms.items():
            total += weight * all_of(*members)(z)
        return total

    return f


def random_table(n: int, seed: int, heads: int = 1) -> Function:
    table = torch.tensor(np.random.default_rng(seed).normal(size=(2**n, heads)))
    powers = 2 ** torch.arange(n)
    return lambda z: table[(z.long() * powers).sum(dim=1)]


def halves(f: Function, n: int = 6, **options: object) -> TokenGame:
    """A game of n players, the first half text, the second half image."""
    return TokenGame.from_callable(f, {"text": n // 2, "image": n - n // 2}, **options)


class Counted:
    """A function that counts the coalitions it was asked for and the largest batch."""

    def __init__(self, f: Function) -> None:
        self.f, self.rows, self.largest = f, 0, 0

    def __call__(self, z: Tensor) -> Tensor:
        self.rows += len(z)
        self.largest = max(self.largest, len(z))
        return self.f(z)


def brute_force(f: Function, n: int, i: int, j: int, law: str = "shapley") -> tuple[float, float]:
    """(SII, redundancy gap) from the definitions, one context at a time, in plain Python."""
    others = [p for p in range(n) if p not in (i, j)]

    def v(*present: int) -> float:
        z = torch.zeros(1, n, dtype=torch.bool)
        z[0, list(present)] = True
        return float(f(z).reshape(-1)[0])

    sii = gap = 0.0
    for size in range(len(others) + 1):
        for s in combinations(others, size):
            if law == "shapley":
                weight = factorial(size) * factorial(n - 2 - size) / factorial(n - 1)
            else:
                weight = 0.5 ** (n - 2) if law == "banzhaf" else float(size == n - 2)
            a, b, c = v(*s, i) - v(*s), v(*s, j) - v(*s), v(*s, i, j) - v(*s)
            sii += weight * (c - a - b)
            if a * b > 0:
                sign = 1 if a > 0 else -1
                weaker, stronger = sorted((abs(a), abs(b)))
                gap += weight * max(0.0, weaker - abs(sign * c - stronger))
    return sii, gap

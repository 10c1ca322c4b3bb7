"""Games with known answers, and an independent brute-force implementation of both scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
import torch
from numpy.typing import NDArray
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


def log_sum(z: Tensor) -> Tensor:
    """A concave game: every pair is a little redundant."""
    return torch.log1p(z.double().sum(dim=1))


def added(*parts: Function) -> Function:
    """v(S) = sum of the parts' values."""

    def f(z: Tensor) -> Tensor:
        return torch.stack([part(z).double() for part in parts]).sum(dim=0)

    return f


def main_effects(weights: NDArray[np.float64]) -> Function:
    column = torch.from_numpy(weights)[:, None]
    return lambda z: apart(z.double(), column)[:, 0]


def apart(x: Tensor, weights: Tensor) -> Tensor:
    """x @ weights, row by row: BLAS adds up in another order when there are more rows."""
    return (x[:, :, None] * weights).sum(dim=1)


def tanh_network(n: int, seed: int, hidden: int = 6, heads: int = 1) -> Function:
    """A small network with one hidden layer: many small interactions of many orders."""
    generator = np.random.default_rng(seed)
    first = torch.from_numpy(generator.normal(size=(n, hidden)) / np.sqrt(n) * 1.5)
    bias = torch.from_numpy(generator.normal(size=hidden))
    second = torch.from_numpy(generator.normal(size=(hidden, heads)))
    return lambda z: apart(torch.tanh(apart(2 * z.double() - 1, first) + bias), second)


SHARES = {"and": 1.0, "or": -1.0, "xor": -2.0}
"""SII of each of a term's pairs, times the number of its players less one; XOR is of two."""


@dataclass(frozen=True)
class Planted:
    """A sum of AND, OR and two-way XOR terms and main effects; the SII is known in closed form.

    Attributes:
        players: {modality: number}.
        terms: (members, kind, weight) each.
        main: (P,) weights of single players.
    """

    players: Mapping[str, int]
    terms: tuple[tuple[tuple[int, ...], str, float], ...]
    main: NDArray[np.float64]

    def __call__(self, z: Tensor) -> Tensor:
        kinds = {"and": all_of, "or": any_of, "xor": odd_of}
        value = main_effects(self.main)(z)
        for members, kind, weight in self.terms:
            value = value + weight * kinds[kind](*members)(z)
        return value

    def game(self, **options: object) -> TokenGame:
        return TokenGame.from_callable(self, self.players, batch_size=4096, **options)

    def sii(self) -> NDArray[np.float64]:
        """(P, P) of every pair, symmetric."""
        truth = np.zeros((len(self.main),) * 2)
        for members, kind, weight in self.terms:
            for i, j in combinations(members, 2):
                truth[i, j] += weight * SHARES[kind] / (len(members) - 1)
        return truth + truth.T


def planted(
    seed: int, text: int, image: int, n_terms: int, orders: tuple[int, ...] = (2, 3, 4)
) -> Planted:
    """Terms across both modalities, as many of each order, no player in more than three of them.

    Weights are of random sign and size U(.5, 1.5), main effects of a third of the players normal
    with standard deviation .5.
    """
    generator = np.random.default_rng(seed)
    n = text + image
    used = np.zeros(n, dtype=int)
    terms: list[tuple[tuple[int, ...], str, float]] = []
    while len(terms) < n_terms:
        order = orders[len(terms) % len(orders)]
        kinds = ("and", "or", "xor") if order == 2 else ("and", "or")
        kind = kinds[generator.integers(len(kinds))]
        of_text = int(generator.integers(1, order))
        chosen = generator.choice(text, of_text, replace=False).tolist()
        chosen += (text + generator.choice(image, order - of_text, replace=False)).tolist()
        if (used[chosen] >= 3).any():
            continue
        used[chosen] += 1
        weight = float(generator.uniform(0.5, 1.5) * generator.choice([-1, 1]))
        terms.append((tuple(sorted(chosen)), kind, weight))
    main = np.where(generator.random(n) < 1 / 3, generator.normal(size=n) * 0.5, 0.0)
    return Planted({"text": text, "image": image}, tuple(terms), main)

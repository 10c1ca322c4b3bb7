"""What is learnt from random masks: a stand-in for the game, with pair scores in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr
from torch import Tensor

from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.design import Design, Parity, Term, products
from fli2moe.explain.probes.pursuit import Expansion, pursue
from fli2moe.explain.probes.regression import Regression
from fli2moe.explain.probes.terms import Values
from fli2moe.explain.probes.threads import in_threads
from fli2moe.explain.probes.uncertainty import NOTHING, RANGE_FACTOR

ROWS_AT_ONCE = 4096  # coalitions predicted at a time


class Surrogate(Protocol):
    """One head of a game, learnt from masks.

    Attributes:
        design: the masks and the values of all heads.
        head: which column of them.
    """

    design: Design
    head: int

    def interactions(self, pairs: NDArray[np.int64], law: str) -> tuple[Values, Values]:
        """Returns (m,) the SII of pairs (m, 2) under a law of contexts, and standard errors."""

    def expected(self, pairs: NDArray[np.int64], law: str) -> Values:
        """Returns (m,) the exact SII of the game that `predict` is."""

    def predict(self, present: NDArray[np.bool_]) -> Values:
        """Returns (N,) the score of coalitions (N, P)."""

    def backup_scores(self) -> Values:
        """Returns (P, P) a cheap upper guess of redundancy, to shortlist pairs by."""


class SparseSurrogate:
    """A sparse expansion found by pursuit, and what single pairs still correlate with beyond it.

    SII_ij = 4 sum over T containing i and j, |T| even, of c_T / (|T| - 1), from chi_T = prod chi
    (Grabisch and Roubens 1999, in the Fourier basis); under `banzhaf` 4 c_ij.

    A pair outside the expansion gets its correlation c with the residual times its `credibility`,
    which is 0 unless more pairs stand out than chance allows. Standard errors are delete-one
    jackknives over masks, and for a pair outside the expansion hypot(standard error of c, c): what
    a threshold may have hidden. Both get the range term of `uncertainty.standard_error`. All of
    that is ours.

    Args:
        design: masks and values.
        head: column of the values.
    """

    def __init__(self, design: Design, head: int) -> None:
        self.design, self.head = design, head
        self.expansion: Expansion = pursue(design, head)
        self._terms = list(self.expansion.terms())

    def interactions(self, pairs: NDArray[np.int64], law: str) -> tuple[Values, Values]:
        """See `Surrogate.interactions`."""
        value, variance = np.zeros(len(pairs)), np.zeros(len(pairs))
        row = {(int(i), int(j)): r for r, (i, j) in enumerate(pairs)}
        of_pair = [self.design.parity((int(i), int(j))) for i, j in self._kinds()]
        kind = {parity: k for k, parity in enumerate(of_pair)}
        n = 2**self.design.n_groups * self.design.units
        span = float(self.design.high[self.head] - self.design.low[self.head])
        for parity, part in self.expansion.parts.items():
            weights = _sii_weights(part.terms, row, law, len(pairs))
            value += weights @ part.coefficients
            touched = np.flatnonzero(np.diff(weights.indptr))
            variance[touched] += part.jackknife(weights[touched].toarray()) ** 2
            if parity not in kind:
                continue
            here = self._of_parity(pairs, parity)
            if not here.any():
                continue
            left, error = self._left_over(part, pairs[here])
            inside = {t for t in part.terms if len(t) == 2}
            outside = np.array([(int(i), int(j)) not in inside for i, j in pairs[here]])
            credit = np.zeros(len(left))
            credit[outside] = credibility(left[outside] / error)
            value[here] += 4 * credit * left
            variance[here] += 16 * np.where(outside, error**2 + left**2, 0.0)
            widest = float(np.ptp(part.residual))
            rare = RANGE_FACTOR / n * (widest if widest > NOTHING * span else span)
            variance[here] += (4 * rare) ** 2
        return value, np.sqrt(variance)

    def expected(self, pairs: NDArray[np.int64], law: str) -> Values:
        """See `Surrogate.expected`."""
        row = {(int(i), int(j)): r for r, (i, j) in enumerate(pairs)}
        value = np.zeros(len(pairs))
        for part in self.expansion.parts.values():
            value += _sii_weights(part.terms, row, law, len(pairs)) @ part.coefficients
        return value

    def predict(self, present: NDArray[np.bool_]) -> Values:
        """See `Surrogate.predict`."""
        terms = [term for term, _ in self._terms]
        coefficients = np.array([c for _, c in self._terms])
        chi = np.where(present, 1.0, -1.0).astype(np.float32)
        parts = [
            products(chi[start : start + ROWS_AT_ONCE], terms) @ coefficients
            for start in range(0, len(chi), ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def backup_scores(self) -> Values:
        """See `Surrogate.backup_scores`: of pairs with a common term, min(|Delta|, |a|, |b|)."""
        n_players = self.design.chi.shape[1]
        together, single = np.zeros((n_players, n_players)), np.zeros(n_players)
        for term, c in self._terms:
            for i in term:
                single[i] += 2 * abs(c)
                for j in term:
                    together[i, j] += 4 * abs(c) * (i != j)
        bound: Values = np.minimum(together, np.minimum.outer(single, single))
        return bound

    def _kinds(self) -> list[tuple[int, int]]:
        """One pair of every kind: of two groups, or of one."""
        group, n_groups = self.design.group, self.design.n_groups
        members = [np.flatnonzero(group == g).tolist() for g in range(n_groups)]
        pairs = [(m[0], m[1]) for m in members if len(m) > 1]
        return pairs + [
            (members[a][0], members[b][0]) for a in range(n_groups) for b in range(a + 1, n_groups)
        ]

    def _of_parity(self, pairs: NDArray[np.int64], parity: Parity) -> NDArray[np.bool_]:
        first, second = self.design.group[pairs[:, 0]], self.design.group[pairs[:, 1]]
        here = np.ones(len(pairs), dtype=np.bool_)
        for g, odd in enumerate(parity):
            here &= ((first == g) != (second == g)) == bool(odd)
        return here

    def _left_over(self, part: Regression, pairs: NDArray[np.int64]) -> tuple[Values, float]:
        """(m,) coefficient of each pair alone in the residual, and its standard error."""
        chi, units = self.design.chi, self.design.units
        r = part.residual.astype(np.float32)
        table = (chi * r[:, None]).T @ chi / units
        error = max(part.sigma / np.sqrt(units), 1e-300)
        return table[pairs[:, 0], pairs[:, 1]].astype(np.float64), error


def surrogate_game(game: TokenGame, surrogates: Sequence[Surrogate]) -> TokenGame:
    """Returns the game whose heads are the surrogates: probes of it cost no evaluation.

    Its heads are named after the game's where there are as many, else by number.
    """
    names = game.head_names if len(surrogates) == len(game.head_names) else None

    def evaluate(coalitions: Tensor) -> Tensor:
        present = coalitions.numpy()
        values = in_threads(lambda s: s.predict(present), surrogates)
        return torch.from_numpy(np.stack(values, axis=1))

    return TokenGame(evaluate, game.players, names, batch_size=ROWS_AT_ONCE)


def _sii_weights(
    terms: Sequence[Term], row: dict[tuple[int, int], int], law: str, n_pairs: int
) -> csr_array:
    """(m, K) what each coefficient adds to the SII of each pair."""
    entries: list[tuple[int, int, float]] = []
    for k, term in enumerate(terms):
        size = len(term)
        if size < 2 or size % 2 or (law == "banzhaf" and size > 2):
            continue
        found = (row.get(pair) for pair in combinations(term, 2))
        entries += [(r, k, 4.0 / (size - 1)) for r in found if r is not None]
    rows, columns, weights = zip(*entries, strict=True) if entries else ((), (), ())
    places = (np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64))
    return csr_array((np.array(weights, dtype=np.float64), places), shape=(n_pairs, len(terms)))


def credibility(z: Values) -> Values:
    """Returns (m,) 1 - the estimated false discovery rate at each |z|, at least 0.

    m P(|Z| >= |z|) over the number of values at least as large (Benjamini and Hochberg 1995).
    """
    order = np.argsort(-np.abs(z), kind="stable")
    expected = len(z) * 2 * ndtr(-np.abs(z[order]))
    weight = np.maximum(0.0, 1.0 - expected / np.arange(1, len(z) + 1))
    credit = np.empty(len(z))
    credit[order] = np.minimum.accumulate(weight)
    return credit

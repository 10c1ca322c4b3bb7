"""A sparse expansion of a game, found by stagewise pursuit: pairs, triples and quadruples.

Every part of a design is regressed on the terms chosen so far; terms whose correlation with what
is left over passes a threshold join, weak ones leave, until nothing changes. A term enters against
the largest value expected of *all* candidates of its kind, so a kind of few candidates has a lower
threshold. That is where orders help each other: a conjunction of four players leaves traces in
its pairs, its triples and itself, so pairs inside a triple that was found, triples that join found
pairs, and quadruples that join found triples are candidates of their own, few in number. Triples
live in another part than the pairs, often with far less noise, and are searched exhaustively.

Stagewise thresholding is Donoho et al. 2012 (StOMP); the heredity between orders is ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from fli2moe.explain.probes.design import Design, Parity, Signs, Term, products
from fli2moe.explain.probes.regression import Regression
from fli2moe.explain.probes.terms import Values

FALSE = 2.0  # terms expected to enter by chance, of each kind and pass
STAY = 0.85  # a term leaves below this share of the threshold it would enter by
NEAR = 0.6  # of the strongest candidate: those that enter together
TOGETHER = 40  # most terms that enter in one pass
FULLEST = 0.5  # of the masks: most terms of a part
PASSES = 40
SEARCH_EVERY = 4  # passes between exhaustive searches of the triples
SEARCHED = 2000  # triples that a search hands on
OCCAM = np.log(5.0)  # log odds that a term costs for its unknown coefficient
MOST_ODDS = 5.0  # log odds that one pair can lend to a triple
NOISE = 2.5  # standard deviations of a sum over the masks that a search looks above
LEAST_AT = 2.5  # |z| below which no triple enters, whatever its pairs say
BLOCK = 64  # rows of a table of pairs that are multiplied at a time
MOST_TRIPLE_WORK = 1e10  # multiplications of one search; beyond, the weakest players are left out


@dataclass(frozen=True, eq=False)
class Expansion:
    """The terms of one head, as a regression for every part.

    Attributes:
        parts: {parity: regression}.
    """

    parts: dict[Parity, Regression]

    def terms(self) -> Iterator[tuple[Term, float]]:
        """Yields every term with its coefficient; the constant is the empty one."""
        for part in self.parts.values():
            yield from zip(part.terms, part.coefficients.tolist(), strict=True)


def pursue(design: Design, head: int) -> Expansion:
    """Finds the sparse expansion of one head.

    Args:
        design: masks and values.
        head: column of the values.
    """
    even = (0,) * design.n_groups
    parts = {
        parity: Regression(design.chi, values[:, head].astype(np.float64), parity == even)
        for parity, values in design.parts.items()
    }
    kinds = _Kinds(design)
    for number in range(PASSES):
        search = number % SEARCH_EVERY == 0 or number == 1
        entered = sum(
            _enter(part, kinds.candidates(parity, parts, search)) for parity, part in parts.items()
        )
        for parity, part in parts.items():
            _leave(part, kinds.thresholds(parity, part.terms, parts))
        if not entered and search:
            break
    return Expansion(parts)


def _enter(part: Regression, candidates: dict[Term, tuple[float, float]]) -> int:
    """Adds the candidates {term: (z, threshold)} that pass; returns how many."""
    passed = {t: abs(z) for t, (z, least) in candidates.items() if abs(z) > least}
    room = int(FULLEST * len(part.y)) - len(part.terms)
    if not passed or room <= 0 or part.exact:
        return 0
    bar = NEAR * max(passed.values())
    strong = sorted((t for t, z in passed.items() if z > bar), key=lambda t: (-passed[t], t))
    part.add(strong[: min(TOGETHER, room)])
    return min(len(strong), TOGETHER, room)


def _leave(part: Regression, thresholds: Values) -> None:
    """Drops terms below `STAY` of their threshold, the weakest quarter at a time."""
    least = STAY * thresholds
    while part.terms and not part.exact:
        lacking = least - np.abs(part.t())
        weak = np.flatnonzero(lacking > 0)
        if not len(weak):
            return
        worst = weak[np.argsort(-lacking[weak], kind="stable")][: max(1, len(weak) // 4)]
        rows = np.ones(len(part.terms), dtype=np.bool_)
        rows[worst] = False
        part.keep(rows)
        least = least[rows]


class _Kinds:
    """The kinds of candidates, how many there are of each, and where they come from."""

    def __init__(self, design: Design) -> None:
        self.design = design
        sizes = np.bincount(design.group, minlength=design.n_groups)
        self.counts = {
            parity: {order: _count(sizes, parity, order) for order in (1, 2, 3)}
            for parity in design.parts
        }
        group = design.group
        self._parities: dict[Term, Parity] = {}
        self.pair_parity = [
            np.bitwise_xor.outer(group == g, group == g) for g in range(design.n_groups)
        ]

    def candidates(
        self, parity: Parity, parts: dict[Parity, Regression], search: bool
    ) -> dict[Term, tuple[float, float]]:
        part = parts[parity]
        if part.exact:
            return {}
        found: dict[Term, tuple[float, float]] = {}
        chi, r = self.design.chi, part.residual.astype(np.float32)
        counts = self.counts[parity]
        if counts[1]:
            z = part.z((r @ chi).astype(np.float64))
            at = threshold(counts[1])
            own = [p for p in np.flatnonzero(np.abs(z) > at).tolist() if self._in((p,), parity)]
            found |= {(p,): (float(z[p]), at) for p in own}
        if counts[2]:
            z = part.z(((chi * r[:, None]).T @ chi).astype(np.float64))
            at = threshold(counts[2])
            here = np.triu(np.abs(z) > at, k=1) & self._pairs(parity)
            found |= {(int(i), int(j)): (float(z[i, j]), at) for i, j in np.argwhere(here)}
        if counts[3] and search:
            triples, sums = strongest_triples(chi, r, SEARCHED)
            odds = self._pair_odds(parts)
            i, j, k = triples.T
            least = _helped(counts[3], odds[i, j] + odds[i, k] + odds[j, k])
            z = part.z(sums.astype(np.float64))
            here = (np.abs(z) > least) & self.design.have_parity(triples, parity)
            rows = zip(triples[here].tolist(), z[here].tolist(), least[here].tolist(), strict=True)
            found |= {tuple(term): (score, at) for term, score, at in rows}
        heirs = {t for t in self.heirs(parts) if self._in(t, parity)}
        for order in (2, 3, 4):
            of_order = sorted(t for t in heirs if len(t) == order)
            if of_order:
                at = threshold(len(of_order))
                z = part.z((r @ products(chi, of_order)).astype(np.float64))
                found |= {t: (float(x), at) for t, x in zip(of_order, z, strict=True)}
        for term in part.terms:
            found.pop(term, None)
        return found

    def _pair_odds(self, parts: dict[Parity, Regression]) -> Values:
        """(P, P) log odds z^2 / 2 - `OCCAM` that each pair is in the game, within bounds."""
        n_players = self.design.chi.shape[1]
        odds = np.zeros((n_players, n_players))
        for parity, part in parts.items():
            if not self.counts[parity][2]:
                continue
            here = self._pairs(parity)
            if not part.exact:
                r = part.residual.astype(np.float32)[:, None]
                z = part.z(((self.design.chi * r).T @ self.design.chi).astype(np.float64))
                odds[here] = np.clip(z[here] ** 2 / 2 - OCCAM, -OCCAM, MOST_ODDS)
            for term in part.terms:
                if len(term) == 2:
                    odds[term] = odds[term[::-1]] = MOST_ODDS
        return odds

    def thresholds(
        self, parity: Parity, terms: list[Term], parts: dict[Parity, Regression]
    ) -> Values:
        """Returns (K,) what each term would have to pass to enter; 0 for the constant."""
        heirs = self.heirs(parts)
        of_order = {order: sum(len(t) == order for t in heirs) for order in (2, 3, 4)}
        at = np.zeros(len(terms))
        for k, term in enumerate(terms):
            if len(term) == 0:
                continue
            heir = len(term) == 4 or term in heirs
            count = of_order[len(term)] if heir else self.counts[parity][len(term)]
            at[k] = threshold(max(count, 1))
        return at

    def heirs(self, parts: dict[Parity, Regression]) -> set[Term]:
        """Returns the pairs, triples and quadruples that the terms found so far suggest."""
        chosen = [term for part in parts.values() for term in part.terms]
        return heirs_of(chosen)

    def _in(self, term: Term, parity: Parity) -> bool:
        if term not in self._parities:
            self._parities[term] = self.design.parity(term)
        return self._parities[term] == parity

    def _pairs(self, parity: Parity) -> NDArray[np.bool_]:
        """(P, P) which pairs belong to the part."""
        here = np.ones((len(self.design.group),) * 2, dtype=np.bool_)
        for differs, odd in zip(self.pair_parity, parity, strict=True):
            here &= differs == bool(odd)
        return here


def heirs_of(terms: Collection[Term]) -> set[Term]:
    """Returns the candidates that found terms suggest.

    Pairs within a triple or quadruple; triples whose pairs include two found ones (a pair within a
    found quadruple counts); quadruples that join two triples, or a triple and a player that two
    found pairs tie to it.
    """
    triples = {t for t in terms if len(t) == 3}
    tied: dict[int, set[int]] = {}
    for term in terms:
        if len(term) in (2, 4):
            for a, b in combinations(term, 2):
                tied.setdefault(a, set()).add(b)
                tied.setdefault(b, set()).add(a)
    heirs: set[Term] = {pair for t in terms if len(t) > 2 for pair in combinations(t, 2)}
    for player, others in tied.items():
        heirs |= {_sorted(player, *two) for two in combinations(sorted(others), 2)}
    by_pair: dict[Term, list[int]] = {}
    for triple in triples:
        for k, third in enumerate(triple):
            pair = triple[:k] + triple[k + 1 :]
            by_pair.setdefault(pair, []).append(third)
    for pair, thirds in by_pair.items():
        heirs |= {_sorted(*pair, *two) for two in combinations(sorted(thirds), 2)}
    for triple in triples:
        near: dict[int, int] = {}
        for member in triple:
            for player in tied.get(member, ()):
                near[player] = near.get(player, 0) + 1
        heirs |= {_sorted(*triple, p) for p, n in near.items() if n > 1 and p not in triple}
    return heirs


def strongest_triples(
    chi: Signs, residual: Signs, keep: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the `keep` triples whose product correlates most with the residual, exhaustively.

    Costs U P^3 / 3 multiplications. Where that is more than `MOST_TRIPLE_WORK`, only the players
    with the strongest pair correlations take part. Sums below `NOISE` standard deviations are
    passed over.

    Args:
        chi: (U, P).
        residual: (U,).
        keep: how many.

    Returns:
        (n, 3) players of each, ascending, and (n,) sums over the masks of residual times product.
    """
    units, n_players = chi.shape
    most = int((3 * MOST_TRIPLE_WORK / units) ** (1 / 3))
    players = np.arange(n_players)
    if n_players > most:
        pairs = np.abs((chi * residual[:, None]).T @ chi)
        np.fill_diagonal(pairs, 0.0)
        players = np.sort(np.argsort(-pairs.max(axis=0), kind="stable")[:most])
        chi = np.ascontiguousarray(chi[:, players])
    found = np.empty((0, 3), dtype=np.int64)
    sums: NDArray[np.float32] = np.empty(0, dtype=np.float32)
    bar = np.float32(NOISE * np.sqrt(float(residual @ residual)))
    for i in range(len(players) - 2):
        weighted = chi[:, i] * residual
        for start in range(i + 1, len(players), BLOCK):  # of a symmetric table, its upper blocks
            stop, rest = start + BLOCK, chi[:, start:]
            table = (chi[:, start:stop] * weighted[:, None]).T @ rest
            j, k = np.nonzero(np.abs(table) > bar)
            j, k = j[j < k], k[j < k]
            triples = np.stack([np.full(len(j), i), j + start, k + start], axis=1)
            found, sums = np.concatenate([found, triples]), np.concatenate([sums, table[j, k]])
        if len(sums) > 8 * keep:
            best = np.argsort(-np.abs(sums), kind="stable")[:keep]
            found, sums = found[best], sums[best]
            bar = np.abs(sums).min()
    best = np.argsort(-np.abs(sums), kind="stable")[:keep]
    return players[found[best]], sums[best]


def threshold(candidates: int) -> float:
    """Returns the |z| that `FALSE` of so many null candidates pass on average."""
    return float(-ndtri(min(FALSE / candidates, 0.5) / 2))


def _helped(candidates: int, odds: Values) -> Values:
    """(n,) |z| that triples enter by, given the log odds of their pairs; never a higher one."""
    alone = threshold(candidates)
    needed = 2 * (np.log(candidates / FALSE) + OCCAM - odds)
    least: Values = np.clip(np.sqrt(np.maximum(needed, 0.0)), LEAST_AT, alone)
    return least


def _count(sizes: NDArray[np.int64], parity: Parity, order: int) -> int:
    """How many terms of an order have a parity."""
    total = 0
    for split in _splits(order, len(sizes)):
        if tuple(n % 2 for n in split) == parity:
            ways = 1
            for size, n in zip(sizes.tolist(), split, strict=True):
                ways *= comb(size, n)
            total += ways
    return total


def _splits(order: int, groups: int) -> Iterator[tuple[int, ...]]:
    if groups == 1:
        yield (order,)
        return
    for first in range(order + 1):
        for rest in _splits(order - first, groups - 1):
            yield (first, *rest)


def _sorted(*players: int) -> Term:
    return tuple(sorted(players))

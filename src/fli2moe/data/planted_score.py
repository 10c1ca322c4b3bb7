"""A score whose interactions are known exactly: a sum of AND, OR and XOR terms over players."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import isfinite

import torch
from torch import Tensor

from fli2moe.errors import InputError, unknown_name

MOST_MEMBERS = 12
"""A term of m players has up to 2^m coefficients."""


def _and_coefficient(order: int, members: int) -> float:
    return 2.0**-members


def _or_coefficient(order: int, members: int) -> float:
    return (1.0 if order == 0 else 0.0) - (-1.0) ** order * 2.0**-members


def _xor_coefficient(order: int, members: int) -> float:
    if order == 0:
        return 0.5
    return -0.5 * (-1.0) ** members if order == members else 0.0


_COEFFICIENTS: Mapping[str, Callable[[int, int], float]] = {
    "and": _and_coefficient,
    "or": _or_coefficient,
    "xor": _xor_coefficient,
}
"""{kind: Walsh coefficient of each subset of `order` of a term's `members`}."""

KINDS = tuple(_COEFFICIENTS)


@dataclass(frozen=True)
class Term:
    """`weight` where all (`and`), any (`or`) or an odd number (`xor`) of the members are present.

    Attributes:
        members: columns of the players; one alone is a main effect, whatever the kind.
        kind: and, or, xor.
        weight: of any sign.
    """

    members: tuple[int, ...]
    kind: str = "and"
    weight: float = 1.0


@dataclass(frozen=True)
class OrderShares:
    """Shares of the variance of v(S) when each player is present with probability 1/2.

    NaN where v never varies.

    Attributes:
        main: of the main effects.
        pairs: of the pairs.
        higher: of the orders from three on.
    """

    main: float
    pairs: float
    higher: float

    @property
    def interactions(self) -> float:
        """Share of all orders from two on."""
        return self.pairs + self.higher


@dataclass(frozen=True)
class PlantedScore:
    """The sum of its terms: a game for `TokenGame.from_callable`, with its truth in closed form.

    Attributes:
        players: how many there are.
        terms: they may share players.

    Raises:
        InputError: for a term of no players, of one twice or unknown, of more than 12, of an
            unknown kind, or with a weight that is not finite.
    """

    players: int
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        for number, term in enumerate(self.terms):
            _check(term, f"planted score, term {number}", self.players)

    def __call__(self, coalitions: Tensor) -> Tensor:
        """Returns the scores, float64 (N,), of coalitions bool (N, players)."""
        if coalitions.ndim != 2 or coalitions.shape[1] != self.players:
            found = f"coalitions of shape {tuple(coalitions.shape)}"
            raise InputError("planted score", found, f"(N, {self.players})")
        total = torch.zeros(len(coalitions), dtype=torch.float64, device=coalitions.device)
        for term in self.terms:
            present = coalitions[:, list(term.members)].sum(dim=1)  # (N,)
            if term.kind == "xor":
                holds = present % 2 == 1
            else:
                holds = present >= (len(term.members) if term.kind == "and" else 1)
            total += term.weight * holds
        return total

    def coefficients(self) -> dict[tuple[int, ...], float]:
        """Returns {subset T: mean over all coalitions of v times the product of chi_i over T}.

        chi_i is 1 where player i is present, else -1; subsets are sorted, and those that no term
        touches are left out. From AND = product of (1 + chi) / 2, OR = 1 - product of (1 - chi) / 2
        and XOR = (1 - product of -chi) / 2.
        """
        total: dict[tuple[int, ...], float] = defaultdict(float)
        for term in self.terms:
            members, of = sorted(term.members), _COEFFICIENTS[term.kind]
            for order in range(len(members) + 1):
                value = term.weight * of(order, len(members))
                if value:
                    for subset in combinations(members, order):
                        total[subset] += value
        return dict(total)

    def shares(self) -> OrderShares:
        """Returns the exact share of each order, for any number of players (Parseval)."""
        power = [0.0, 0.0, 0.0]  # main, pairs, higher
        scale = sum(abs(term.weight) for term in self.terms)
        for subset, value in self.coefficients().items():
            if subset and abs(value) > 1e-12 * scale:  # less is what cancels up to rounding
                power[min(len(subset), 3) - 1] += value**2
        variance = sum(power)
        if not variance:
            return OrderShares(float("nan"), float("nan"), float("nan"))
        return OrderShares(*(p / variance for p in power))

    def interactions(self) -> dict[tuple[int, int], float]:
        """Returns {pair: exact SII} of the pairs that share a term; it is 0 for every other pair.

        A term of m players gives each of its pairs w / (m - 1) (AND), -w / (m - 1) (OR), or
        -2 w / (m - 1) (XOR, m even; 0 for m odd): the Moebius coefficients of the sets that hold
        the pair, each divided by its size minus one (Grabisch & Roubens 1999).
        """
        total: dict[tuple[int, int], float] = defaultdict(float)
        for term in self.terms:
            m = len(term.members)
            sign = {"and": 1.0, "or": -1.0, "xor": -2.0 if m % 2 == 0 else 0.0}[term.kind]
            for pair in combinations(sorted(term.members), 2):
                total[pair] += term.weight * sign / (m - 1)
        return dict(total)


def _check(term: Term, where: str, players: int) -> None:
    members = term.members
    if term.kind not in KINDS:
        raise unknown_name(where, "kind", term.kind, KINDS)
    if not 1 <= len(members) <= MOST_MEMBERS or len(set(members)) < len(members):
        raise InputError(where, f"players {members}", f"1 to {MOST_MEMBERS} different players")
    for player in members:
        if not 0 <= player < players:
            raise InputError(where, f"player {player}", f"one of 0 to {players - 1}")
    if not isfinite(term.weight):
        raise InputError(where, f"weight {term.weight}", "a finite number")

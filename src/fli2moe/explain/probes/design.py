"""Masks that a surrogate is fitted to, split into parts that hold different orders of interaction.

With chi = 1 for a present player and -1 for an absent one, every game is a sum of products
c_T * prod_{i in T} chi_i (its Fourier or Walsh expansion). Flipping a whole group of players turns
the sign of the products with an odd number of members in it. So the signed means over all flips
of a mask hold the products of one parity each, and a least-squares fit of one part is not
disturbed by the terms of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.terms import Values

Term = tuple[int, ...]
"""Players of a product, ascending."""
Parity = tuple[int, ...]
"""For each group of players, 0 or 1: whether an even or odd number of a term's members is in it."""
Signs = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Design:
    """A game seen through U masks and all flips of their groups.

    Attributes:
        chi: (U, P) 1 where the player is present in the unflipped mask, else -1.
        group: (P,) number of each player's group; all players in one group make antithetic masks.
        parts: {parity: (U, H)} the signed mean over the flips, of every head.
        low, high: (H,) smallest and largest value seen.
    """

    chi: Signs
    group: NDArray[np.int64]
    parts: Mapping[Parity, Values]
    low: Values
    high: Values

    @property
    def units(self) -> int:
        """Masks that were drawn, without their flips: the independent observations."""
        return len(self.chi)

    @property
    def n_groups(self) -> int:
        """Groups that are flipped."""
        return int(self.group.max()) + 1

    def parity(self, term: Sequence[int]) -> Parity:
        """Returns the part that holds a term."""
        counts = np.bincount(self.group[list(term)], minlength=self.n_groups)
        return tuple(int(n) % 2 for n in counts)

    def have_parity(self, terms: NDArray[np.int64], parity: Parity) -> NDArray[np.bool_]:
        """Returns (K,) which terms (K, order) the part of a parity holds."""
        counts = (self.group[terms][..., None] == np.arange(self.n_groups)).sum(axis=1)
        here: NDArray[np.bool_] = (counts % 2 == np.array(parity)).all(axis=1)
        return here

    def values(self) -> Values:
        """Returns (2^G U, H) the values seen, flip by flip in the order of `flips`."""
        return np.concatenate(
            [
                sum(_sign(parity, flip) * part for parity, part in self.parts.items())
                for flip in flips(self.n_groups)
            ]
        )

    def masks(self) -> NDArray[np.bool_]:
        """Returns (2^G U, P) the coalitions behind `values`."""
        return flipped(self.chi > 0, self.group)


def flips(n_groups: int) -> list[Parity]:
    """Returns the 2^G ways of flipping groups, none first."""
    return list(product((0, 1), repeat=n_groups))


def flipped(present: NDArray[np.bool_], group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns (2^G U, P) the masks (U, P) under every flip, flip by flip."""
    n_groups = int(group.max()) + 1
    return np.concatenate([present ^ (np.array(f) == 1)[group] for f in flips(n_groups)])


def see(game: TokenGame, present: NDArray[np.bool_], group: NDArray[np.int64]) -> Design:
    """Evaluates masks bool (U, P) under all flips of the groups; 2^G U evaluations at most."""
    values = game.heads(flipped(present, group))
    n_groups = int(group.max()) + 1
    by_flip = values.reshape(2**n_groups, len(present), -1)
    parts = {
        parity: np.mean(
            [_sign(parity, f) * v for f, v in zip(flips(n_groups), by_flip, strict=True)], axis=0
        )
        for parity in flips(n_groups)
    }
    chi = np.where(present, 1.0, -1.0).astype(np.float32)
    return Design(chi, group, parts, values.min(axis=0), values.max(axis=0))


def antithetic_groups(game: TokenGame) -> NDArray[np.int64]:
    """Returns one group of all players: two evaluations a mask, odd and even orders apart."""
    return np.zeros(game.n_players, dtype=np.int64)


def modality_groups(game: TokenGame) -> NDArray[np.int64]:
    """Returns a group for each modality: within-modality and cross-modal terms apart."""
    names = list(dict.fromkeys(player.modality for player in game.players))
    return np.array([names.index(player.modality) for player in game.players])


def products(chi: Signs, terms: Sequence[Term]) -> Signs:
    """Returns (U, K) the product of chi over each term's players."""
    columns = np.ones((len(chi), len(terms)), dtype=np.float32)
    orders = np.array([len(term) for term in terms], dtype=np.int64)
    for order in np.unique(orders):
        where = np.flatnonzero(orders == order)
        members = np.array([terms[k] for k in where.tolist()]).reshape(len(where), order)
        for m in range(order):
            columns[:, where] *= chi[:, members[:, m]]
    return columns


def _sign(parity: Parity, flip: Parity) -> int:
    return -1 if sum(p * f for p, f in zip(parity, flip, strict=True)) % 2 else 1

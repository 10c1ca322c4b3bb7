"""Games whose interactions are known: planted polynomials, with their closed-form truth."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from fli2moe.explain import TokenGame, redundancy_gaps

KINDS = ("and", "or", "xor")


@dataclass(frozen=True)
class Planted:
    """A sum of AND, OR and XOR terms, main effects and, where asked for, a dense background.

    Attributes:
        text, image: players of each modality, text first.
        terms: (members, kind, weight) each.
        main: (P,) weights of single players.
        background: (P, P) weights w_ij of chi_i chi_j, upper triangle; chi is 1 where present,
            else -1. Zero where there is none.
    """

    text: int
    image: int
    terms: tuple[tuple[tuple[int, ...], str, float], ...]
    main: np.ndarray
    background: np.ndarray

    @property
    def n_players(self) -> int:
        """Players of both modalities."""
        return self.text + self.image

    def __call__(self, coalitions: Tensor) -> Tensor:
        """Values (N,) of coalitions bool (N, P)."""
        z = coalitions.numpy()
        chi = np.where(z, 1.0, -1.0)
        value = z @ self.main
        if self.background.any():
            value = value + ((chi @ self.background) * chi).sum(axis=1)
        for members, kind, weight in self.terms:
            value = value + weight * _term(z[:, list(members)], kind)
        return torch.from_numpy(value)

    def game(self) -> TokenGame:
        """The game, text players first."""
        return TokenGame.from_callable(
            self, {"text": self.text, "image": self.image}, batch_size=2048
        )

    def sii(self) -> np.ndarray:
        """(P, P) symmetric: the exact SII of every pair.

        A term of m players gives each of its pairs w / (m - 1) (AND), -w / (m - 1) (OR), and
        -2 w / (m - 1) (XOR, m even; 0 for m odd); chi_i chi_j gives 4.
        """
        truth = 4.0 * (self.background + self.background.T)
        for members, kind, weight in self.terms:
            m = len(members)
            share = {"and": 1.0, "or": -1.0, "xor": -2.0 if m % 2 == 0 else 0.0}[kind] / (m - 1)
            for i, j in combinations(members, 2):
                truth[i, j] += weight * share
                truth[j, i] += weight * share
        return truth

    def pair_truth(self) -> np.ndarray:
        """(text * image,) the SII of every cross-modal pair, in the order of the game's pairs."""
        return self.sii()[: self.text, self.text :].ravel()

    def gap_truth(self) -> np.ndarray:
        """(text * image,) the exact redundancy gap of every cross-modal pair.

        A pair's gap depends on the players that share a term with either of its members: exact
        enumeration over these. Only without a background.
        """
        if self.background.any():
            raise ValueError("with a background every player is a neighbour of every other")
        truth = np.zeros((self.text, self.image))
        together = {
            tuple(sorted(pair)) for members, _, _ in self.terms for pair in combinations(members, 2)
        }
        for i, j in sorted(together):
            if i < self.text <= j:
                truth[i, j - self.text] = self._gap(i, j)
        return truth.ravel()

    def _gap(self, i: int, j: int) -> float:
        near = [term for term in self.terms if i in term[0] or j in term[0]]
        players = sorted({p for members, _, _ in near for p in members} | {i, j})
        place = {p: k for k, p in enumerate(players)}
        terms = tuple((tuple(place[p] for p in ms), kind, w) for ms, kind, w in near)
        main = self.main[players]
        local = Planted(len(players), 0, terms, main, np.zeros((len(players), len(players))))
        names = {"all": len(players)}
        if len(players) < 2:
            return 0.0
        game = TokenGame.from_callable(local, names, batch_size=4096)
        scores = redundancy_gaps(game, 2 ** len(players), "exact", pairs=[(place[i], place[j])])
        return float(scores.value[0])


def planted(
    seed: int,
    text: int = 64,
    image: int = 196,
    n_terms: int = 36,
    orders: tuple[int, ...] = (2, 3, 4),
    kinds: tuple[str, ...] = KINDS,
    within: float = 0.0,
    across: float = 0.0,
    most_terms_of_a_player: int = 3,
) -> Planted:
    """Draws a game: as many terms of each order, weights of random sign and size U(.5, 1.5).

    XOR joins two players only: a parity of three has no pair interaction, and one of four leaves no
    trace in any lower order, so that nothing short of a search through all quadruples finds it.
    Every term joins both modalities. A third of the players has a main effect N(0, .5^2).

    Args:
        seed: of everything.
        text: players.
        image: players.
        n_terms: in all.
        orders: of the terms.
        kinds: of the terms.
        within: standard deviation of the normal SII that *every* pair within a modality has beside.
        across: the same for every pair across modalities.
        most_terms_of_a_player: keeps the neighbourhood of a pair small enough for exact gaps.
    """
    rng = np.random.default_rng(seed)
    n = text + image
    used = np.zeros(n, dtype=int)
    terms = []
    while len(terms) < n_terms:
        order = orders[len(terms) % len(orders)]
        choices = [k for k in kinds if k != "xor" or order == 2]
        kind = choices[rng.integers(len(choices))]
        of_text = int(rng.integers(1, order))
        members = np.concatenate(
            [
                rng.choice(text, of_text, replace=False),
                text + rng.choice(image, order - of_text, replace=False),
            ]
        )
        if (used[members] >= most_terms_of_a_player).any():
            continue
        used[members] += 1
        weight = float(rng.uniform(0.5, 1.5) * rng.choice([-1, 1]))
        terms.append((tuple(int(p) for p in np.sort(members)), kind, weight))
    main = np.where(rng.random(n) < 1 / 3, rng.normal(size=n) * 0.5, 0.0)
    modality = np.arange(n) < text
    spread = np.where(modality[:, None] == modality, within, across) / 4.0
    dense = np.triu(rng.normal(size=(n, n)) * spread, k=1)
    return Planted(text, image, tuple(terms), main, dense)


def _term(z: np.ndarray, kind: str) -> np.ndarray:
    if kind == "and":
        return z.all(axis=1).astype(float)
    if kind == "or":
        return z.any(axis=1).astype(float)
    return (z.sum(axis=1) % 2).astype(float)

"""Shares of the variance of v(S) by order: closed forms, plain sums, and errors that hold."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.explain import interaction_share
from fli2moe.explain.probes.share import (
    InteractionShare,
    _odd_interactions,
    _pair_power,
    walsh_hadamard,
)
from tests.explain.games import Function, halves, random_table, tanh_network

ORDERS = {"main": "standard_error", "pairs": "pairs_error", "higher": "higher_error"}
Terms = Mapping[tuple[int, ...], float]


def chi_game(terms: Terms) -> Function:
    """v = the sum of products of chi_i = +1 where i is present, -1 where it is not."""

    def f(z: Tensor) -> Tensor:
        chi = 2 * z.double() - 1
        return torch.stack([c * chi[:, list(t)].prod(dim=1) for t, c in terms.items()]).sum(dim=0)

    return f


def shares_of(terms: Terms) -> dict[str, float]:
    """The closed form: products are orthonormal, so that squares of coefficients are variances."""
    power = dict.fromkeys(ORDERS, 0.0)
    for term, c in terms.items():
        power[list(ORDERS)[min(len(term), 3) - 1]] += c**2
    return {order: p / sum(power.values()) for order, p in power.items()}


def drawn(n: int, pairs: int = 0, triples: int = 0, quadruples: int = 0) -> Terms:
    generator = np.random.default_rng(n)
    terms = {(i,): float(generator.normal()) for i in range(n)}
    for order, count in ((2, pairs), (3, triples), (4, quadruples)):
        for _ in range(count):
            members = generator.choice(n, order, replace=False).tolist()
            terms[tuple(sorted(members))] = float(generator.normal())
    return terms


def errors_of(share: InteractionShare) -> list[float]:
    return [getattr(share, error) for error in ORDERS.values()]


def test_exact_shares_are_the_closed_form():
    terms = {**drawn(8, 5, 4, 3), (0, 1, 2, 3, 4, 5): 2.0}
    found = interaction_share(halves(chi_game(terms), 8))
    for order, share in shares_of(terms).items():
        assert getattr(found, order) == pytest.approx(share)
    assert found.interactions == pytest.approx(1 - found.main)
    assert errors_of(found) == [0, 0, 0]
    assert found.evaluations == 2**8


def test_coefficients_are_means_of_v_times_the_product():
    f = random_table(5, 0)
    codes = [tuple(reversed(bits)) for bits in product((False, True), repeat=5)]  # player 0 first
    z = torch.tensor(codes)
    values, chi = f(z)[:, 0].numpy(), np.where(z.numpy(), 1.0, -1.0)
    expected = [np.mean(values * chi[:, z[t].numpy()].prod(axis=1)) for t in range(32)]
    assert walsh_hadamard(values) == pytest.approx(np.array(expected))


def test_a_game_that_never_varies_has_no_shares():
    for n, budget in ((6, None), (40, 100)):
        found = interaction_share(halves(lambda z: torch.full((len(z),), 3.0), n), budget)
        assert np.isnan([found.interactions, found.main, found.pairs, found.higher]).all()
    assert np.isnan(errors_of(found)).all()  # an estimate; a constant is known where exact


def test_shares_stay_when_the_score_is_shifted_and_scaled():
    f = chi_game(drawn(20, 10, 5, 5))
    plain = interaction_share(halves(f, 20), 300, 3)
    moved = interaction_share(halves(lambda z: 100 - 7 * f(z), 20), 300, 3)
    for field in ("interactions", *ORDERS, *ORDERS.values()):
        assert getattr(moved, field) == pytest.approx(getattr(plain, field), abs=1e-9)
    assert plain.main + plain.pairs + plain.higher == pytest.approx(1)


@pytest.mark.parametrize("terms", [drawn(40), {(i,): 1.0 for i in range(98)}], ids=["40", "98"])
def test_an_additive_game_has_no_interactions(terms: Terms):
    n = len(terms)
    found = interaction_share(halves(chi_game(terms), n), 500)
    assert found.main == pytest.approx(1, abs=1e-3)
    assert found.pairs == pytest.approx(0, abs=1e-9)
    assert found.higher == pytest.approx(0, abs=1e-3)


def sample(n: int = 9, rows: int = 14) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    generator = np.random.default_rng(0)
    return np.where(generator.random((rows, n)) < 0.5, 1.0, -1.0), generator.normal(size=rows)


def products(chi: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, pairs) all products chi_i chi_j."""
    return np.stack([chi[:, i] * chi[:, j] for i, j in combinations(range(chi.shape[1]), 2)], 1)


def squared_mean(rows: NDArray[np.float64]) -> float:
    """|E[x]|^2 without bias: the mean of x . x' over different rows."""
    n = len(rows)
    return float(np.mean([rows[a] @ rows[b] for a in range(n) for b in range(n) if a != b]))


def test_odd_interactions_are_the_plain_u_statistic_with_each_mask_left_out():
    chi, residual = sample()

    def plain(keep: NDArray[np.bool_]) -> float:
        r = residual[keep]
        return float(np.mean(r**2)) - squared_mean(r[:, None] * chi[keep])

    whole, without = _odd_interactions(residual, chi)
    every = np.ones(len(chi), dtype=np.bool_)
    assert whole == pytest.approx(plain(every))
    rows = np.arange(len(chi))
    assert without == pytest.approx(np.array([plain(rows != i) for i in rows]))


def test_the_power_of_pairs_is_the_plain_sum_with_each_mask_left_out():
    chi, even = sample()
    held = np.arange(len(chi)) % 2 == 0
    seen, fit_on = products(chi)[~held], even[~held]
    pairs = seen.shape[1]  # the ridge is one mask's own kernel, the number of pairs
    beta = np.linalg.solve(seen.T @ seen + pairs * np.eye(pairs), seen.T @ fit_on)

    def plain(keep: NDArray[np.bool_]) -> float:
        x, y = products(chi)[keep], even[keep]
        rest = (y - x @ beta)[:, None] * x
        return float(2 * np.mean(y * (x @ beta)) - beta @ beta + squared_mean(rest))

    whole, without = _pair_power(chi, even, held)
    assert whole == pytest.approx(plain(held))
    rows = np.flatnonzero(held)
    left_out = [plain(held & (np.arange(len(chi)) != i)) for i in rows]
    assert without == pytest.approx(np.array(left_out))


GAMES = {
    "14, pairs": (14, drawn(14, 30)),
    "14, all orders": (14, drawn(14, 10, 10, 10)),
    "40, pairs": (40, drawn(40, 30)),
    "40, all orders": (40, drawn(40, 20, 15, 15)),
    "98, all orders": (98, drawn(98, 40, 30, 30)),
}


def check(f: Function, n: int, truth: Mapping[str, float], seeds: int) -> None:
    """No bias beyond three standard errors; intervals of two hold nine times in ten or more."""
    game = halves(f, n, batch_size=4096)
    found = [interaction_share(game, 500, seed) for seed in range(seeds)]
    for order, error in ORDERS.items():
        values = np.array([getattr(share, order) for share in found])
        errors = np.array([getattr(share, error) for share in found])
        spread = values.std(ddof=1)
        assert values.mean() == pytest.approx(truth[order], abs=3 * spread / seeds**0.5)
        assert np.mean(np.abs(values - truth[order]) <= 1.96 * errors) >= 0.9
        assert errors.mean() > 0.85 * spread  # honest; it may be up to twice as large
        assert errors.mean() < 2 * spread


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_shares_by_order_are_unbiased_and_their_errors_hold(name: str):
    n, terms = GAMES[name]
    check(chi_game(terms), n, shares_of(terms), 100)


@pytest.mark.slow
def test_shares_of_a_network_are_unbiased_and_their_errors_hold():
    f = tanh_network(14, 0)
    exact = interaction_share(halves(f, 14, batch_size=4096))
    check(f, 14, {order: getattr(exact, order) for order in ORDERS}, 100)

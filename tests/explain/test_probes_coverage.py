"""Intervals of audited pairs hold what they promise, in games that are hard for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from fli2moe.explain import exact_interactions, pair_interactions

from .games import (
    Function,
    added,
    all_of,
    any_of,
    halves,
    log_sum,
    main_effects,
    random_table,
    tanh_network,
)

BUDGET = 600
REPEATS = {"sparse": 40, "quadblock": 20, "kernel": 20}
"""Probes of each game, of four to ten audited pairs each; fitting takes up to half a second."""


@dataclass(frozen=True, eq=False)
class Case:
    """A game of which the players `inside` play and the others are null, with its exact scores."""

    f: Function
    n: int
    sii: NDArray[np.float64]
    gap: NDArray[np.float64]


def case(f: Function, n: int, inside: int | None = None) -> Case:
    """`inside` players of f, half of them text, among n; the others have no part."""
    inside = inside or n
    members = [*range(inside // 2), *range(n // 2, n // 2 + inside - inside // 2)]
    exact = exact_interactions(halves(f, inside))
    tables = []
    for scores in (exact.sii, exact.redundancy):
        table = np.zeros((n, n))
        places = np.array(members)
        table[places[scores.first], places[scores.second]] = scores.value
        tables.append(table)
    return Case(lambda z: f(z[:, members]), n, *tables)


def _table_and_structure() -> Function:
    table, main = random_table(10, 0), np.random.default_rng(1).normal(size=10)
    return added(
        lambda z: 0.5 * table(z)[:, 0],
        lambda z: 2 * all_of(0, 5)(z),
        lambda z: 1.5 * any_of(1, 6)(z),
        lambda z: -any_of(2, 3, 7)(z),
        main_effects(main),
    )


CASES = {
    "random table and structure": lambda: case(_table_and_structure(), 10),
    "nine-way OR": lambda: case(any_of(*range(9)), 24, 9),
    "twelve-way AND": lambda: case(all_of(*range(12)), 24, 12),
    "concave": lambda: case(log_sum, 12),
    "network": lambda: case(lambda z: tanh_network(12, 0)(z)[:, 0], 12),
}


def test_the_exact_scores_are_those_of_the_closed_form():
    conjunction, disjunction = CASES["twelve-way AND"](), CASES["nine-way OR"]()
    assert conjunction.sii[0, 12] == pytest.approx(1 / 11)
    assert conjunction.sii[0, 23] == 0.0
    assert disjunction.sii[0, 12] == pytest.approx(-1 / 8)
    assert disjunction.gap[0, 12] == pytest.approx(1 / 8)


@pytest.mark.slow
@pytest.mark.parametrize("method", REPEATS)
@pytest.mark.parametrize("name", CASES)
def test_nominal_95_percent_intervals_of_audited_pairs_cover_90(name, method):
    known = CASES[name]()
    hits: dict[str, list[bool]] = {"SII": [], "redundancy_gap": []}
    for seed in range(REPEATS[method]):
        game = halves(known.f, known.n, batch_size=4096, head_names=("score",))
        found = pair_interactions(game, BUDGET, method, seed=5000 + seed)
        for table, truth in ((found.sii, known.sii), (found.redundancy, known.gap)):
            audited = table.columns["audited"] == 1
            assert audited.any()
            error = np.abs(table.value - truth[table.first, table.second])[audited]
            bound = 1.96 * table.standard_error[audited] + 1e-9
            hits[table.index] += (error <= bound).tolist()  # an error of NaN covers nothing
    assert {index: bool(np.mean(hit) >= 0.9) for index, hit in hits.items()} == {
        "SII": True,
        "redundancy_gap": True,
    }, {index: round(float(np.mean(hit)), 3) for index, hit in hits.items()}

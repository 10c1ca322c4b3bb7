"""Known answers of every method: games whose scores follow from the definitions."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fli2moe.explain import (
    Interactions,
    exact_interactions,
    pair_interactions,
    redundancy_gaps,
    shapley_interactions,
)
from fli2moe.explain.probes.exact import value_table

from .games import (
    Function,
    Planted,
    added,
    all_of,
    any_of,
    halves,
    log_sum,
    main_effects,
    moebius,
    odd_of,
    random_table,
    tanh_network,
)

SAMPLERS = ("monte_carlo", "direct")
SCREENS = ("sparse", "quadblock", "kernel", "auto")
METHODS = ("exact", *SAMPLERS, *SCREENS)
BUDGET = {**dict.fromkeys(METHODS, 1200), "kernel": 500, "auto": 500}
ASKED = [(0, 12), (1, 13), (5, 17), (0, 5)]  # of 24 players, the first 12 of them text
ERRORS = 4.0  # standard errors; a hundred estimates pass with probability .99


def probed(f: Function, method: str) -> Interactions:
    """Both scores of a game of 24 players; `exact` sees those of `SMALL` only."""
    if method == "exact":
        small = halves(f, 24).grouped(SMALL)
        return exact_interactions(small, [(PLACE[i], PLACE[j]) for i, j in ASKED])
    pairs = ASKED if method in SAMPLERS else None
    return pair_interactions(halves(f, 24, batch_size=4096), BUDGET[method], method, pairs, seed=0)


SMALL = [
    *([0], [1], [2], [5], [3, 4, 6, 7, 8, 9, 10, 11]),
    *([12], [13], [14], [17], [15, 16, 18, 19, 20, 21, 22, 23]),
]
PLACE = {group[0]: k for k, group in enumerate(SMALL)}


def of(
    found: Interactions, method: str, pair: tuple[int, int]
) -> tuple[float, float, float, float]:
    """(SII, its error, gap, its error) of one pair of the 24 players; a missing gap is NaN."""
    i, j = (PLACE[p] for p in pair) if method == "exact" else pair
    here = []
    for table in (found.sii, found.redundancy):
        rows = np.flatnonzero((table.first == i) & (table.second == j))
        row = int(rows[0]) if len(rows) else None
        here += [np.nan] * 2 if row is None else [table.value[row], table.standard_error[row]]
    return tuple(here)


def close(value: float, truth: float, error: float) -> bool:
    return bool(abs(value - truth) <= ERRORS * error + 1e-9)


KNOWN = {
    "AND": (all_of(0, 12), 1.0, 0.0),
    "OR": (any_of(0, 12), -1.0, 1.0),
    "presence XOR": (odd_of(0, 12), -2.0, 0.0),
    "three-way AND": (all_of(0, 12, 13), 0.5, 0.0),
    "three copies": (any_of(0, 12, 13), -0.5, 0.5),
    "four-way AND": (all_of(0, 1, 12, 13), 1 / 3, 0.0),
    "four copies": (any_of(0, 1, 12, 13), -1 / 3, 1 / 3),
    "six copies": (any_of(0, 1, 2, 12, 13, 14), -1 / 5, 1 / 5),
    "three-way parity": (odd_of(0, 12, 13), 0.0, 0.0),
    "AND and OR apart": (added(all_of(0, 12), any_of(1, 13)), 1.0, 0.0),
    "capped sum": (lambda z: (0.6 * z[:, [0, 12]].double().sum(dim=1)).clamp(max=1.0), -0.2, 0.2),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", KNOWN)
def test_known_answers(name, method):
    f, sii, gap = KNOWN[name]
    value, error, found_gap, gap_error = of(probed(f, method), method, (0, 12))
    assert close(value, sii, error)
    assert close(found_gap, gap, gap_error)
    assert error < 0.6  # else anything would pass
    assert gap_error < 0.6
    assert (error == gap_error == 0.0) == (method == "exact")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["AND", "four copies", "capped sum"])
def test_a_negated_game_has_the_negated_interaction_and_the_same_gap(name, method):
    f = KNOWN[name][0]
    plain = probed(f, method)
    negated = probed(lambda z: -f(z), method)
    np.testing.assert_allclose(negated.sii.value, -plain.sii.value, atol=1e-6)
    if method in (*SAMPLERS, "exact"):  # same contexts; a shortlist differs
        np.testing.assert_allclose(negated.redundancy.value, plain.redundancy.value, atol=1e-12)
        for mine, other in (("positive", "negative"), ("negative", "positive")):
            np.testing.assert_allclose(
                negated.redundancy.columns[mine], plain.redundancy.columns[other], atol=1e-12
            )
    _, _, gap, error = of(negated, method, (0, 12))
    assert close(gap, KNOWN[name][2], error)


@pytest.mark.parametrize("method", METHODS)
def test_an_additive_game_has_neither(method):
    weights = np.random.default_rng(0).normal(size=24)
    found = probed(main_effects(weights), method)
    for table in (found.sii, found.redundancy):
        np.testing.assert_allclose(table.value, 0.0, atol=1e-4)
        assert not np.isnan(table.standard_error).any()


@pytest.mark.parametrize("method", METHODS)
def test_null_players_score_nothing_within_the_error(method):
    f = added(all_of(0, 12), any_of(1, 13), main_effects(np.eye(24)[3]))
    found = probed(f, method)
    for pair in ((5, 17), (0, 5)) if method in (*SAMPLERS, "exact") else ((5, 17), (4, 16)):
        value, error, gap, gap_error = of(found, method, pair)
        assert close(value, 0.0, error)
        assert np.isnan(gap) or close(gap, 0.0, gap_error)


@pytest.mark.parametrize("method", METHODS)
def test_symmetric_players_score_alike(method):
    """Players 0 and 1, and 12 and 13, can be exchanged."""
    f = added(all_of(0, 12), all_of(1, 13), any_of(0, 1, 12, 13))
    found = probed(f, method)
    first, second = (of(found, method, pair) for pair in ((0, 12), (1, 13)))
    assert close(first[0], second[0], float(np.hypot(first[1], second[1])))
    assert close(first[2], second[2], float(np.hypot(first[3], second[3])))
    truth = 1 - 1 / 3
    assert close(first[0], truth, first[1])
    assert close(second[0], truth, second[1])


@pytest.mark.parametrize("method", [*SAMPLERS, *SCREENS])
def test_relabelled_players_score_alike_within_the_errors(method):
    f = added(all_of(0, 12), any_of(1, 13), main_effects(np.linspace(-1, 1, 24)))
    order = np.random.default_rng(3).permutation(12)
    order = np.concatenate([order, 12 + order])
    moved = probed(lambda z: f(z[:, order]), method)  # column k takes the place of order[k]
    for pair, sii, gap in (((0, 12), 1.0, 0.0), ((1, 13), -1.0, 1.0)):
        there = int(order[pair[0]]), int(order[pair[1]])
        if method in SAMPLERS:
            game = halves(lambda z: f(z[:, order]), 24)
            moved = pair_interactions(game, BUDGET[method], method, [there], seed=5)
        value, error, found_gap, gap_error = of(moved, method, there)
        assert close(value, sii, error)
        # The main effects weaken or strengthen each player of the pair: only AND's gap is zero.
        assert sii < 0 or close(found_gap, gap, gap_error)


@pytest.mark.parametrize("n", [4, 6, 9])
def test_all_interactions_of_a_random_table_sum_to_half_the_dividends_sizes(n):
    """A dividend m_T gives m_T / (|T| - 1) to each of |T| (|T| - 1) / 2 pairs: |T| / 2 in all."""
    game = halves(random_table(n, n), n)
    dividends = value_table(game)[:, 0].copy()
    codes = np.arange(2**n)
    for p in range(n):  # Moebius transform
        inside = codes[codes >> p & 1 == 1]
        dividends[inside] -= dividends[inside ^ (1 << p)]
    sizes = np.array([int(code).bit_count() for code in codes])
    pairs = list(combinations(range(n), 2))
    total = exact_interactions(game, pairs).sii.value.sum()
    assert total == pytest.approx(float((dividends * sizes / 2)[sizes >= 2].sum()), abs=1e-9)
    # Under `banzhaf` a pair of T gets m_T / 2^(|T| - 2).
    share = np.array([comb(int(s), 2) * 0.5 ** (int(s) - 2) if s > 1 else 0.0 for s in sizes])
    banzhaf = exact_interactions(game, pairs, "banzhaf").sii.value.sum()
    assert banzhaf == pytest.approx(float(dividends @ share), abs=1e-9)


def test_only_terms_of_the_pair_count():
    """SII is linear: that of a sum is the sum, whatever else is in the game."""
    rest = tanh_network(10, 1)
    parts = [moebius({(0, 5): 1.0, (0, 5, 6): 0.5}), lambda z: rest(z)[:, 0], log_sum]
    pairs = [(0, 5), (0, 6), (1, 2)]
    alone = [exact_interactions(halves(part, 10), pairs).sii.value for part in parts]
    together = exact_interactions(halves(added(*parts), 10), pairs).sii.value
    np.testing.assert_allclose(together, sum(alone), atol=1e-12)


@st.composite
def moebius_terms(draw, n, most):
    """Terms {members: weight} of up to four of n players."""
    members = st.sets(st.integers(0, n - 1), min_size=1, max_size=4)
    weights = st.floats(0.25, 2) | st.floats(-2, -0.25)
    term = members.map(lambda s: tuple(sorted(s)))
    return draw(st.dictionaries(term, weights, min_size=1, max_size=most))


def truth_of(terms: dict[tuple[int, ...], float], pair: tuple[int, int]) -> float:
    """SII_ij = sum over T containing i, j of m_T / (|T| - 1)."""
    return sum(w / (len(t) - 1) for t, w in terms.items() if set(pair) <= set(t))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 8), st.data())
def test_moebius_games_of_any_size_match_the_closed_form(n, data):
    terms = data.draw(moebius_terms(n, 8))
    pairs = list(combinations(range(n), 2))
    values = exact_interactions(halves(moebius(terms), n), pairs).sii.value
    expected = [truth_of(terms, pair) for pair in pairs]
    np.testing.assert_allclose(values, expected, atol=1e-9)


@pytest.mark.parametrize("method", ["sparse", "quadblock"])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(terms=moebius_terms(24, 5))
def test_sparse_moebius_games_are_found_within_the_errors(method, terms):
    game = halves(moebius(terms), 24, batch_size=4096)
    table = shapley_interactions(game, 2500, method)
    pairs = zip(table.first.tolist(), table.second.tolist(), strict=True)
    truth = np.array([truth_of(terms, pair) for pair in pairs])
    assert (np.abs(table.value - truth) <= ERRORS * table.standard_error + 1e-9).all()
    assert np.mean((table.value - truth) ** 2) <= 1e-3  # whatever the errors


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [5, 8])
def test_exact_interactions_are_those_of_shapiq(n, seed):
    reason = "shapiq is not installed: pip install 'fli2moe[shapiq]'"
    shapiq = pytest.importorskip("shapiq", reason=reason)
    game = halves(random_table(n, seed), n)
    theirs = shapiq.ExactComputer(game, n_players=n)("SII", 2)
    pairs = list(combinations(range(n), 2))
    ours = exact_interactions(game, pairs).sii.value
    np.testing.assert_allclose(ours, [theirs[pair] for pair in pairs], atol=1e-9)


def test_the_closed_form_of_planted_games_is_exact():
    terms = (((0, 4), "xor", 0.7), ((0, 1, 5), "or", -1.2), ((1, 2, 4, 6), "and", 0.9))
    game = Planted({"text": 4, "image": 4}, terms, np.linspace(-1, 1, 8))
    scores = exact_interactions(game.game()).sii
    np.testing.assert_allclose(scores.value, game.sii()[scores.first, scores.second], atol=1e-12)


@pytest.mark.parametrize("method", SCREENS)
def test_the_gap_of_a_copy_is_its_effect_whatever_its_sign(method):
    for sign in (1.0, -1.0):
        game = halves(lambda z, s=sign: s * any_of(0, 12)(z), 24)
        best = redundancy_gaps(game, BUDGET[method], method)
        row = int(np.argmax(best.value))
        assert (best.first[row], best.second[row]) == (0, 12)
        assert close(best.value[row], 1.0, best.standard_error[row])
        one, none = ("positive", "negative") if sign > 0 else ("negative", "positive")
        assert close(best.columns[one][row], 1.0, best.columns[f"{one}_error"][row])
        assert best.columns[none][row] <= 1e-6
        assert close(best.columns["overlap"][row], 1.0, best.columns["overlap_error"][row])

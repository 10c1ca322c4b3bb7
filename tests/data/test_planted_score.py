"""The planted score against the exact probes, which enumerate every coalition."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fli2moe.data.planted_score import KINDS, PlantedScore, Term
from fli2moe.explain import TokenGame, shapley_interactions
from fli2moe.explain.probes.share import interaction_share, walsh_hadamard

P = 7


def game_of(score: PlantedScore) -> TokenGame:
    return TokenGame.from_callable(score, {"first": 3, "second": score.players - 3})


@st.composite
def scores(draw: st.DrawFn) -> PlantedScore:
    """A few overlapping terms of up to five of seven players."""
    members = st.lists(st.integers(0, P - 1), min_size=1, max_size=5, unique=True).map(tuple)
    weight = st.sampled_from([-2.0, -0.5, 1.0, 1.5])
    term = st.builds(Term, members, st.sampled_from(KINDS), weight)
    return PlantedScore(P, tuple(draw(st.lists(term, min_size=1, max_size=4))))


def table_of(score: PlantedScore) -> np.ndarray:
    """v of every coalition; bit i of its number says whether player i is present."""
    codes = torch.arange(2**score.players)
    return score((codes[:, None] >> torch.arange(score.players) & 1).bool()).numpy()


@settings(max_examples=25, deadline=None)
@given(scores())
def test_coefficients_are_the_transform_of_the_whole_table(score):
    expected = walsh_hadamard(table_of(score))
    found = np.zeros(2**P)
    for subset, value in score.coefficients().items():
        found[sum(1 << i for i in subset)] += value
    assert np.allclose(found, expected, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(scores())
def test_shares_and_interactions_are_those_of_exact_enumeration(score):
    truth, measured = score.shares(), interaction_share(game_of(score))
    for name in ("main", "pairs", "higher", "interactions"):
        assert getattr(truth, name) == pytest.approx(getattr(measured, name), abs=1e-9, nan_ok=True)
    exact = shapley_interactions(
        game_of(score), 2**P, "exact", pairs=list(combinations(range(P), 2))
    )
    by_pair = score.interactions()
    for i, j, value in zip(exact.first, exact.second, exact.value, strict=True):
        assert by_pair.get((int(i), int(j)), 0.0) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("term", "main", "pairs", "higher"),
    [
        (Term((2,), "and"), 1.0, 0.0, 0.0),
        (Term((2,), "or", -3.0), 1.0, 0.0, 0.0),
        (Term((0, 1), "and"), 2 / 3, 1 / 3, 0.0),
        (Term((1, 0), "or"), 2 / 3, 1 / 3, 0.0),
        (Term((0, 1), "xor"), 0.0, 1.0, 0.0),
        (Term((0, 1, 2), "and"), 3 / 7, 3 / 7, 1 / 7),
        (Term((0, 1, 2), "xor", 0.1), 0.0, 0.0, 1.0),
    ],
)
def test_known_shares(term, main, pairs, higher):
    """By hand: an AND of m has 2^-m on each of its 2^m - 1 subsets, an XOR all on one."""
    shares = PlantedScore(300, (term,)).shares()
    assert (shares.main, shares.pairs, shares.higher) == pytest.approx((main, pairs, higher))


def test_orders_of_separate_terms_add_up_and_those_of_equal_ones_cancel():
    """An effect of 1 has variance 1/4, an XOR of weight 1 as much."""
    both = PlantedScore(260, (Term((3,)), Term((7, 259), "xor"))).shares()
    assert (both.main, both.interactions) == pytest.approx((0.5, 0.5))
    # x + y - x AND y = x OR y
    zero = PlantedScore(
        9, (Term((1,)), Term((4,)), Term((1, 4), "and", -1.0), Term((4, 1), "or", -1.0))
    )
    assert np.isnan(zero.shares().main)
    assert np.isnan(PlantedScore(9, ()).shares().interactions)
    assert (zero(torch.rand(20, 9) < 0.5) == 0).all()


def test_the_estimate_for_many_players_covers_the_truth():
    rng = np.random.default_rng(0)
    terms = [Term((i,), weight=float(rng.normal())) for i in range(30)]
    for kind in ("and", "or", "xor"):
        for order in (2, 2, 3):
            members = tuple(int(p) for p in rng.choice(40, order, replace=False))
            terms.append(Term(members, kind, float(rng.uniform(1, 2))))
    score = PlantedScore(40, tuple(terms))
    found, truth = interaction_share(game_of(score), 4000, seed=1), score.shares()
    assert 0.1 < truth.interactions < 0.9
    assert abs(found.interactions - truth.interactions) < 4 * found.standard_error
    assert abs(found.pairs - truth.pairs) < 4 * found.pairs_error
    assert found.standard_error < 0.05


@pytest.mark.parametrize(
    ("term", "found", "expected"),
    [
        (Term(()), "players ()", "1 to 12 different players"),
        (Term(tuple(range(13))), "players (0, 1", "1 to 12"),
        (Term((1, 1)), "players (1, 1)", "different"),
        (Term((1, 20)), "player 20", "0 to 19"),
        (Term((-1,)), "player -1", "0 to 19"),
        (Term((1,), "xr"), "'xr'", "and, or, xor"),
        (Term((1,), weight=float("nan")), "weight nan", "a finite number"),
    ],
)
def test_bad_terms(fault, term, found, expected):
    fault(
        lambda: PlantedScore(20, (Term((0,)), term)),
        where=["planted score, term 1"],
        found=[found],
        expected=[expected],
    )


def test_coalitions_of_another_width(fault):
    score = PlantedScore(4, (Term((0,)),))
    fault(lambda: score(torch.ones(2, 5, dtype=torch.bool)), found=["(2, 5)"], expected=["(N, 4)"])

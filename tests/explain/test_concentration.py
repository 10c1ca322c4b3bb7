"""Measures of concentration and overlap: hand-computed, and against plain definitions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import e, isnan, log, nan
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from fli2moe.errors import InputError
from fli2moe.explain.concentration import (
    chance_overlap,
    gini,
    normalised_entropy,
    rank_correlation,
    top_count,
    top_overlap,
    top_share,
)

ONE = (gini, normalised_entropy, top_share)
TWO = (top_overlap, rank_correlation)

importances = st.lists(st.integers(-4, 4), min_size=2, max_size=9).filter(any)


def test_even_and_single_holders():
    even, single = np.ones(20), np.eye(20)[3]
    assert (gini(even), normalised_entropy(even), top_share(even)) == pytest.approx((0, 1, 0.1))
    assert (gini(single), normalised_entropy(single), top_share(single)) == (0.95, 0, 1)


def test_hand_computed():
    x = np.array([1.0, 0, 3, 0])
    assert gini(x) == pytest.approx((1 * 1 + 3 * 3) / (4 * 4))  # ranks 3 and 4 of 4
    assert normalised_entropy(x) == pytest.approx((0.25 * log(4) + 0.75 * log(4 / 3)) / log(4))
    assert top_share(x) == 0.75  # one token at least
    assert top_share(x, percent=50) == 1


@given(importances)
def test_gini_is_half_the_mean_difference_over_the_mean(values: list[int]):
    x = np.abs(values)
    expected = fmean(abs(a - b) for a in x for b in x) / 2 / fmean(x)
    assert gini(np.array(values)) == pytest.approx(expected)


@given(importances, st.randoms(use_true_random=False), st.sampled_from([1e-200, 1e-9, 7.0]))
def test_neither_order_nor_sign_nor_scale_matter(values: list[int], random: Any, scale: float):
    other = [v * random.choice([-1, 1]) for v in values]
    random.shuffle(other)
    for measure in ONE:
        expected = measure(np.array(values))
        assert measure(np.array(other) * scale) == pytest.approx(expected)
        assert 0 <= expected <= 1 + 1e-12


@pytest.mark.parametrize("measure", ONE)
@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0, 0.0]])
def test_nothing_to_concentrate_is_not_a_number(measure: Callable[..., float], values: Any):
    assert isnan(measure(np.array(values)))


def test_overlap_of_tops():
    first, second = np.arange(30.0), np.arange(30.0)
    assert top_overlap(first, second) == 1
    second[27:] = -1  # the top three of the first; that of the second is 24, 25, 26
    assert top_overlap(first, second) == 0
    second[29] = 99
    assert top_overlap(first, second) == pytest.approx(1 / 5)
    assert top_overlap(-first, -first) == 1
    assert top_overlap(first, -first) == 0  # what speaks for the target, not magnitudes


def tops(x: np.ndarray, k: int) -> list[set[int]]:
    """Every set of k tokens such that none outside is larger than one inside."""
    sets = [set(s) for s in combinations(range(len(x)), k)]
    return [s for s in sets if min(x[list(s)]) >= max(np.delete(x, list(s)), default=-99)]


@given(st.data())
def test_ties_overlap_as_if_broken_by_chance(data: Any):
    size = data.draw(st.integers(2, 7))
    values = st.lists(st.integers(0, 2), min_size=size, max_size=size)
    values = values.filter(lambda v: len(set(v)) > 1)
    first, second = (np.array(data.draw(values)) for _ in range(2))
    k = top_count(size, 40)
    both = fmean(len(a & b) for a in tops(first, k) for b in tops(second, k))
    assert top_overlap(first, second, percent=40) == pytest.approx(both / (2 * k - both))


def test_two_experts_that_find_nothing_in_common_but_zeros_do_not_agree():
    first, second = np.zeros(100), np.zeros(100)
    first[90], second[91] = 1, 1  # nine of the top ten are ties at 0
    assert top_overlap(first, second) == pytest.approx(0.06, abs=0.02)


@pytest.mark.parametrize("size", [1, 2, 7, 11])
def test_chance_is_the_mean_over_all_choices(size: int):
    k = top_count(size, 30)
    sets = [set(s) for s in combinations(range(size), k)]
    expected = fmean(len(a & b) / len(a | b) for a in sets for b in sets)
    assert chance_overlap(size, 30) == pytest.approx(expected)


def test_chance_of_a_picture():
    drawn = np.random.default_rng(0).random((4000, 2, 49))
    found = np.mean([top_overlap(a, b) for a, b in drawn])
    assert found == pytest.approx(chance_overlap(49), abs=0.005)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=9))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, int]]):
    first, second = np.array(pairs).T
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert isnan(rank_correlation(first, second))
    else:
        expected = spearmanr(first, second).statistic
        assert rank_correlation(first, second) == pytest.approx(expected)


@pytest.mark.parametrize("measure", TWO)
@pytest.mark.parametrize(
    ("first", "second"),
    [([], []), ([1.0], [2.0]), ([1.0, 1, 1], [1.0, 2, 3]), ([1.0, 2], [0.0, 0])],
)
def test_what_ranks_nothing_is_not_compared(measure: Callable[..., float], first: Any, second: Any):
    assert isnan(measure(np.array(first), np.array(second)))


def test_tops_have_one_token_at_least():
    assert [top_count(n) for n in (1, 10, 11, 49)] == [1, 1, 2, 5]


@pytest.mark.parametrize(
    ("measure", "arguments", "message"),
    [
        (gini, [np.ones((2, 2))], r"shape \(2, 2\); expected one value per token"),
        (top_share, [np.array([1.0, nan])], "NaN or infinite"),
        (top_share, [np.array([1.0, e]), 0], "0%"),
        (top_overlap, [np.ones(2), np.ones(3)], "2 and 3 tokens; expected the same"),
        (rank_correlation, [np.array([1.0, np.inf]), np.ones(2)], "NaN or infinite"),
        (chance_overlap, [0], "0 tokens"),
        (top_count, [5, 101], "101%"),
    ],
)
def test_bad_input_is_one_clear_line(measure: Callable[..., Any], arguments: Any, message: str):
    with pytest.raises(InputError, match=message):
        measure(*arguments)

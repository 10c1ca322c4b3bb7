"""Statistics over samples, against scipy and by hand."""

from __future__ import annotations

from itertools import product
from math import nan, sqrt

import numpy as np
import pytest
from scipy.stats import rankdata
from scipy.stats import wilcoxon as signed_rank

from fli2moe.evaluation.statistics import (
    bootstrap_interval,
    effect_size,
    holm,
    mean_of,
    rank_biserial,
    share_above,
    wilcoxon,
)


def test_wilcoxon_of_few_differences_is_that_of_all_signs():
    values = [1.0, 2.0, -0.5, 3.0, 4.0]
    ranks = {1.0: 2, 2.0: 3, -0.5: 1, 3.0: 4, 4.0: 5}
    seen = sum(ranks[v] for v in values if v > 0)
    sums = [
        sum(r for r, bit in zip(range(1, 6), f"{n:05b}", strict=True) if bit == "1")
        for n in range(32)
    ]
    assert wilcoxon(values) == pytest.approx(sum(s >= seen for s in sums) / 32)
    assert wilcoxon(values, "two-sided") == pytest.approx(2 * sum(s >= seen for s in sums) / 32)
    assert wilcoxon([-v for v in values], "less") == wilcoxon(values)


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 1.0, 1.0, 1.0, -1.0],
        [1.0, 2.0, 2.0, -2.0, 3.0],
        [0.0, 0.0, 1.0, 2.0, 3.0],
        [0.5, 0.5, 1.0, 0.0, 0.0, -0.5],
    ],
)
def test_wilcoxon_of_ties_and_zeros_is_that_of_all_signs(values: list[float]):
    ranks, signs = rankdata(np.abs(values)), np.sign(values)
    free = ranks[signs != 0]
    seen = ranks[signs > 0].sum()
    sums = np.array(
        [free[list(chosen)].sum() for chosen in product([False, True], repeat=len(free))]
    )
    assert wilcoxon(values) == pytest.approx((sums >= seen).mean())
    assert wilcoxon(values, "less") == pytest.approx((sums <= seen).mean())


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize(("n", "method"), [(9, "exact"), (50, "exact"), (51, "asymptotic")])
def test_wilcoxon_is_scipys(alternative: str, n: int, method: str):
    values = np.random.default_rng(n).normal(0.2, size=n)
    theirs = signed_rank(values, alternative=alternative, method=method).pvalue
    assert wilcoxon(values.tolist(), alternative) == pytest.approx(theirs, rel=1e-9)


def test_rank_biserial_by_hand():
    assert rank_biserial([1.0, 2.0, -0.5, 3.0, 4.0]) == pytest.approx((14 - 1) / 15)
    assert rank_biserial([-1.0, -2.0]) == -1.0
    assert rank_biserial([0.0, 1.0, 2.0, -3.0, nan]) == pytest.approx((2 + 3 - 4) / 10)
    assert rank_biserial([0.0, 0.0]) == 0.0
    assert rank_biserial([]) is None


def test_what_cannot_be_tested_has_no_p_value():
    assert wilcoxon([1.0]) is None
    assert wilcoxon([nan, 1.0, nan]) is None
    assert wilcoxon([0.0, 0.0, 0.0]) == 1.0
    assert bootstrap_interval([1.0]) is None
    assert effect_size([2.0, 2.0]) is None
    assert share_above([nan]) is None
    assert np.isnan(mean_of([]))


def test_a_null_effect_is_rejected_about_as_often_as_it_should_be():
    generator = np.random.default_rng(0)
    p = [wilcoxon(generator.normal(size=20)) for _ in range(400)]
    rate = np.mean(np.array(p) < 0.05)
    assert abs(rate - 0.05) < 3 * sqrt(0.05 * 0.95 / 400)


def test_the_bootstrap_covers_the_mean_and_is_seeded():
    generator = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        low, high = bootstrap_interval(generator.normal(3.0, 1.0, size=40), seed)
        hits += low <= 3.0 <= high
    assert hits >= 180
    values = generator.normal(size=10).tolist()
    assert bootstrap_interval(values, 5) == bootstrap_interval([*values, nan], 5)
    assert bootstrap_interval(values, 5) != bootstrap_interval(values, 6)


def test_holm_by_hand():
    assert holm([0.01, 0.04, None, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), None, 0.06]
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_effect_and_share():
    assert effect_size([1.0, 3.0]) == pytest.approx(2 / sqrt(2))
    assert share_above([1.0, -1.0, 0.0, 2.0, nan]) == 0.5

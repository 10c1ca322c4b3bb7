"""Stability of pair rankings: known reliabilities, and which estimates are compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_options import with_options

from fli2moe.data.sample import Dataset
from fli2moe.evaluation.agreement import agree_on_pairs, pairs_of
from fli2moe.evaluation.part import Part
from fli2moe.evaluation.sanity import sanity
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.evaluation.stability import split_half, stability, stability_tables
from fli2moe.explain.scores import PairScores
from fli2moe.features import default_cache
from fli2moe.predictor import Predictor
from fli2moe.tokens import Player

OPTIONS = {"attributions": ("gradient_x_input",), "check_samples": 3, "budget": 50}
PLAYERS = (*(Player("text", (i,)) for i in range(4)), Player("image", (0,)))


def scores(values: dict[int, float]) -> PairScores:
    """Of pairs of a word and the only patch."""
    n = len(values)
    first, found = np.array(list(values), dtype=np.int64), np.array(list(values.values()))
    ones = np.ones(n, dtype=np.int64)
    return PairScores("SII", PLAYERS, first, 4 * ones, ("mixture",) * n, found, np.ones(n), ones)


def test_reliability_has_known_answers():
    a = scores({0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0})
    assert split_half(a, a) == (pytest.approx(1), pytest.approx(1))
    b = scores({0: 0.0, 1: 2.0, 2: 1.0, 3: 3.0})  # r = 1 - 2 / 10 * 1 = .8
    assert split_half(a, b) == (pytest.approx(0.8), pytest.approx(1.6 / 1.8))
    reversed_ = scores({0: 3.0, 1: 2.0, 2: 1.0, 3: 0.0})
    assert split_half(a, reversed_) == (pytest.approx(-1), pytest.approx(-1))
    part = scores({3: 30.0, 2: 20.0, 1: 10.0})  # matched by pair, not by row
    assert split_half(a, part) == (pytest.approx(1), pytest.approx(1))


def test_reliability_of_nothing_is_not_a_number():
    a = scores({0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0})
    for other in (scores({0: 1.0, 1: 1.0, 2: 1.0}), scores({0: 1.0}), scores({})):
        assert np.isnan(split_half(a, other)).all()
        assert np.isnan(split_half(other, a)).all()


@pytest.fixture(scope="module", autouse=True)
def few_players() -> Iterator[None]:
    """Four words and three patches of each sample: with this budget, probes take no time."""
    players = Predictor.players

    def few(self: Predictor, inputs: Any, tokens: Any) -> tuple[Player, ...]:
        found = players(self, inputs, tokens)
        return tuple(
            p
            for m, count in (("text", 4), ("image", 3))
            for p in [p for p in found if p.modality == m][:count]
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "players", few)
        yield


@pytest.fixture(scope="module")
def split(predictor: Predictor, dataset: Dataset, tiny_run: Path) -> TestSplit:
    return run_split(predictor, dataset.test[:3], default_cache(tiny_run))


@pytest.fixture(scope="module")
def small(predictor: Predictor) -> Predictor:
    return with_options(predictor, evaluation=OPTIONS)


@pytest.fixture(scope="module")
def part(small: Predictor, split: TestSplit) -> Part:
    return stability(small, split, 0, None)


def test_figures_are_means_of_estimates_made_by_hand(
    small: Predictor, split: TestSplit, part: Part
):
    summary = json.loads(json.dumps(part.summary, allow_nan=False))
    assert (summary["n"], summary["left_out"], summary["budget"]) == (3, 0, 50)
    seeds, doubled, halves = [], [], []
    for i in range(3):
        own = pairs_of(small, split, i, i, 50)
        for k in (1, 2):
            found = agree_on_pairs(own, pairs_of(small, split, i, i + k, 50))
            seeds.append(found["SII", "spearman"])
        found = agree_on_pairs(own, pairs_of(small, split, i, i + 1, 100))
        doubled.append(found["redundancy_gap", "jaccard"])
        first, second = (pairs_of(small, split, i, i + k, 25)["SII"] for k in (1, 2))
        halves.append(split_half(first, second))
    against = summary["against"]
    assert against["other seeds"]["SII"]["spearman"]["mean"] == pytest.approx(np.mean(seeds))
    gaps = against["double budget"]["redundancy_gap"]["jaccard"]
    assert gaps["n"] == np.isfinite(doubled).sum()
    if gaps["n"]:
        assert gaps["mean"] == pytest.approx(np.nanmean(doubled))
    plain, corrected = np.array(halves).T
    measured = np.isfinite(plain)
    assert measured.any()
    found_plain, found_corrected = summary["reliability"].values()
    assert found_plain["n"] == found_corrected["n"] == measured.sum()
    assert found_plain["mean"] == pytest.approx(plain[measured].mean())
    assert found_corrected["mean"] == pytest.approx(corrected[measured].mean())
    rows = {i: row["stability.sii_reliability"] for i, row in part.rows.items()}
    assert rows == pytest.approx({i: r for i, r in enumerate(corrected.tolist()) if r == r})


def test_estimates_are_shared_with_the_sanity_checks(
    small: Predictor, dataset: Dataset, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
):
    test = run_split(small, dataset.test[:1], default_cache(tiny_run))
    probed: list[tuple[int, int]] = []

    def counted(predictor: Predictor, test: Any, i: int, seed: int, budget: int, *rest: Any) -> Any:
        if predictor is small:
            probed.append((seed, budget))
        return pairs_of(predictor, test, i, seed, budget, *rest)

    monkeypatch.setattr("fli2moe.evaluation.agreement.pairs_of", counted)
    stability(small, test, 0, None)
    wanted = [(0, 50), (1, 25), (1, 50), (1, 100), (2, 25), (2, 50)]
    assert sorted(probed) == wanted
    sanity(small, test, 0, None)
    assert sorted(probed) == wanted


def test_where_all_coalitions_are_asked_everything_comes_out_again(
    small: Predictor, split: TestSplit
):
    exact = with_options(small, evaluation={"budget": 512, "check_samples": 2})
    summary = stability(exact, split, 0, None).summary
    for found in summary["against"].values():
        assert found["SII"]["spearman"]["mean"] == pytest.approx(1)
        assert found["SII"]["jaccard"]["mean"] == pytest.approx(1)
    assert summary["reliability"]["plain"]["mean"] == pytest.approx(1)
    assert summary["reliability"]["corrected"]["mean"] == pytest.approx(1)


def test_what_half_a_budget_cannot_serve_is_not_there(small: Predictor, split: TestSplit):
    found = stability(with_options(small, evaluation={"budget": 30}), split, 0, None)
    json.dumps(found.summary, allow_nan=False)
    assert found.summary["against"]["half budget"] == {}
    assert found.summary["reliability"]["plain"]["mean"] is None
    assert found.summary["against"]["double budget"]["SII"]["spearman"]["n"] > 0
    assert found.rows == {}
    table = stability_tables(found.summary)["Stability of pair rankings"]
    assert table["rows"][1] == ["half budget", None, None, None, None]


def test_samples_without_a_cross_modal_pair_are_left_out_and_counted(
    small: Predictor, dataset: Dataset, tiny_run: Path
):
    samples = [replace(s, inputs={**s.inputs, "text": " "}) for s in dataset.test[:1]]
    test = run_split(small, [*samples, dataset.test[1]], default_cache(tiny_run))
    found = stability(small, test, 0, None)
    assert (found.summary["n"], found.summary["left_out"]) == (1, 1)
    assert found.summary["against"]["other seeds"]["SII"]["spearman"]["standard_error"] is None
    none = run_split(small, samples, default_cache(tiny_run))
    assert stability(small, none, 0, None).summary == {}


def test_tables_hold_the_figures_of_the_summary(part: Part):
    tables = stability_tables(part.summary)
    for table in tables.values():
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
    rankings, reliability = tables.values()
    assert [row[0] for row in rankings["rows"]] == ["other seeds", "half budget", "double budget"]
    sii = part.summary["against"]["other seeds"]["SII"]["spearman"]
    assert rankings["rows"][0][1] == f"{sii['mean']:.3f} ± {sii['standard_error']:.3f}"
    n = part.summary["reliability"]["plain"]["n"]
    assert [row[2] for row in reliability["rows"]] == [n, n]

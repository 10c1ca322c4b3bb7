"""Pair masking over a split: what is ranked, hidden, compared and left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_options import with_options

from fli2moe.data.sample import Dataset
from fli2moe.evaluation.pair_masking import PROBABILITY, pair_masking
from fli2moe.evaluation.pair_tables import pair_masking_tables
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.explain.pair_masking import COUNTS, TESTED
from fli2moe.features import default_cache
from fli2moe.predictor import Predictor

RANKINGS = [
    ("synergy", "synergy"),
    ("synergy", "mixture"),
    ("redundancy", "redundancy"),
    ("redundancy", "mixture"),
]


@pytest.fixture(scope="module")
def split(predictor: Predictor, dataset: Dataset, tiny_run: Path) -> TestSplit:
    return run_split(predictor, dataset.test[:4], default_cache(tiny_run))


@pytest.fixture(scope="module")
def small(predictor: Predictor) -> Predictor:
    options = {"budget": 200, "pair_samples": 4, "pair_contexts": 2}
    return with_options(predictor, evaluation=options)


@pytest.fixture(scope="module")
def part(small: Predictor, split: TestSplit):
    return pair_masking(small, split, 0, None)


def test_every_ranking_and_count_has_its_entry(part):
    primary = [(e["kind"], e["head"], e["m"]) for e in part.summary["primary"]]
    assert primary == [(kind, head, m) for kind, head in RANKINGS for m in TESTED]
    drops = [(e["kind"], e["head"], e["m"]) for e in part.summary["drops"]]
    assert drops == [(kind, head, m) for kind, head in RANKINGS for m in COUNTS]
    assert (part.summary["n"], part.summary["left_out"]) == (4, 0)
    for entry in part.summary["primary"]:
        assert entry["n"] + entry["not_possible"] == 4
        if entry["p"] is not None:
            assert entry["p"] <= entry["p_holm"] <= 1


def test_rows_hold_what_the_summary_is_the_mean_of(part):
    for entry in part.summary["primary"]:
        if entry["m"] == 10:
            name = f"pairs.{entry['kind']}.{entry['head']}.top10_minus_swapped"
            values = [row[name] for row in part.rows.values() if name in row]
            assert len(values) == entry["n"]
            if values:
                assert np.mean(values) == pytest.approx(entry["mean"])


def test_hiding_pairs_is_what_the_model_says_without_their_players(
    small: Predictor, split: TestSplit, monkeypatch: pytest.MonkeyPatch
):
    given = {key: np.array([[0, 8], [1, 9]]) for key in RANKINGS}
    monkeypatch.setattr("fli2moe.evaluation.pair_masking._rankings", lambda *_: given)
    one = replace(split, samples=split.samples[:1])
    found = pair_masking(small, one, 0, None)
    entry = next(e for e in found.summary["drops"] if e["m"] == 2 and e["head"] == "synergy")
    inputs = split.samples[0].inputs
    label = small.task.classes[split.targets[0][0]]
    rows = np.ones((2, len(small.players(inputs, split.tokens(0)))), dtype=bool)
    rows[1, [0, 1, 8, 9]] = False
    score = small.game(inputs, label).on("synergy")(rows)
    p = small.game(inputs, label, score="probability").on("mixture")(rows)
    assert entry["ranked"]["score"]["mean"] == pytest.approx(score[0] - score[1], abs=1e-5)
    assert entry["ranked"]["probability"]["mean"] == pytest.approx(p[0] - p[1], abs=1e-5)
    assert entry["players"] == 4
    longer = next(e for e in found.summary["drops"] if e["m"] == 5)
    assert longer["ranked"]["score"] == {"mean": None, "standard_error": None, "n": 0}
    assert longer["ranked"]["accuracy"] is None


def test_the_same_seed_gives_the_same_part(small: Predictor, split: TestSplit, part):
    again = pair_masking(small, split, 0, None)
    assert again.summary == part.summary
    assert again.rows == part.rows


def test_a_sample_with_one_modality_is_left_out_and_counted(
    small: Predictor, split: TestSplit, monkeypatch: pytest.MonkeyPatch
):
    players = Predictor.players
    first = split.samples[0].inputs

    def one_modality(self, inputs, tokens):
        found = players(self, inputs, tokens)
        return tuple(p for p in found if p.modality == "text") if inputs is first else found

    monkeypatch.setattr(Predictor, "players", one_modality)
    found = pair_masking(small, split, 0, None)
    assert (found.summary["n"], found.summary["left_out"]) == (3, 1)
    assert 0 not in found.rows
    none = replace(split, samples=split.samples[:1])
    assert pair_masking(small, none, 0, None).summary == {}


def test_multi_class_counts_accuracy_and_macro_f1(small: Predictor, split: TestSplit):
    task = replace(small.task, kind="multiclass")
    single = replace(small, task=task)
    target = torch.tensor([0, 1, 2, 3])
    one = replace(split, target=target, targets=[[t] for t in target.tolist()])
    found = pair_masking(single, one, 0, None)
    for entry in found.summary["drops"]:
        drop = entry["ranked"]["accuracy"]
        n = entry["ranked"]["score"]["n"]
        assert (drop is None) == (n == 0)
        assert n * (drop or 0.0) == pytest.approx(round(n * (drop or 0.0)), abs=1e-9)
    assert PROBABILITY not in str(found.summary)


def test_tables_show_the_deciding_comparison_first(part):
    tables = pair_masking_tables(part.summary)
    assert next(iter(tables)) == "Top pairs against the same players with other partners"
    for table in tables.values():
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
        assert "4 samples, 0 left out" in table["note"]

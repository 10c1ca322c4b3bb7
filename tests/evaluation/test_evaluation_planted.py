"""Planted recovery: by hand, on every single word and patch, on correct positives only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_options import with_options

from fli2moe.data.sample import Cause, Dataset
from fli2moe.evaluation.planted import planted_recovery, recovery, true_pairs
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.evaluation.tables import metric_tables
from fli2moe.explain.scores import PairScores
from fli2moe.features import default_cache
from fli2moe.predictor import Predictor
from fli2moe.task import Task
from fli2moe.tokens import Player

WORDS = [Player("text", (i,), ((4 * i, 4 * i + 3),), f"w{i}") for i in range(3)]
PATCHES = [
    Player("image", (i,), ((16.0 * i, 0.0, 16.0 * i + 16, 16.0),), f"p{i}") for i in range(2)
]
PLAYERS = (*WORDS, *PATCHES)


def pair_scores(values: dict[tuple[int, int], float]) -> PairScores:
    first, second = (np.array([pair[k] for pair in values]) for k in (0, 1))
    value = np.array(list(values.values()))
    seen = np.full(len(values), 4)
    head = ("mixture",) * len(values)
    return PairScores("SII", PLAYERS, first, second, head, value, 0 * value, seen)


def truth_of(*pairs: tuple[int, int]) -> Any:
    truth = np.zeros((5, 5), dtype=bool)
    for i, j in pairs:
        truth[i, j] = truth[j, i] = True
    return truth


@pytest.mark.parametrize(
    ("values", "pairs", "first", "average"),
    [
        ({(0, 3): 3.0, (1, 3): 2.0, (2, 4): 1.0}, [(0, 3)], 1.0, 1.0),
        ({(0, 3): 3.0, (1, 3): 2.0, (2, 4): 1.0}, [(1, 3)], 0.0, 1 / 2),
        ({(0, 3): 3.0, (1, 3): 2.0, (2, 4): 1.0}, [(0, 3), (2, 4)], 1.0, (1 + 2 / 3) / 2),
        ({(0, 3): 1.0, (1, 3): -5.0}, [(1, 3)], 0.0, 1 / 2),  # by value, not by size
        ({(0, 3): 3.0}, [(0, 3), (1, 4)], 1.0, 1 / 2),  # a true pair without a score is missed
        ({(0, 3): 3.0}, [(1, 4)], 0.0, 0.0),
        ({(0, 3): 1.0, (1, 3): 1.0}, [(1, 3)], 0.0, 1 / 2),  # a tie goes by the players' order
    ],
)
def test_recovery_by_hand(
    values: dict[tuple[int, int], float],
    pairs: list[tuple[int, int]],
    first: float,
    average: float,
):
    found = recovery(pair_scores(values), truth_of(*pairs))
    assert found.precision_at_1 == first
    assert found.average_precision == pytest.approx(average)


def test_true_pairs_lie_on_both_causes():
    spans = {"text": ((5.0, 6.0),), "image": ((0.0, 0.0, 16.0, 16.0),)}
    truth = true_pairs(PLAYERS, Cause("x", "synergy", spans))
    assert np.argwhere(np.triu(truth)).tolist() == [[1, 3]]
    touching = {"text": ((3.0, 4.0),), "image": ((0.0, 0.0, 16.0, 16.0),)}
    assert not true_pairs(PLAYERS, Cause("x", "synergy", touching)).any()
    both = {"text": ((0.0, 7.0),), "image": ((12.0, 4.0, 20.0, 8.0),)}  # half on each patch
    assert not true_pairs(PLAYERS, Cause("x", "synergy", both)).any()
    both["image"] = ((4.0, 0.0, 28.0, 16.0),)
    assert true_pairs(PLAYERS, Cause("x", "synergy", both)).sum() == 2 * 4
    shifted = {"text": ((4.0, 7.0),), "image": ((1.0, 0.0, 17.0, 16.0),)}
    assert np.argwhere(np.triu(true_pairs(PLAYERS, Cause("x", "synergy", shifted)))).tolist() == [
        [1, 3]  # not the neighbour that the box reaches a pixel into
    ]
    text_only = true_pairs(PLAYERS, Cause("x", "unique_text", {"text": ((0.0, 3.0),)}))
    assert not text_only.any()


@pytest.fixture
def split(predictor: Predictor, dataset: Dataset, tiny_run: Path) -> TestSplit:
    return run_split(predictor, dataset.test, default_cache(tiny_run))


def predicted(split: TestSplit, logits: float) -> TestSplit:
    """The split as a model would see it that gives all labels the same logits."""
    return replace(split, logits=torch.full_like(split.logits, logits))


def words(split: TestSplit, label: str) -> list[int]:
    """The number of words of each positive sample."""
    texts = [str(s.inputs["text"]) for s in split.samples if label in s.labels]
    return [len(text.split()) for text in texts]


@pytest.mark.parametrize(("kind", "label"), [("synergy", "match"), ("redundancy", "sunny")])
def test_every_word_and_every_patch_is_a_player_of_its_own(
    predictor: Predictor, split: TestSplit, kind: str, label: str
):
    poor = with_options(predictor, evaluation={"budget": 16, "pair_samples": 99})
    found = planted_recovery(poor, predicted(split, 1.0), 0, None).summary[kind]
    count = words(split, label)
    assert found["n"] == len(count)
    assert found["left_out"] == 0
    assert found["players"] == np.median([n + 16 for n in count])
    assert found["pairs"] == np.median([n * 16 for n in count])
    assert found["contexts"] == 2  # what the budget cannot pay for is spent, and no more
    assert found["evaluations"] == np.median([2 * (1 + n + 16 + n * 16) for n in count])
    assert found["chance_precision_at_1"] == pytest.approx(np.mean([1 / (n * 16) for n in count]))


def test_a_budget_that_pays_for_more_contexts_is_spent(predictor: Predictor, split: TestSplit):
    rich = with_options(predictor, evaluation={"budget": 1500, "pair_samples": 3})
    found = planted_recovery(rich, predicted(split, 1.0), 0, None).summary
    for figures in found.values():
        assert figures["contexts"] >= 4
        assert 2 * figures["pairs"] < figures["evaluations"] <= 1500


def test_the_table_says_what_was_searched(predictor: Predictor, split: TestSplit):
    poor = with_options(predictor, evaluation={"budget": 16, "pair_samples": 1})
    found = planted_recovery(poor, predicted(split, 1.0), 0, None).summary
    note = metric_tables_of(found)["note"]
    chance = found["synergy"]["chance_precision_at_1"]
    counts = [f"{found['synergy'][c]:g} {c}" for c in ("players", "pairs", "contexts")]
    assert f"synergy, {', '.join(counts)}, " in note
    assert f"evaluations, precision@1 by chance {chance:.3f}; redundancy, " in note


def metric_tables_of(planted: dict[str, Any]) -> dict[str, Any]:
    figures: dict[str, float] = dict.fromkeys(("accuracy", "macro_f1", "micro_f1", "auroc"), 0.0)
    metrics = {
        "model": {"name": "fli2moe"},
        "data": {"test_samples": 1},
        "task": figures,
        "experts": {},
        "faithfulness": {"percents": []},
        "interaction_share": {},
        "planted": planted,
    }
    return metric_tables(metrics)["Planted pairs recovered"]


def test_a_positive_whose_cause_was_cut_off_is_no_miss(
    predictor: Predictor, dataset: Dataset, tiny_run: Path
):
    silent = [replace(s, inputs={**s.inputs, "text": " "}) for s in dataset.test[:4]]
    split = predicted(run_split(predictor, silent, default_cache(tiny_run)), 1.0)
    found = planted_recovery(predictor, split, 0, None).summary
    assert found
    for figures in found.values():
        for name in ("precision_at_1", "average_precision", "chance_precision_at_1", "pairs"):
            assert figures[name] is None
        assert figures["n"] == 0
        assert figures["left_out"] > 0
    assert "redundancy, not measured" in metric_tables_of(found)["note"]


def test_planted_truth_counts_correct_positives_only(predictor: Predictor, split: TestSplit):
    column = predictor.task.index("sunny")
    logits = torch.full_like(split.logits, -1.0)
    logits[:12, column] = 0.5
    half = replace(split, logits=logits)
    right = [i for i, s in enumerate(split.samples[:12]) if "sunny" in s.labels]
    assert 0 < len(right) < len(words(split, "sunny"))
    every = with_options(predictor, evaluation={"budget": 16, "pair_samples": 99})
    steps: list[tuple[str, int, int]] = []
    found = planted_recovery(every, half, 0, lambda *step: steps.append(step)).summary
    assert set(found) == {"redundancy"}
    assert found["redundancy"]["n"] == len(right)
    assert ("planted redundancy", len(right), len(right)) in steps


def test_the_most_probable_label_is_not_predicted_below_one_half(
    predictor: Predictor, split: TestSplit
):
    logits = torch.full_like(split.logits, -2.0)
    logits[:, predictor.task.index("sunny")] = -1.0
    nobody = replace(split, logits=logits, targets=predictor.task.targets(logits))
    assert nobody.targets == [[predictor.task.index("sunny")]] * 24  # an explanation speaks of it
    assert planted_recovery(predictor, nobody, 0, None).summary == {}


def test_multi_class_positives_are_those_of_the_top_class(predictor: Predictor, split: TestSplit):
    task = Task("multiclass", predictor.task.classes)
    single = Predictor(predictor.config, task, predictor.model, predictor.encoders, predictor.means)
    logits = torch.full_like(split.logits, -2.0)
    logits[:, task.index("match")] = -1.0
    found = planted_recovery(single, replace(split, logits=logits), 0, None).summary
    assert set(found) == {"synergy"}

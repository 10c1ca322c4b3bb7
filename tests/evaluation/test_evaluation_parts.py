"""Small cases worked out by hand; nothing measured is None, never 0."""

from __future__ import annotations

from dataclasses import replace
from math import nan, sqrt
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from evaluation_options import with_options
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError
from fli2moe.evaluation.evaluate import PARTS, evaluate
from fli2moe.evaluation.faithfulness import faithfulness, player_sums
from fli2moe.evaluation.interactions import interaction_shares
from fli2moe.evaluation.linear_probe import STRENGTHS, linear_probe
from fli2moe.evaluation.planted import planted_recovery
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.evaluation.statistics import mean_and_error
from fli2moe.evaluation.task import expert_figures, task_metrics
from fli2moe.explain.pieces import contribution_shares
from fli2moe.features import default_cache, encode_samples
from fli2moe.predictor import Predictor
from fli2moe.task import Task
from fli2moe.tokens import Player


@pytest.mark.parametrize(
    "function", [faithfulness, interaction_shares, linear_probe, planted_recovery, task_metrics]
)
def test_every_part_can_be_asked_for_its_types(function: Any):
    assert get_type_hints(function)["test"] is TestSplit  # imported in earnest, without a cycle


def test_means_and_errors_of_small_samples():
    found = mean_and_error([1.0, 3.0, 5.0])
    assert found == {"mean": 3.0, "standard_error": pytest.approx(2 / sqrt(3)), "n": 3}
    assert mean_and_error([2.0]) == {"mean": 2.0, "standard_error": None, "n": 1}
    assert mean_and_error([]) == {"mean": None, "standard_error": None, "n": 0}
    assert mean_and_error([nan, 4.0, nan]) == {"mean": 4.0, "standard_error": None, "n": 1}


def test_a_players_importance_is_the_sum_over_its_tokens():
    players = (Player("text", (0, 2)), Player("image", (1,)))
    scores = {"text": torch.tensor([[1.0, 10.0, 100.0]]), "image": torch.tensor([[5.0, 7.0]])}
    assert player_sums(players, scores).tolist() == [101.0, 7.0]


@pytest.fixture(scope="module")
def cache(tiny_run: Path) -> Path:
    return default_cache(tiny_run)


@pytest.fixture(scope="module")
def metrics(predictor: Predictor, dataset: Dataset, cache: Path) -> dict[str, Any]:
    return evaluate(predictor, dataset, cache=cache, seed=0)


def test_the_test_split_is_read_from_the_cache_and_scored_as_predicted(
    predictor: Predictor, dataset: Dataset, cache: Path
):
    test = run_split(predictor, dataset.test, cache)
    direct = predictor.run(predictor.encode([s.inputs for s in dataset.test]))
    torch.testing.assert_close(test.logits, direct.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(test.weights.sum(1), torch.ones(24))
    for row, (of_sample, shares) in enumerate(zip(test.targets, test.shares, strict=True)):
        again = [contribution_shares(predictor.task, direct, [c] * 24)[row] for c in of_sample]
        torch.testing.assert_close(shares, torch.stack(again), rtol=1e-4, atol=1e-5)
    assert test.targets == predictor.task.targets(direct.logits)
    assert test.choose(range(24), 30, 0) == list(range(24))
    few = test.choose(range(24), 5, 0)
    assert few == test.choose(range(24), 5, 0) != test.choose(range(24), 5, 1)
    assert few == sorted(set(few))
    figures = expert_figures(predictor, test)
    for kind in ("weight", "share"):
        assert sum(f[kind] for f in figures.values()) == pytest.approx(1)
    assert figures["synergy"]["weight_sd"] == pytest.approx(
        float(test.weights[:, 2].std(correction=0))
    )


def test_accuracy_per_label_is_that_of_the_predictions(
    predictor: Predictor, dataset: Dataset, cache: Path
):
    test = run_split(predictor, dataset.test, cache)
    found = task_metrics(predictor, test)
    for label, value in found["accuracy_per_label"].items():
        right = [
            (label in p.labels) == (label in s.labels)
            for p, s in zip(
                predictor.predict([s.inputs for s in dataset.test]), dataset.test, strict=True
            )
        ]
        assert value == pytest.approx(np.mean(right))
    assert found["accuracy"] == pytest.approx(np.mean(list(found["accuracy_per_label"].values())))


def test_evaluate_measures_everything_twice_the_same(
    predictor: Predictor, dataset: Dataset, cache: Path, metrics: dict[str, Any]
):
    options = {"parts": tuple(PARTS), "samples": 2, "pair_samples": 2, "budget": 100}
    whole = with_options(predictor, evaluation=options)
    first, again = (evaluate(whole, dataset, cache=cache, seed=0) for _ in range(2))
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert set(first) >= {"task", "experts", *PARTS}
    assert set(first["seconds"]) == {"task", "linear_probe", *PARTS}
    assert set(metrics) & set(PARTS) == {"interaction_share", "faithfulness", "planted"}
    assert set(metrics["planted"]) == {"synergy", "redundancy"}
    assert metrics["planted"]["synergy"]["label"] == "match"
    assert set(metrics["interaction_share"]) == {*predictor.model.heads, "per_label", "orders"}
    assert metrics["settings"]["seed"] == 0


def test_without_test_samples_there_is_one_line(predictor: Predictor, dataset: Dataset):
    empty = Dataset(dataset.train, dataset.classes, dataset.modalities, True, "m.csv")
    with pytest.raises(InputError, match=r"m\.csv: no test samples; expected a test split"):
        evaluate(predictor, empty, cache="unused")


def emptied(dataset: Dataset, count: int) -> list[Any]:
    return [
        replace(s, inputs={**s.inputs, "text": " "}) if i < count else s
        for i, s in enumerate(dataset.test[:4])
    ]


def test_empty_texts_are_left_out_and_counted(predictor: Predictor, dataset: Dataset, cache: Path):
    test = run_split(predictor, emptied(dataset, 1), cache)
    found = faithfulness(predictor, test, 0, None).summary["attention_gradient"]
    assert (found["text"]["n"], found["text"]["left_out"]) == (3, 1)
    assert (found["image"]["n"], found["image"]["left_out"]) == (4, 0)
    assert found["text"]["aopc_comprehensiveness"]["n"] == 3
    others = run_split(predictor, emptied(dataset, 1)[1:], cache)
    rest = faithfulness(predictor, others, 1, None).summary["attention_gradient"]
    full = found["text"]["comprehensiveness"]
    assert full == pytest.approx(rest["text"]["comprehensiveness"])
    none = run_split(predictor, emptied(dataset, 4), cache)
    assert "text" not in faithfulness(predictor, none, 0, None).summary["attention_gradient"]


def test_the_linear_probe_is_sklearns(predictor: Predictor, dataset: Dataset, cache: Path):
    test = run_split(predictor, dataset.test, cache)
    found = linear_probe(predictor, dataset, cache, test)
    assert list(found) == ["text", "image", "text + image"]
    task: Task = predictor.task
    pooled, labels = {}, {}
    for name, samples in (("train", dataset.train), ("val", dataset.val), ("test", dataset.test)):
        features = encode_samples(samples, predictor.encoders, cache).pooled()
        pooled[name] = np.concatenate([features["text"], features["image"]], axis=1)
        labels[name] = task.encode([s.labels for s in samples])
    scores = {}
    for strength in STRENGTHS:
        columns: dict[str, list[Any]] = {"val": [], "test": []}
        for c in range(4):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
            model.fit(pooled["train"], labels["train"][:, c].numpy())
            for name, column in columns.items():
                column.append(model.decision_function(pooled[name]))
        scores[strength] = {k: torch.tensor(np.stack(v, 1)).float() for k, v in columns.items()}
    accuracy = {
        c: float(((s["val"] >= 0) == labels["val"].bool()).float().mean())
        for c, s in scores.items()
    }
    best = max(accuracy, key=accuracy.__getitem__)
    assert found["text + image"]["C"] == best
    expected = task.metrics(scores[best]["test"], labels["test"])
    assert found["text + image"] == pytest.approx({**expected, "C": best})


def test_the_probe_of_a_class_that_training_never_saw(
    predictor: Predictor, dataset: Dataset, cache: Path
):
    def relabelled(wanted: dict[str, str]) -> Dataset:
        samples = tuple(replace(s, labels=(wanted[s.split],)) for s in dataset.samples)
        return replace(dataset, samples=samples, multilabel=False)

    task = Task("multiclass", ("dog", "match", "star", "sunny"))
    parts = (predictor.model, predictor.encoders, predictor.means)
    single = Predictor(predictor.config, task, *parts)
    one = relabelled({"train": "dog", "val": "dog", "test": "star"})
    found = linear_probe(single, one, cache, run_split(single, one.test, cache))
    assert found["text"]["accuracy"] == 0.0
    always = relabelled({"train": "dog", "val": "dog", "test": "dog"})
    found = linear_probe(single, always, cache, run_split(single, always.test, cache))
    assert found["image"]["accuracy"] == 1.0

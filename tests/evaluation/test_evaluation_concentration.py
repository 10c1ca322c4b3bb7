"""Concentration and specificity over a test split, against the measures of single samples."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_options import with_options

from fli2moe.data.sample import Dataset
from fli2moe.evaluation.concentration import (
    concentration,
    concentration_of,
    concentration_tables,
)
from fli2moe.evaluation.faithfulness import faithfulness
from fli2moe.evaluation.importance import importances
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.explain.attribution import attribute
from fli2moe.explain.concentration import chance_overlap, gini, rank_correlation, top_overlap
from fli2moe.features import default_cache
from fli2moe.model import build_model
from fli2moe.predictor import Predictor

METHODS = ("attention_gradient", "gradient_x_input")
OPTIONS = {"attributions": METHODS, "samples": 3}


@pytest.fixture(scope="module")
def split(predictor: Predictor, dataset: Dataset, tiny_run: Path) -> TestSplit:
    return run_split(predictor, dataset.test[:3], default_cache(tiny_run))


@pytest.fixture(scope="module")
def measured(predictor: Predictor, split: TestSplit) -> Any:
    return concentration(with_options(predictor, evaluation=OPTIONS), split, 0, None)


def untrained(predictor: Predictor, **options: Any) -> Predictor:
    """The predictor with another, untrained model."""
    config = predictor.config.model.model_copy(update=options)
    model = build_model(config, predictor.model.widths, predictor.model.classes).eval()
    config = predictor.config.model_copy(update={"model": config})
    made = Predictor(config, predictor.task, model, predictor.encoders, predictor.means)
    return with_options(made, evaluation=OPTIONS)


def test_every_figure_is_the_mean_over_samples(
    predictor: Predictor, split: TestSplit, measured: Any
):
    summary = json.loads(json.dumps(measured.summary, allow_nan=False))
    found: dict[str, list[float]] = {"gini": [], "jaccard": [], "chance": [], "spearman": []}
    for i in range(3):
        tokens, weights = split.tokens(i), predictor.task.target_weights([split.targets[i]])
        start = predictor.baseline("mean")
        scores = attribute(predictor.model, tokens, weights, METHODS[1], baseline=start).scores
        content = tokens["text"].content[0]
        x = {head: s["text"][0][content].double().numpy() for head, s in scores.items()}
        pairs = [(x[a], x[b]) for a, b in combinations(predictor.model.experts, 2)]
        found["gini"].append(gini(x["redundancy"]))
        found["jaccard"].append(np.mean([top_overlap(a, b) for a, b in pairs]))
        found["spearman"].append(np.mean([rank_correlation(a, b) for a, b in pairs]))
        found["chance"].append(chance_overlap(int(content.sum())))
    wanted = {"method": METHODS[1], "head": "redundancy", "modality": "text"}
    record = next(r for r in summary["by_head"] if wanted.items() <= r.items())
    assert record["gini"]["mean"] == pytest.approx(np.mean(found["gini"]))
    assert record["gini"]["standard_error"] == pytest.approx(np.std(found["gini"], ddof=1) / 3**0.5)
    assert (record["n"], record["left_out"], record["gini"]["n"]) == (3, 0, 3)
    del wanted["head"]
    record = next(r for r in summary["specificity"] if wanted.items() <= r.items())
    assert record["expert_pairs"] == 6
    assert record["jaccard"]["mean"] == pytest.approx(np.mean(found["jaccard"]))
    assert record["spearman"]["mean"] == pytest.approx(np.mean(found["spearman"]))
    assert record["chance_jaccard"]["mean"] == pytest.approx(np.mean(found["chance"]))
    for index in range(3):
        row = measured.rows[index]
        expected = pytest.approx(found["gini"][index])
        assert row["concentration.gradient_x_input.text.redundancy.gini"] == expected
        expected = pytest.approx(found["jaccard"][index])
        assert row["concentration.gradient_x_input.text.experts.jaccard"] == expected


def test_every_method_head_and_modality_is_there(predictor: Predictor, measured: Any):
    found = [(r["method"], r["modality"], r["head"]) for r in measured.summary["by_head"]]
    both = ("text", "image")
    assert found == [(a, m, h) for a in METHODS for m in both for h in predictor.model.heads]
    assert [(r["method"], r["modality"]) for r in measured.summary["specificity"]] == [
        (a, m) for a in METHODS for m in both
    ]
    for r in measured.summary["by_head"]:
        assert 0 < r["gini"]["mean"] < 1
        assert 0 < r["normalised_entropy"]["mean"] < 1
        assert 0 < r["top10_share"]["mean"] <= 1


def test_a_model_with_one_expert_is_concentrated_but_not_specific(
    predictor: Predictor, split: TestSplit
):
    dense = untrained(predictor, name="dense")
    found = concentration(dense, split, 0, None)
    assert {r["head"] for r in found.summary["by_head"]} == {"mixture"}
    nothing = {"mean": None, "standard_error": None, "n": 0}
    for r in found.summary["specificity"]:
        assert (r["expert_pairs"], r["n"]) == (0, 3)
        assert r["jaccard"] == r["chance_jaccard"] == r["spearman"] == nothing
    assert not [column for row in found.rows.values() for column in row if "experts" in column]
    table = concentration_tables(found.summary)["Specificity of importance to experts"]
    assert table["rows"][0][2:5] == ["n/a"] * 3


def test_isolated_experts_are_compared_where_both_see(predictor: Predictor, split: TestSplit):
    found = concentration(untrained(predictor, isolated=True), split, 0, None).summary
    assert {r["expert_pairs"] for r in found["specificity"]} == {3}
    heads = {r["head"] for r in found["by_head"] if r["modality"] == "text"}
    assert heads == {"mixture", "unique_text", "synergy", "redundancy"}


def test_nothing_to_measure_is_none_and_counted(
    predictor: Predictor, dataset: Dataset, tiny_run: Path
):
    texts = (" ", "dog", None)
    samples = [
        replace(s, inputs={**s.inputs, "text": s.inputs["text"] if text is None else text})
        for s, text in zip(dataset.test[:3], texts, strict=True)
    ]
    test = run_split(predictor, samples, default_cache(tiny_run))
    other = with_options(predictor, evaluation={**OPTIONS, "attributions": METHODS[1:]})
    found = concentration(other, test, 0, None)
    for record in (*found.summary["by_head"], *found.summary["specificity"]):
        is_text = record["modality"] == "text"
        assert (record["n"], record["left_out"]) == ((2, 1) if is_text else (3, 0))
        figure = record["gini" if "head" in record else "jaccard"]
        assert figure["n"] == (1 if is_text else 3)  # with one word nothing is concentrated
    assert not [column for column in found.rows[0] if ".text." in column]
    empty = run_split(predictor, samples[:1], default_cache(tiny_run))
    none = concentration(other, empty, 0, None).summary["by_head"][0]
    assert (none["n"], none["left_out"], none["gini"]["mean"]) == (0, 1, None)


def test_parts_share_their_attributions(predictor: Predictor, split: TestSplit):
    options = {**OPTIONS, "baselines": ("mean",)}
    other = with_options(predictor, evaluation=options)
    first = importances(other, split, 3, None)
    stages: list[str] = []

    def noted(stage: str, done: int, total: int) -> None:
        stages.append(stage)

    faithfulness(other, split, 3, noted)
    concentration(other, split, 3, noted)
    assert set(stages) == {"faithfulness"}
    assert importances(other, split, 3, None) is first
    assert importances(other, split, 4, noted) is not first
    assert importances(with_options(predictor, evaluation=options), split, 4, noted)
    assert stages.count("attribution") == 3 + 3


def test_costly_methods_are_measured_on_the_detailed_samples(
    predictor: Predictor, split: TestSplit
):
    methods = ("random", "integrated_gradients")
    options = {"attributions": methods, "samples": 3, "head_samples": 1}
    other = with_options(predictor, {"steps": 16}, options)
    found = concentration_of(other, importances(other, split, 0, None)).summary["by_head"]
    assert {(r["method"], r["n"], r["left_out"]) for r in found} == {
        ("random", 3, 0),
        ("integrated_gradients", 1, 0),
    }


def test_tables_hold_the_figures_of_the_summary(measured: Any):
    tables = concentration_tables(measured.summary)
    for table in tables.values():
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
    row = tables["Concentration of importance"]["rows"][0]
    gini_of_mixture = measured.summary["by_head"][0]["gini"]
    mean, error = gini_of_mixture["mean"], gini_of_mixture["standard_error"]
    assert row[:4] == ["attention_gradient", "mixture", "text", f"{mean:.3f} ± {error:.3f}"]
    assert row[-1] == 3
    assert len(tables["Specificity of importance to experts"]["rows"]) == 4

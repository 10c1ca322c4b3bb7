"""Faithfulness over a test split: every method, head and baseline from shared evaluations."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_options import with_options

from fli2moe.data.sample import Dataset
from fli2moe.evaluation import importance as attributing
from fli2moe.evaluation.faithfulness import by_method, faithfulness, faithfulness_tables
from fli2moe.evaluation.importance import player_sums
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.explain.attribution import attribute
from fli2moe.explain.faithfulness import top_k_curve
from fli2moe.explain.pieces import DROP_WARNING
from fli2moe.features import default_cache
from fli2moe.model import build_model
from fli2moe.predictor import Predictor

METHODS = ("attention_gradient", "gradient_x_input")
SUMMARIES = (
    "aopc_comprehensiveness",
    "aopc_sufficiency",
    "comprehensiveness_gap",
    "sufficiency_gap",
)


@pytest.fixture(scope="module")
def split(predictor: Predictor, dataset: Dataset, tiny_run: Path) -> TestSplit:
    return run_split(predictor, dataset.test[:3], default_cache(tiny_run))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `attribute` was asked with, by the evaluation and by explanations alike."""
    from fli2moe import explaining

    asked: list[dict[str, Any]] = []

    def noted(model: Any, tokens: Any, target: Any, method: str, **options: Any) -> Any:
        asked.append({"method": method, **options})
        return attribute(model, tokens, target, method, **options)

    monkeypatch.setattr(attributing, "attribute", noted)
    monkeypatch.setattr(explaining, "attribute", noted)
    return asked


@pytest.mark.parametrize(("name", "start"), [("mean", "mean"), ("zero", "zero"), ("drop", "mean")])
def test_attributions_start_from_what_explanations_start_from(
    predictor: Predictor, split: TestSplit, calls: list[dict[str, Any]], name: str, start: str
):
    other = with_options(
        predictor, {"baseline": name}, {"attributions": ("gradient_x_input",), "samples": 1}
    )
    faithfulness(other, split, 0, None)
    other.explain(split.samples[0].inputs, budget=60)
    assert len(calls) == 2
    for options in calls:
        for m, expected in predictor.baseline(start).items():
            assert torch.equal(options["baseline"][m], expected)


def test_random_attributions_differ_between_samples(
    predictor: Predictor, split: TestSplit, calls: list[dict[str, Any]]
):
    other = with_options(predictor, evaluation={"attributions": ("random",), "samples": 3})
    faithfulness(other, split, 7, None)
    assert [options["seed"] for options in calls] == [7, 8, 9]


@pytest.fixture(scope="module")
def measured(predictor: Predictor, split: TestSplit) -> dict[str, Any]:
    """Two detailed samples of three, all baselines."""
    options = {"attributions": METHODS, "samples": 3, "head_samples": 2}
    part = faithfulness(with_options(predictor, evaluation=options), split, 5, None)
    summary = json.loads(json.dumps(part.summary, allow_nan=False))
    return {"summary": summary, "rows": part.rows, "detailed": split.choose(range(3), 2, 5)}


def test_every_method_head_baseline_and_modality_has_its_record(
    predictor: Predictor, measured: dict[str, Any]
):
    records = measured["summary"]["by_head"]
    found = [tuple(r[k] for k in ("baseline", "method", "head", "modality")) for r in records]
    assert found == [
        (baseline, method, head, modality)
        for baseline in ("mean", "zero", "drop")
        for method in METHODS
        for head in predictor.model.heads
        for modality in ("text", "image")
    ]
    assert {(r["n"], r["left_out"]) for r in records} == {(2, 0)}
    assert set(by_method(measured["summary"])) == set(METHODS)
    assert measured["summary"]["baseline"] == "mean"


@pytest.mark.parametrize(
    ("baseline", "head", "modality"),
    [("mean", "mixture", "text"), ("zero", "synergy", "image"), ("drop", "unique_text", "image")],
)
def test_a_record_is_that_of_single_curves(
    predictor: Predictor,
    split: TestSplit,
    measured: dict[str, Any],
    baseline: str,
    head: str,
    modality: str,
):
    wanted = {"baseline": baseline, "head": head, "modality": modality, "method": METHODS[1]}
    record = next(r for r in measured["summary"]["by_head"] if wanted.items() <= r.items())
    own, of_mixture = [], []
    for i in measured["detailed"]:
        inputs, tokens = split.samples[i].inputs, split.tokens(i)
        names = [predictor.task.classes[c] for c in split.targets[i]]
        game = predictor.game(inputs, names, tokens=tokens, score="probability", baseline=baseline)
        weights = predictor.task.target_weights([split.targets[i]])
        start = predictor.baseline("mean")
        scores = attribute(predictor.model, tokens, weights, METHODS[1], baseline=start).scores
        sums = player_sums(game.players, scores[head])
        for curves, scored in ((own, head), (of_mixture, "mixture")):
            curves.append(top_k_curve(game.on(scored), sums, modality, draws=2, seed=5 + i))
    for name in SUMMARIES:
        expected = np.mean([getattr(c, name) for c in own])
        assert record[name]["mean"] == pytest.approx(expected, abs=1e-6)
    for name in SUMMARIES[2:]:
        expected = np.mean([getattr(c, name) for c in of_mixture])
        assert record[f"mixture_{name}"]["mean"] == pytest.approx(expected, abs=1e-6)
    full = np.mean([c.full for c in own])
    drops = np.mean([c.comprehensiveness for c in own], axis=0)
    chance = np.mean([c.random_comprehensiveness for c in own], axis=0)
    assert record["full"] == pytest.approx(full, abs=1e-6)
    assert record["comprehensiveness"] == pytest.approx(drops, abs=1e-6)
    assert record["identified_points"] == pytest.approx(100 * drops, abs=1e-4)
    assert record["random_points"] == pytest.approx(100 * chance, abs=1e-4)
    assert record["identified_percent"] == pytest.approx(100 * drops / full, abs=1e-3)
    assert record["random_percent"] == pytest.approx(100 * chance / full, abs=1e-3)


def test_random_rankings_are_the_same_for_all_methods(measured: dict[str, Any]):
    for name in ("random_comprehensiveness", "random_sufficiency"):
        chance: dict[Any, set[Any]] = {}
        for r in measured["summary"]["by_head"]:
            key = r["baseline"], r["head"], r["modality"]
            chance.setdefault(key, set()).add(tuple(r[name]))
        assert {len(values) for values in chance.values()} == {1}
        assert len(chance) == len({v for values in chance.values() for v in values}) == 3 * 5 * 2


def test_the_mixture_is_measured_on_all_samples_and_rows_hold_each(measured: dict[str, Any]):
    rows = measured["rows"]
    assert sorted(rows) == [0, 1, 2]
    for method, modalities in by_method(measured["summary"]).items():
        for m, figures in modalities.items():
            assert figures["n"] == 3
            for name in SUMMARIES:
                column = [row[f"faithfulness.{method}.{m}.{name}"] for row in rows.values()]
                assert figures[name]["mean"] == pytest.approx(np.mean(column))
    for r in measured["summary"]["by_head"]:
        if (r["baseline"], r["head"]) == ("mean", "mixture"):
            column = f"faithfulness.{r['method']}.{r['modality']}.sufficiency_gap"
            of_both = [rows[i][column] for i in measured["detailed"]]
            assert r["sufficiency_gap"]["mean"] == pytest.approx(np.mean(of_both))
            assert r["mixture_sufficiency_gap"] == r["sufficiency_gap"]


def test_costly_methods_are_measured_on_the_detailed_samples(
    predictor: Predictor, split: TestSplit, calls: list[dict[str, Any]]
):
    methods = ("random", "integrated_gradients")
    options = {"attributions": methods, "samples": 3, "head_samples": 1, "baselines": ("mean",)}
    other = with_options(predictor, {"steps": 16}, options)
    found = faithfulness(other, split, 0, None).summary
    assert [call["method"] for call in calls].count("integrated_gradients") == 1
    assert [found[m]["text"]["n"] for m in methods] == [3, 1]
    assert found["integrated_gradients"]["text"]["left_out"] == 0
    assert found["integrated_gradients"]["text"]["sufficiency_gap"]["standard_error"] is None


def test_drop_warns_once_and_only_where_it_is_asked_for(
    predictor: Predictor, split: TestSplit, caplog: pytest.LogCaptureFixture
):
    options = {"attributions": ("random",), "samples": 3, "head_samples": 3}
    for baselines, times in ((("mean", "zero"), 0), (("mean", "drop"), 1)):
        caplog.clear()
        other = with_options(predictor, evaluation={**options, "baselines": baselines})
        with caplog.at_level(logging.WARNING, "fli2moe"):
            faithfulness(other, split, 0, None)
        assert [r.getMessage() for r in caplog.records].count(DROP_WARNING) == times


def test_the_baseline_of_explanations_is_measured_even_where_it_is_not_listed(
    predictor: Predictor, split: TestSplit
):
    options = {"attributions": ("random",), "samples": 2, "head_samples": 2, "baselines": ("mean",)}
    zero = faithfulness(
        with_options(predictor, {"baseline": "zero"}, options), split, 0, None
    ).summary
    assert zero["baseline"] == "zero"
    assert {r["baseline"] for r in zero["by_head"]} == {"mean"}
    listed = {**options, "baselines": ("zero", "zero")}
    again = faithfulness(with_options(predictor, evaluation=listed), split, 0, None).summary
    of_mixture = next(r for r in again["by_head"] if r["head"] == "mixture")
    assert of_mixture["n"] == 2  # a baseline that is listed twice is measured once
    assert of_mixture["sufficiency_gap"] == zero["random"]["text"]["sufficiency_gap"]
    assert list(faithfulness_tables(zero)) == [
        "Faithfulness",
        "Drop of the probability at K = 15%",
    ]


def isolated(predictor: Predictor) -> Predictor:
    """The predictor with an untrained model whose unique experts see their modality only."""
    options = predictor.config.model.model_copy(update={"isolated": True})
    model = build_model(options, predictor.model.widths, predictor.model.classes).eval()
    return Predictor(predictor.config, predictor.task, model, predictor.encoders, predictor.means)


def test_an_isolated_expert_has_no_record_where_it_does_not_see(
    predictor: Predictor, split: TestSplit
):
    options = {"attributions": ("random",), "samples": 2, "baselines": ("mean",)}
    found = faithfulness(with_options(isolated(predictor), evaluation=options), split, 0, None)
    pairs = {(r["head"], r["modality"]) for r in found.summary["by_head"]}
    every = {(h, m) for h in predictor.model.heads for m in ("text", "image")}
    assert pairs == every - {("unique_text", "image"), ("unique_image", "text")}


def test_samples_without_content_are_left_out_and_counted(
    predictor: Predictor, dataset: Dataset, tiny_run: Path
):
    samples = [
        replace(s, inputs={**s.inputs, "text": " "}) if i else s
        for i, s in enumerate(dataset.test[:3])
    ]
    test = run_split(predictor, samples, default_cache(tiny_run))
    options = {"attributions": ("random",), "samples": 3, "head_samples": 3}
    part = faithfulness(with_options(predictor, evaluation=options), test, 0, None)
    found = part.summary["random"]
    assert (found["text"]["n"], found["text"]["left_out"]) == (1, 2)
    assert (found["image"]["n"], found["image"]["left_out"]) == (3, 0)
    for r in part.summary["by_head"]:
        assert (r["n"], r["left_out"]) == ((1, 2) if r["modality"] == "text" else (3, 0))
    assert not [column for column in part.rows[1] if ".text." in column]
    none = run_split(predictor, samples[1:], default_cache(tiny_run))
    found = faithfulness(with_options(predictor, evaluation=options), none, 0, None).summary
    assert set(found["random"]) == {r["modality"] for r in found["by_head"]} == {"image"}


def test_tables_hold_the_figures_of_the_summary(measured: dict[str, Any]):
    summary = measured["summary"]
    tables = faithfulness_tables(summary)
    assert list(tables) == [
        "Faithfulness",
        "Drop of the probability at K = 15%",
        "Faithfulness by head",
        "Faithfulness by baseline",
    ]
    for table in tables.values():
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
    figures = summary["gradient_x_input"]["image"]
    row = tables["Drop of the probability at K = 15%"]["rows"][3]
    assert row[:3] == ["gradient_x_input", "image", figures["full"]]
    assert row[3:5] == [100 * figures[f"{r}comprehensiveness"][2] for r in ("", "random_")]
    assert row[5:7] == [figures[f"{r}_percent"][2] for r in ("identified", "random")]
    head = {tuple(row[:3]): row for row in tables["Faithfulness by head"]["rows"]}
    assert len(head) == 2 * 5 * 2
    baseline = {tuple(row[:3]): row for row in tables["Faithfulness by baseline"]["rows"]}
    assert len(baseline) == 2 * 3 * 2
    record = next(
        r
        for r in summary["by_head"]
        if (r["baseline"], r["head"], r["modality"]) == ("mean", "synergy", "text")
    )
    gap = record["sufficiency_gap"]
    shown = f"{gap['mean']:+.3f} ± {gap['standard_error']:.3f}"
    assert head[record["method"], "synergy", "text"][4] == shown
    same = [r[record["method"], of, "text"] for r, of in ((head, "mixture"), (baseline, "mean"))]
    assert same[0][3:5] == same[1][3:5]


def test_tables_of_what_was_not_measured_and_of_earlier_figures(measured: dict[str, Any]):
    assert faithfulness_tables({"percents": []})["Faithfulness"]["rows"] == []
    summary = json.loads(json.dumps(measured["summary"]))
    figures = summary["attention_gradient"]["text"]
    figures["sufficiency_gap"].update(mean=None, standard_error=None, n=0)
    summary["percents"] = [5.0, 50.0]
    tables = faithfulness_tables(summary)
    assert tables["Faithfulness"]["rows"][0][7] == "n/a"
    assert tables["Drop of the probability at K = 15%"]["rows"][0][3:7] == [None] * 4
    for name in ("baseline", "by_head"):
        del summary[name]
    for modalities in by_method(summary).values():
        for of_modality in modalities.values():
            del of_modality["full"]
    assert list(faithfulness_tables(summary)) == ["Faithfulness"]

"""Every model from a table to a report: trained, saved, loaded, explained, evaluated."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fli2moe.config import Config
from fli2moe.data.sample import Dataset
from fli2moe.evaluation import evaluate, metric_tables
from fli2moe.evaluation.faithfulness import by_method
from fli2moe.explain.explanation import Explanation
from fli2moe.model import MODELS
from fli2moe.predictor import Predictor
from fli2moe.report import render
from fli2moe.training import fit

MEANING = {
    "fli2moe": "4 interaction experts",
    "dense": "one dense transformer",
    "sparse_moe": "a sparse mixture as feed-forward",
    "late_fusion": "one transformer for each modality",
    "early_fusion": "one MLP",
}
"""What the model's card says that it is."""


@pytest.mark.parametrize("name", MODELS)
def test_every_evaluator_serves_every_model(
    name: str,
    make_config: Callable[..., Config],
    dataset: Dataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = make_config(
        model={"name": name},
        losses={"interaction_schedule": "constant"},
        training={"epochs": 1},
        explain={"attribution": "attention_gradient"},
        evaluation={
            "samples": 3,
            "head_samples": 1,
            "check_samples": 2,
            "pair_contexts": 2,
            "pair_samples": 2,
            "budget": 40,
        },
    )
    run, cache = tmp_path / "run", tmp_path / "features"
    trained = fit(config, dataset, run, cache=cache)
    history = json.loads((run / "training.json").read_text(encoding="utf-8"))["history"]
    assert ("loss_balance" in history[0]) == (name == "sparse_moe")
    assert ("loss_synergy" in history[0]) == (name == "fli2moe")
    predictor, sample = Predictor.load(run), dataset.test[0]
    assert predictor.fingerprint == trained.fingerprint
    tokens = predictor.encode([sample.inputs])
    assert torch.equal(predictor.run(tokens).logits, trained.run(tokens).logits)
    found = predictor.explain(sample.inputs, budget=60, sample_id=sample.id)
    assert Explanation.from_json(found.to_json()) == found
    assert found.heads == predictor.model.heads
    notes = [note for note in found.notes if "attention maps" in note]
    if name == "early_fusion":
        assert found.attribution == found.settings["attribution"] == "gradient_x_input"
        assert notes == [
            "attention_gradient needs attention maps, which the model has not: "
            "gradient_x_input instead"
        ]
    else:
        assert (found.attribution, notes) == ("attention_gradient", [])
    caplog.clear()
    with caplog.at_level(logging.WARNING, "fli2moe"):
        metrics = evaluate(predictor, dataset, cache=cache, out=run)
    left_out = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    told = ["early_fusion has no attention maps: left out attention_gradient, attention_rollout"]
    assert left_out == (told if name == "early_fusion" else [])
    methods = set(by_method(metrics["faithfulness"]))
    rest = {"gradient_x_input", "integrated_gradients"}
    if name != "early_fusion":
        rest |= {"attention_gradient", "attention_rollout"}
    assert methods == rest
    assert set(metrics["experts"]) == set(predictor.model.experts)
    page = render([found], dataset.test, metrics=metric_tables(metrics))
    assert found.attribution in page
    assert MEANING[name] in (run / "README.md").read_text(encoding="utf-8")

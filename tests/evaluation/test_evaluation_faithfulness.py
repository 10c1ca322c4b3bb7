"""Faithfulness over a test split: the same absence as in explanations, chance drawn afresh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_options import with_options

from fli2moe.data.sample import Dataset
from fli2moe.evaluation.faithfulness import faithfulness
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.features import default_cache
from fli2moe.predictor import Predictor


@pytest.fixture
def split(predictor: Predictor, dataset: Dataset, tiny_run: Path) -> TestSplit:
    return run_split(predictor, dataset.test[:3], default_cache(tiny_run))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `attribute` was asked with, by the evaluation and by explanations alike."""
    from fli2moe import explaining
    from fli2moe.evaluation import faithfulness as measuring

    asked: list[dict[str, Any]] = []
    attribute = measuring.attribute

    def noted(*arguments: Any, **options: Any) -> Any:
        asked.append(options)
        return attribute(*arguments, **options)

    monkeypatch.setattr(measuring, "attribute", noted)
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

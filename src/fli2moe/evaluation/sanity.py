"""Sanity checks: explanations must change when the model's weights do (Adebayo et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fli2moe.evaluation.agreement import (
    Agreement,
    Explained,
    agree,
    importance_of,
    means,
    measurable,
    pairs_of,
)
from fli2moe.evaluation.cells import with_error
from fli2moe.evaluation.part import Part, Table
from fli2moe.evaluation.split import TestSplit
from fli2moe.explain.randomise import randomised
from fli2moe.features import Progress
from fli2moe.predictor import Predictor

CHANGED = 0.5
"""Explanations have changed where the fully randomised model's agree with the trained model's by
less than this share of what two estimates of the trained model agree by (ours)."""


def sanity(predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None) -> Part:
    """Compares explanations with those of models whose weights are drawn anew, from the top down.

    On `evaluation.check_samples` samples with a cross-modal pair; targets are the trained model's.
    Pair scores of every model rest on the same seed and `evaluation.budget`. `unchanged` compares
    two estimates of the trained model with different seeds: what noise alone leaves.
    """
    options = predictor.config.evaluation
    chosen = measurable(
        predictor, test, test.choose(range(len(test.samples)), options.check_samples, seed)
    )
    if not chosen:
        return Part({})
    models = [(step, replace(predictor, model=model)) for step, model in _steps(predictor, seed)]
    found: dict[str, list[Agreement]] = {"unchanged": [], **{step: [] for step, _ in models}}
    for done, i in enumerate(chosen):
        own = _explained(predictor, predictor, test, i, seed)
        again = Explained(own.importance, pairs_of(predictor, test, i, seed + 1, options.budget))
        found["unchanged"].append(agree(own, again))
        for step, changed in models:
            found[step].append(agree(own, _explained(predictor, changed, test, i, seed)))
        if progress:
            progress("sanity", done + 1, len(chosen))
    steps = {step: means(values) for step, values in found.items()}
    last = list(steps.values())[-1]
    verdicts = {
        name: _has_changed(steps["unchanged"][name]["mean"], value["mean"])
        for name, value in last.items()
    }
    return Part({"n": len(chosen), "steps": steps, "changed": verdicts})


def compare_explanations(
    predictor: Predictor, other: Predictor, test: TestSplit, seed: int
) -> dict[str, Any]:
    """Returns how alike the explanations of two models are, {measure: mean and error}.

    For a model trained on permuted labels, or from another seed. Samples, targets and budgets are
    the first model's.
    """
    options = predictor.config.evaluation
    chosen = measurable(
        predictor, test, test.choose(range(len(test.samples)), options.check_samples, seed)
    )
    return means(
        [
            agree(
                _explained(predictor, predictor, test, i, seed),
                _explained(predictor, other, test, i, seed),
            )
            for i in chosen
        ]
    )


def sanity_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Returns the table of a summary."""
    measures = list(summary["steps"]["unchanged"])
    rows = [
        [step, *(with_error(values[m]) if m in values else None for m in measures)]
        for step, values in summary["steps"].items()
    ]
    said = {True: "yes", False: "no", None: None}
    rows.append(["changed?", *(said[summary["changed"].get(m)] for m in measures)])
    return {
        "Sanity: weights drawn anew, from the top down": {
            "columns": ["drawn anew, with all above", *measures],
            "rows": rows,
            "note": "Agreement with the trained model's explanations of the mixture, over "
            f"{summary['n']} samples; `unchanged`: with another seed. Explanations that do not "
            "change do not depend on what was learnt.",
        }
    }


def _steps(predictor: Predictor, seed: int) -> list[tuple[str, Any]]:
    import copy

    classes = len(predictor.task.classes)
    steps = randomised(predictor.model, predictor.config.model, classes, seed)
    return [(step, copy.deepcopy(model)) for step, model in steps]


def _explained(
    predictor: Predictor, changed: Predictor, test: TestSplit, i: int, seed: int
) -> Explained:
    budget = predictor.config.evaluation.budget
    return Explained(
        importance_of(predictor, changed.model, test, i, seed),
        pairs_of(changed, test, i, seed, budget),
    )


def _has_changed(ceiling: float | None, left: float | None) -> bool | None:
    if ceiling is None or left is None or ceiling <= 0:
        return None  # two estimates of one model do not agree: nothing can be said
    return left < CHANGED * ceiling

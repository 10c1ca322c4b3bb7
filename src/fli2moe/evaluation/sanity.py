"""Sanity checks: explanations must change when the model's weights do (Adebayo et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fli2moe.evaluation.agreement import (
    MEASURES,
    Agreement,
    Explained,
    agree,
    averaged,
    by_chance,
    choose_checked,
    explained,
    figures,
    importance_of,
    kept_pairs,
)
from fli2moe.evaluation.cells import with_error
from fli2moe.evaluation.part import Part, Table
from fli2moe.evaluation.split import TestSplit
from fli2moe.explain.randomise import randomised
from fli2moe.features import Progress
from fli2moe.predictor import Predictor

CHANGED = 0.5
"""Explanations have changed where those of the fully randomised model are at less than this share
of the way from chance to what two estimates of the trained model agree by (ours)."""
TITLES = {
    "spearman": "Sanity: rank correlation with explanations of models drawn anew",
    "jaccard": "Sanity: overlap of the top with explanations of models drawn anew",
}


def sanity(predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None) -> Part:
    """Compares explanations with those of models whose weights are drawn anew, from the top down.

    On `evaluation.check_samples` samples; those without a cross-modal pair are left out. Targets
    are the trained model's. Pair scores of every model rest on `evaluation.budget` and the same
    seed. `unchanged` compares two estimates of the trained model with different seeds, `by_chance`
    independent rankings. `passed` says for each measure whether explanations have changed
    (`CHANGED`); None where two standard errors leave that open, or where estimates of the trained
    model itself do not agree by more than chance and two standard errors.
    """
    chosen = choose_checked(predictor, test, seed)
    if not chosen.kept:
        return Part({})
    own = {i: own_explanations(predictor, test, i, seed + i) for i in chosen.kept}
    unchanged = figures(
        [explained_again(predictor, test, i, seed + i, own[i]) for i in chosen.kept]
    )
    chance = averaged([by_chance(own[i]) for i in chosen.kept])
    steps: list[dict[str, Any]] = []
    found: dict[int, Agreement] = {}
    for name, model in randomised(predictor.model, seed):
        changed = replace(predictor, model=model)
        for done, i in enumerate(chosen.kept):
            found[i] = agree(own[i], explained(changed, test, i, seed + i))
            if progress:
                progress(f"sanity, {name}", done + 1, len(chosen.kept))
        steps.append({"name": name, "agreement": figures(list(found.values()))})
    last = steps[-1]["agreement"]
    summary = {
        "n": len(chosen.kept),
        "left_out": chosen.left_out,
        "budget": predictor.config.evaluation.budget,
        "unchanged": unchanged,
        "steps": steps,
        "by_chance": nested(chance),
        "passed": {
            what: {
                measure: _has_changed(ceiling, last[what][measure], chance[what, measure])
                for measure, ceiling in of_what.items()
            }
            for what, of_what in unchanged.items()
        },
    }
    rows = {
        i: {f"sanity.{what}.{m}": x for (what, m), x in of_sample.items() if np.isfinite(x)}
        for i, of_sample in found.items()
    }
    return Part(summary, rows)


def sanity_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Returns the tables of a summary: one for each measure, a row for each explanation."""
    return {title: _table(summary, measure) for measure, title in TITLES.items()}


def _table(summary: Mapping[str, Any], measure: str) -> Table:
    steps: Sequence[Mapping[str, Any]] = summary["steps"]
    said = {True: "yes", False: "no", None: None}
    rows = [
        [*row, said[summary["passed"][what][measure]]]
        for what, row in agreement_rows(summary, [s["agreement"] for s in steps], measure).items()
    ]
    note = (
        f"{MEASURES[measure].capitalize()} with the trained model's explanations of the mixture, "
        f"or of the expert named, {summary['n']} samples. Weights are drawn anew up to and "
        "including each step, from left to right. Unchanged: another estimate of the trained "
        "model, from another seed; pairs of a step have the same seed, so that shared noise may "
        "put them above it. Explanations that do not change do not depend on what was learnt."
    )
    columns = ["explanation", "unchanged", *(step["name"] for step in steps), "by chance"]
    return {"columns": [*columns, "changed"], "rows": rows, "note": note}


def agreement_rows(
    summary: Mapping[str, Any], others: Sequence[Mapping[str, Any]], measure: str
) -> dict[str, list[Any]]:
    """Returns {explanation: cells of its row}: its name, unchanged, others, by chance.

    Args:
        summary: with `unchanged` and `by_chance`.
        others: {explanation: {measure: mean and error}} of each model that it is compared with.
        measure: one of `MEASURES`.
    """
    return {
        what: [
            "redundancy gap" if what == "redundancy_gap" else what.replace(".", ", "),
            with_error(of_what[measure]),
            *(with_error(found[what][measure]) if what in found else None for found in others),
            summary["by_chance"][what][measure],
        ]
        for what, of_what in summary["unchanged"].items()
    }


def own_explanations(predictor: Predictor, test: TestSplit, i: int, seed: int) -> Explained:
    """Returns what the model says of a sample; pairs are kept as `kept_pairs` does."""
    budget = predictor.config.evaluation.budget
    pairs = kept_pairs(predictor, test, i, seed, budget)
    return Explained(importance_of(predictor, test, i), pairs)


def explained_again(
    predictor: Predictor, test: TestSplit, i: int, seed: int, own: Explained
) -> Agreement:
    """Returns how much two estimates of one model agree; attributions have no seed."""
    budget = predictor.config.evaluation.budget
    other = kept_pairs(predictor, test, i, seed + 1, budget)
    return agree(own, Explained(own.importance, other))


def _has_changed(ceiling: Mapping[str, Any], left: Mapping[str, Any], chance: float) -> bool | None:
    errors = ceiling["standard_error"], left["standard_error"]
    if None in errors or not np.isfinite(chance):
        return None
    room = ceiling["mean"] - chance
    if room <= 2 * errors[0]:
        return None
    over = abs(left["mean"] - chance) - CHANGED * room
    doubt = 2 * float(np.hypot(CHANGED * errors[0], errors[1]))
    return None if abs(over) <= doubt else over < 0


def nested(found: Agreement) -> dict[str, dict[str, float | None]]:
    """Returns {what: {measure: value}}; None where it is not defined."""
    values: dict[str, dict[str, float | None]] = {}
    for (what, measure), value in found.items():
        values.setdefault(what, {})[measure] = value if np.isfinite(value) else None
    return values

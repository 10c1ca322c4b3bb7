"""Do two models of one data set explain alike: of other training seeds, or of permuted labels?

Seeds should agree by more than chance, as far as they learnt the same; a model trained on labels
that say nothing should not (the data randomisation test of Adebayo et al. 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fli2moe.errors import InputError
from fli2moe.evaluation.agreement import (
    MEASURES,
    agree,
    averaged,
    by_chance,
    choose_checked,
    explained,
    figures,
)
from fli2moe.evaluation.part import Table
from fli2moe.evaluation.sanity import agreement_rows, explained_again, nested, own_explanations
from fli2moe.evaluation.split import TestSplit
from fli2moe.features import Progress
from fli2moe.predictor import Predictor

TITLES = {
    "spearman": "Rank correlation with explanations of other models",
    "jaccard": "Overlap of the top with explanations of other models",
}


def compare_explanations(
    predictor: Predictor, other: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> dict[str, Any]:
    """Returns how alike the explanations of two models are, on the same samples and targets.

    For a model trained on permuted labels, or from another seed. Samples, targets and options are
    the first model's. Keys are `n`, `left_out`, `budget`, `agreement` ({what: {measure: mean and
    error}}), and `unchanged` and `by_chance` as those of `sanity`.

    Args:
        predictor: whose predictions are explained.
        other: another model of the same data.
        test: as `predictor` sees it.
        seed: of samples and pair probes.
        progress: called after each sample.

    Raises:
        InputError: when the other model has other classes or features.
    """
    check_comparable(predictor, other)
    config = other.config.model_copy(
        update={
            "explain": predictor.config.explain,
            "evaluation": predictor.config.evaluation,
        }
    )
    other = replace(other, config=config)
    chosen = choose_checked(predictor, test, seed)
    agreement, again, chance = [], [], []
    for done, i in enumerate(chosen.kept):
        own = own_explanations(predictor, test, i, seed + i)
        agreement.append(agree(own, explained(other, test, i, seed + i)))
        again.append(explained_again(predictor, test, i, seed + i, own))
        chance.append(by_chance(own))
        if progress:
            progress("explanations of two models", done + 1, len(chosen.kept))
    return {
        "n": len(chosen.kept),
        "left_out": chosen.left_out,
        "budget": predictor.config.evaluation.budget,
        "agreement": figures(agreement),
        "unchanged": figures(again),
        "by_chance": nested(averaged(chance)),
    }


def check_comparable(predictor: Predictor, other: Predictor) -> None:
    """Raises InputError when two models have other classes or features."""
    mine, its = ((p.task.classes, dict(p.model.widths)) for p in (predictor, other))
    if mine != its:
        found, expected = (f"classes {c}, features {w}" for c, w in (its, mine))
        raise InputError("compare explanations", found, expected, "compare models of the same data")


def across_tables(summary: Mapping[str, Mapping[str, Any]]) -> dict[str, Table]:
    """Returns a table for each measure of {other model: what `compare_explanations` returns}."""
    return {title: _table(summary, measure) for measure, title in TITLES.items()}


def _table(summary: Mapping[str, Mapping[str, Any]], measure: str) -> Table:
    first = next(iter(summary.values()))
    agreements = [found["agreement"] for found in summary.values()]
    rows = list(agreement_rows(first, agreements, measure).values())
    note = (
        f"{MEASURES[measure].capitalize()} of explanations of the mixture, or of the expert named, "
        f"{first['n']} samples; targets are this model's. Same model: another estimate of it. "
        "Models of other seeds should agree by more than chance, one trained on permuted labels "
        "should not."
    )
    columns = ["explanation", "same model", *summary, "by chance"]
    return {"columns": columns, "rows": rows, "note": note}

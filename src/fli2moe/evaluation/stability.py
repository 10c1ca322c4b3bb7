"""Stability: does a ranking of pairs come out again with another seed or budget?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fli2moe.evaluation.agreement import (
    MEASURES,
    TOP,
    Agreement,
    agree_on_pairs,
    averaged,
    choose_checked,
    common_values,
    figures,
    kept_pairs,
)
from fli2moe.evaluation.cells import with_error
from fli2moe.evaluation.part import Part, Table
from fli2moe.evaluation.split import TestSplit
from fli2moe.evaluation.statistics import mean_and_error
from fli2moe.explain.scores import PairScores
from fli2moe.features import Progress
from fli2moe.predictor import Predictor

AGAINST = ("other seeds", "half budget", "double budget")
NAMES = {"SII": "SII", "redundancy_gap": "redundancy gap"}


def stability(predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None) -> Part:
    """Compares pair scores of the mixture with those from other seeds and budgets.

    On `evaluation.check_samples` samples; those without a cross-modal pair are left out. `against`
    holds {`other seeds` (two, averaged), `half budget`, `double budget` (each from another seed):
    {`SII` or `redundancy_gap`: {measure: mean and error}}}; a budget that is too small for the
    pairs of a sample measures nothing there. `reliability` is of the SII (see `split_half`).
    Attributions have no seed.
    """
    chosen = choose_checked(predictor, test, seed)
    if not chosen.kept:
        return Part({})
    budget = predictor.config.evaluation.budget
    found: dict[str, list[Agreement]] = {name: [] for name in AGAINST}
    halves: list[tuple[float, float]] = []
    for done, i in enumerate(chosen.kept):

        def estimate(k: int, size: int, i: int = i) -> dict[str, PairScores]:
            return kept_pairs(predictor, test, i, seed + i + k, size)

        own, first, second = estimate(0, budget), estimate(1, budget // 2), estimate(2, budget // 2)
        others = [agree_on_pairs(own, estimate(k, budget)) for k in (1, 2)]
        found["other seeds"].append(averaged(others))
        found["half budget"].append(agree_on_pairs(own, first))
        found["double budget"].append(agree_on_pairs(own, estimate(1, 2 * budget)))
        served = "SII" in first and "SII" in second
        halves.append(split_half(first["SII"], second["SII"]) if served else (np.nan, np.nan))
        if progress:
            progress("stability", done + 1, len(chosen.kept))
    summary = {
        "n": len(chosen.kept),
        "left_out": chosen.left_out,
        "budget": budget,
        "against": {name: figures(values) for name, values in found.items()},
        "reliability": {
            "plain": mean_and_error([plain for plain, _ in halves]),
            "corrected": mean_and_error([corrected for _, corrected in halves]),
        },
    }
    rows = {
        i: {"stability.sii_reliability": corrected}
        for i, (_, corrected) in zip(chosen.kept, halves, strict=True)
        if np.isfinite(corrected)
    }
    return Part(summary, rows)


def split_half(first: PairScores, second: PairScores) -> tuple[float, float]:
    """Returns the reliability of pair scores from two estimates of half the budget each.

    The plain value is Pearson's r over the pairs that both score. The corrected one is that of the
    whole budget, 2 r / (1 + r) (Spearman 1910; Brown 1910); r where it is not positive, as the
    formula then means nothing (ours). NaN where one of the two never varies: a model without
    interactions.
    """
    a, b = common_values(first, second)
    if len(a) < 2 or a.min() == a.max() or b.min() == b.max():
        return np.nan, np.nan
    r = float(np.corrcoef(a, b)[0, 1])
    return r, 2 * r / (1 + r) if r > 0 else r


def stability_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Returns the tables of a summary: agreement of rankings, and reliability of the SII."""
    shown = [(kind, measure) for kind in NAMES for measure in MEASURES]
    rows = [
        [
            against,
            *(
                with_error(found[kind][measure]) if kind in found else None
                for kind, measure in shown
            ),
        ]
        for against, found in summary["against"].items()
    ]
    budget = summary["budget"]
    about = f"Mixture, {summary['n']} samples, budget {budget}"
    reliability = summary["reliability"]
    return {
        "Stability of pair rankings": {
            "columns": ["against", *(f"{NAMES[kind]}: {MEASURES[m]}" for kind, m in shown)],
            "rows": rows,
            "note": f"{about}. Correlation over all pairs that both score; overlap (Jaccard) of "
            f"the top {TOP}.",
        },
        "Split-half reliability of SII": {
            "columns": ["correlation", "value", "samples"],
            "rows": [
                ["plain", with_error(reliability["plain"]), reliability["plain"]["n"]],
                [
                    "corrected (Spearman-Brown)",
                    with_error(reliability["corrected"]),
                    reliability["corrected"]["n"],
                ],
            ],
            "note": f"{about}: two estimates of {budget // 2} evaluations each. Near 0 where the "
            "model hardly interacts or the budget is too small.",
        },
    }

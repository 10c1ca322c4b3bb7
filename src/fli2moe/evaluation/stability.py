"""Stability: does a ranking of pairs come out again with another seed or budget?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fli2moe.evaluation.agreement import Agreement, agree_on_pairs, means, measurable, pairs_of
from fli2moe.evaluation.cells import with_error
from fli2moe.evaluation.part import Part, Table
from fli2moe.evaluation.split import TestSplit
from fli2moe.features import Progress
from fli2moe.predictor import Predictor

SEEDS = 2  # further ones
RELIABILITY = "SII: split-half reliability"


def stability(predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None) -> Part:
    """Compares pair scores of the mixture from one seed and budget with those from others.

    On `evaluation.check_samples` samples with a cross-modal pair. Split-half reliability is the
    correlation r of the SII of two estimates of half the budget each, stepped up to the whole by
    2 r / (1 + r) (Spearman 1910; Brown 1910): a model that hardly interacts has one near 0. Every
    attribution but `random` has no seed and comes out alike.
    """
    options = predictor.config.evaluation
    chosen = measurable(
        predictor, test, test.choose(range(len(test.samples)), options.check_samples, seed)
    )
    if not chosen:
        return Part({})
    budget = options.budget
    found: dict[str, list[Agreement]] = {"other seeds": [], "half budget": [], "double budget": []}
    halves = []
    for done, i in enumerate(chosen):
        own = pairs_of(predictor, test, i, seed, budget)
        others = {
            "half budget": [pairs_of(predictor, test, i, seed + 1, budget // 2)],
            "double budget": [pairs_of(predictor, test, i, seed + 1, 2 * budget)],
            "other seeds": [
                pairs_of(predictor, test, i, seed + 1 + k, budget) for k in range(SEEDS)
            ],
        }
        for name, tables in others.items():
            agreements = [
                {
                    measure: value
                    for kind, scores in own.items()
                    for measure, value in agree_on_pairs(kind, scores, table[kind]).items()
                }
                for table in tables
            ]
            found[name].append(
                {m: float(np.mean([a[m] for a in agreements])) for m in agreements[0]}
            )
        second = pairs_of(predictor, test, i, seed + 1 + SEEDS, budget // 2)
        halves.append(_reliability(others["half budget"][0]["SII"], second["SII"]))
        if progress:
            progress("stability", done + 1, len(chosen))
    summary: dict[str, Any] = {"n": len(chosen), "budget": budget}
    summary["against"] = {name: means(values) for name, values in found.items()}
    summary["reliability"] = means([{RELIABILITY: r} for r in halves])[RELIABILITY]
    rows = {
        i: {"stability.sii_reliability": r}
        for i, r in zip(chosen, halves, strict=True)
        if np.isfinite(r)
    }
    return Part(summary, rows)


def stability_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Returns the table of a summary."""
    measures = list(summary["against"]["other seeds"])
    rows = [
        [name, *(with_error(values[m]) for m in measures)]
        for name, values in summary["against"].items()
    ]
    return {
        "Stability of pair rankings": {
            "columns": ["against", *measures],
            "rows": rows,
            "note": f"Mixture, {summary['n']} samples, budget {summary['budget']}. {RELIABILITY}: "
            f"{with_error(summary['reliability'])}.",
        }
    }


def _reliability(first: Any, second: Any) -> float:
    """Spearman-Brown of two halves; NaN where one of them never varies."""
    a, b = first.value, second.value
    if len(a) != len(b) or len(a) < 2 or not a.std() or not b.std():
        return float("nan")
    r = float(np.corrcoef(a, b)[0, 1])
    return 2 * r / (1 + r) if r > 0 else r

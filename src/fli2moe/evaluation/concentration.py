"""How concentrated each head's importance is, and how specific to each expert (design 3.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from fli2moe.evaluation.cells import with_error
from fli2moe.evaluation.importance import Importance, importances, seen_by
from fli2moe.evaluation.part import Part, Table
from fli2moe.evaluation.split import TestSplit
from fli2moe.evaluation.statistics import mean_and_error, mean_of
from fli2moe.explain.concentration import (
    TOP_PERCENT,
    chance_overlap,
    gini,
    normalised_entropy,
    rank_correlation,
    top_overlap,
    top_share,
)
from fli2moe.features import Progress
from fli2moe.model import MIXTURE, FusionModel
from fli2moe.predictor import Predictor

BETWEEN = "experts"
"""Stands for a head where a value is of all pairs of experts."""

MEASURES = {"gini": gini, "normalised_entropy": normalised_entropy, "top10_share": top_share}
OVERLAPS = ("jaccard", "chance_jaccard", "spearman")


def concentration(
    predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> Part:
    """Returns concentration and specificity over the test samples; see `concentration_of`."""
    return concentration_of(predictor, importances(predictor, test, seed, progress))


def concentration_of(predictor: Predictor, found: Sequence[Importance]) -> Part:
    """Measures the importance that content tokens have for each head, and between experts.

    The summary holds flat records: `by_head`, for each method, head and modality the Gini
    coefficient, the normalised entropy and the share held by the top 10%; `specificity`, for each
    method and modality the mean over pairs of experts of their top 10%'s Jaccard overlap and of
    Spearman's correlation, and the overlap of random tokens in the same samples. Each figure is
    {mean, standard_error, n} over samples. Lower overlap is more specific. An isolated expert has
    no figures where it does not see; with fewer than two experts that see, specificity is None.

    `left_out` counts samples without a content token in the modality. A figure's own n is smaller
    where importance is 0 or equal everywhere, or there is a single token.
    """
    model, options = predictor.model, predictor.config.evaluation
    wanted = dict.fromkeys(options.attributions)
    methods = [method for method in wanted if any(method in sample.scores for sample in found)]
    rows: dict[int, dict[str, float]] = {}
    by_head, specificity = [], []
    for method, modality in product(methods, model.modalities):
        attributed = [sample for sample in found if method in sample.scores]
        samples = [sample for sample in attributed if sample.content[modality].any()]
        values = {s.index: _of_sample(model, s, method, modality) for s in samples}
        for index, of_sample in values.items():
            rows.setdefault(index, {}).update(
                {
                    f"concentration.{method}.{modality}.{head}.{name}": value
                    for (head, name), value in of_sample.items()
                    if np.isfinite(value)
                }
            )
        counts = {"n": len(samples), "left_out": len(attributed) - len(samples)}
        for head in _heads(model, modality):
            record = {"method": method, "head": head, "modality": modality, **counts}
            by_head.append(record | _figures(values.values(), head, tuple(MEASURES)))
        pairs = len(list(combinations(_experts(model, modality), 2)))
        record = {"method": method, "modality": modality, **counts, "expert_pairs": pairs}
        specificity.append(record | _figures(values.values(), BETWEEN, OVERLAPS))
    summary = {"top_percent": TOP_PERCENT, "by_head": by_head, "specificity": specificity}
    return Part(summary, rows)


_Values = dict[tuple[str, str], float]
"""{(head or `BETWEEN`, measure): value} of one sample, method and modality."""


def _of_sample(model: FusionModel, sample: Importance, method: str, modality: str) -> _Values:
    content = sample.content[modality]
    tokens = {
        head: sample.scores[method][head][modality][0].double().numpy()[content]
        for head in _heads(model, modality)
    }
    values = {
        (head, name): measure(tokens[head])
        for head, (name, measure) in product(tokens, MEASURES.items())
    }
    pairs = list(combinations([tokens[e] for e in _experts(model, modality)], 2))
    jaccard = mean_of([top_overlap(a, b) for a, b in pairs])
    chance = chance_overlap(int(content.sum())) if np.isfinite(jaccard) else np.nan
    spearman = mean_of([rank_correlation(a, b) for a, b in pairs])
    between = zip(OVERLAPS, (jaccard, chance, spearman), strict=True)
    return values | {(BETWEEN, name): value for name, value in between}


def _figures(
    values: Iterable[_Values], head: str, names: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    kept = list(values)
    return {name: mean_and_error([v[head, name] for v in kept]) for name in names}


def _heads(model: FusionModel, modality: str) -> list[str]:
    return [head for head in model.heads if modality in seen_by(model, head)]


def _experts(model: FusionModel, modality: str) -> list[str]:
    """The experts that see a modality, where there are several in the model."""
    return [head for head in _heads(model, modality) if head != MIXTURE]


def concentration_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Returns how concentrated each head's importance is, and how alike the experts' are."""
    rows = [
        [r["method"], r["head"], r["modality"], *(with_error(r[name]) for name in MEASURES), r["n"]]
        for r in summary["by_head"]
    ]
    percent = f"{summary['top_percent']:g}%"
    columns = ["attribution", "head", "modality", "Gini", "entropy", f"top {percent}", "samples"]
    note = (
        "Of |importance| over one modality's content tokens. Entropy over that of equal importance "
        f"(1: spread evenly); the share that the top {percent} hold."
    )
    tables = {"Concentration of importance": {"columns": columns, "rows": rows, "note": note}}
    rows = [
        [r["method"], r["modality"], *(with_error(r[name]) for name in OVERLAPS), r["n"]]
        for r in summary["specificity"]
    ]
    columns = ["attribution", "modality", f"overlap of top {percent}", "by chance", "Spearman"]
    note = (
        "Between experts, the mean over pairs that both see the modality; lower is more specific. "
        "Overlap: Jaccard, |A and B| / |A or B|. n/a where fewer than two experts see it."
    )
    table = {"columns": [*columns, "samples"], "rows": rows, "note": note}
    return tables | {"Specificity of importance to experts": table}

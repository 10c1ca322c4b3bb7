"""The figures of `metrics.json` that runs are compared by, and the columns they are tested on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TASK = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "auroc": "AUROC",
}
NO_METHOD = ("percents", "baseline", "by_head")
COLUMNS = {
    "accuracy": "correct",
    "interaction share": "interaction_share.mixture",
}
"""{figure: column of samples.parquet that it is the mean of}, beside those of `column_of`."""


def figures_of(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Returns {figure: value}; what a run did not measure is not there, or None."""
    return {name: _number(value) for name, value in _figures(metrics)}


def column_of(figure: str) -> str | None:
    """Returns the column of samples.parquet whose mean a figure is; None where there is none."""
    if figure in COLUMNS:
        return COLUMNS[figure]
    kind, _, rest = figure.partition(", ")
    gaps = {
        "comprehensiveness gap": "comprehensiveness_gap",
        "sufficiency gap": "sufficiency_gap",
    }
    if kind in gaps and ", " in rest:
        method, modality = rest.split(", ", 1)
        return f"faithfulness.{method}.{modality}.{gaps[kind]}"
    if kind == "Gini" and ", " in rest:
        method, modality = rest.split(", ", 1)
        return f"concentration.{method}.{modality}.mixture.gini"
    return None


def _figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, name in TASK.items():
        yield name, metrics["task"].get(key)
    yield "interaction share", _mean(metrics.get("interaction_share", {}).get("mixture"))
    for method, modalities in metrics.get("faithfulness", {}).items():
        if method in NO_METHOD:
            continue
        for modality, found in modalities.items():
            for key in ("comprehensiveness_gap", "sufficiency_gap"):
                yield f"{key.replace('_', ' ')}, {method}, {modality}", _mean(found.get(key))
    concentration = metrics.get("concentration", {})
    for entry in concentration.get("by_head", ()):
        if entry["head"] == "mixture" or len(metrics["experts"]) == 1:
            yield f"Gini, {entry['method']}, {entry['modality']}", _mean(entry["gini"])
    for entry in concentration.get("specificity", ()):
        where = f"{entry['method']}, {entry['modality']}"
        yield f"overlap of experts' top 10%, {where}", _mean(entry["jaccard"])
        yield f"rank correlation of experts, {where}", _mean(entry["spearman"])
    for kind, found in metrics.get("planted", {}).items():
        yield f"planted {kind}, precision@1", found["precision_at_1"]
        yield f"planted {kind}, average precision", found["average_precision"]
    for entry in metrics.get("pair_masking", {}).get("primary", ()):
        which = entry.get("pairs", "top")
        if (which, entry["m"]) in (("top", 10), ("disjoint", 5)):
            name = "disjoint " * (which == "disjoint") + f"{entry['kind']} pairs"
            yield f"{name} above swapped, {entry['head']}", entry["mean"]

    for entry in metrics.get("pair_masking", {}).get("drops", ()):
        if entry["m"] == 10:
            pairs = f"{entry['kind']} pairs, {entry['head']}"
            for control, name in (("random_pairs", "random"), ("same_players", "as many players")):
                more = entry.get(f"score_more_than_{control}")
                yield f"fall beyond {name}, {pairs}", _mean(more)


def _mean(value: Mapping[str, Any] | None) -> Any:
    return None if value is None else value.get("mean")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None

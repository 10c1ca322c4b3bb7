"""From metrics.json to tables that a terminal, a report or a paper can show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fli2moe.evaluation.across_models import across_tables
from fli2moe.evaluation.concentration import concentration_tables
from fli2moe.evaluation.faithfulness import faithfulness_tables
from fli2moe.evaluation.interactions import interaction_tables
from fli2moe.evaluation.pair_tables import pair_masking_tables
from fli2moe.evaluation.part import Table
from fli2moe.evaluation.planted import planted_tables
from fli2moe.evaluation.sanity import sanity_tables
from fli2moe.evaluation.stability import stability_tables

SECTIONS: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Table]]] = {
    "faithfulness": faithfulness_tables,
    "concentration": concentration_tables,
    "pair_masking": pair_masking_tables,
    "planted": planted_tables,
    "sanity": sanity_tables,
    "explanations_against": across_tables,
    "stability": stability_tables,
}
"""Sections of `metrics.json` with tables of their own, in the order in which they are shown."""


def metric_tables(metrics: Mapping[str, Any]) -> dict[str, Table]:
    """Returns {title: {columns, rows, note}}; None stands for what was not measured."""
    shares = metrics.get("interaction_share")
    tables = dict(interaction_tables(shares)) if shares else {}  # first: how much there is
    tables["Task"] = _task(metrics)
    if metrics["task"].get("accuracy_per_label"):
        tables["Accuracy per label"] = _per_label(metrics)
    if len(metrics["experts"]) > 1:
        tables["Experts"] = _experts(metrics)
    for section, make in SECTIONS.items():
        if section in metrics:
            tables |= make(metrics[section])
    return tables


def _task(metrics: Mapping[str, Any]) -> Table:
    columns = {"accuracy": "accuracy", "macro_f1": "macro F1", "micro_f1": "micro F1"}
    columns["auroc"] = "AUROC"
    if "f1" in metrics["task"]:  # binary
        columns |= {"f1": "F1 of the positive", "average_precision": "average precision"}
    names = tuple(columns)
    rows = [[metrics["model"]["name"], *(metrics["task"][n] for n in names)]]
    for other, values in metrics.get("against", {}).items():
        rows.append([other, *(values.get(n) for n in names)])
    for view, values in metrics.get("linear_probe", {}).items():
        rows.append([f"linear probe, {view}", *(values[n] for n in names)])
    note = f"{metrics['data']['test_samples']} test samples."
    return {
        "columns": ["model", *columns.values()],
        "rows": rows,
        "note": note,
    }


def _per_label(metrics: Mapping[str, Any]) -> Table:
    models = {metrics["model"]["name"]: metrics["task"], **metrics.get("against", {})}
    labels = list(metrics["task"]["accuracy_per_label"])
    rows = [[label, *(m["accuracy_per_label"][label] for m in models.values())] for label in labels]
    return {"columns": ["label", *models], "rows": rows, "note": ""}


def _experts(metrics: Mapping[str, Any]) -> Table:
    rows = [
        [name, f["weight"], f["weight_sd"], f["share"], f["share_sd"]]
        for name, f in metrics["experts"].items()
    ]
    note = (
        "Share: |weight x score| of the predicted target, the mean over a sample's targets; "
        "weights alone are not identifiable."
    )
    return {
        "columns": ["expert", "weight", "sd", "share of output", "sd"],
        "rows": rows,
        "note": note,
    }

"""From metrics.json to tables that a terminal, a report or a paper can show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fli2moe.evaluation.planted import COUNTS


def metric_tables(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns {title: {columns, rows, note}}; None stands for what was not measured."""
    tables = {"Task": _task(metrics)}
    if metrics["task"].get("accuracy_per_label"):
        tables["Accuracy per label"] = _per_label(metrics)
    if len(metrics["experts"]) > 1:
        tables["Experts"] = _experts(metrics)
    tables["Faithfulness"] = _faithfulness(metrics)
    tables["Share of the output that interactions explain"] = _shares(metrics)
    if "per_label" in metrics["interaction_share"]:
        tables["Share of the output that interactions explain, per label"] = _label_shares(metrics)
    if "planted" in metrics:
        tables["Planted pairs recovered"] = _planted(metrics)
    return tables


def _task(metrics: Mapping[str, Any]) -> dict[str, Any]:
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


def _per_label(metrics: Mapping[str, Any]) -> dict[str, Any]:
    models = {metrics["model"]["name"]: metrics["task"], **metrics.get("against", {})}
    labels = list(metrics["task"]["accuracy_per_label"])
    rows = [[label, *(m["accuracy_per_label"][label] for m in models.values())] for label in labels]
    return {"columns": ["label", *models], "rows": rows, "note": ""}


def _experts(metrics: Mapping[str, Any]) -> dict[str, Any]:
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


def _faithfulness(metrics: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for method, modalities in metrics["faithfulness"].items():
        if method == "percents":
            continue
        for modality, f in modalities.items():
            random = [_mean(f["random_comprehensiveness"]), _mean(f["random_sufficiency"])]
            rows.append(
                [
                    method,
                    modality,
                    f["aopc_comprehensiveness"]["mean"],
                    random[0],
                    _with_error(f["comprehensiveness_gap"]),
                    f["aopc_sufficiency"]["mean"],
                    random[1],
                    _with_error(f["sufficiency_gap"]),
                ]
            )
    columns = [
        "attribution",
        "modality",
        "comprehensiveness",
        "random",
        "gap",
        "sufficiency",
        "random",
        "gap",
    ]
    note = (
        "AOPC over K = "
        + ", ".join(f"{k:g}" for k in metrics["faithfulness"]["percents"])
        + "% of one modality's players. Comprehensiveness: higher is better; sufficiency: "
        "lower. Gaps above 0 beat random masking."
    )
    return {"columns": columns, "rows": rows, "note": note}


def _shares(metrics: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        [head, value["mean"], value["standard_error"], value["n"]]
        for head, value in metrics["interaction_share"].items()
        if head != "per_label"
    ]
    note = "1 - the share that players explain one by one, each present with probability 1/2."
    return {"columns": ["head", "share", "standard error", "samples"], "rows": rows, "note": note}


def _label_shares(metrics: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for label, heads in metrics["interaction_share"]["per_label"].items():
        value = heads["mixture"]
        rows.append([label, value["mean"], value["standard_error"], value["n"]])
    note = "Mixture; the samples for which the label is predicted."
    return {"columns": ["label", "share", "standard error", "samples"], "rows": rows, "note": note}


def _planted(metrics: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for kind, found in metrics["planted"].items():
        for head, f in {"mixture": found, **found["experts"]}.items():
            name = f"{kind} ({found['label']})"
            rows.append([name, head, f["precision_at_1"], f["average_precision"], f["n"]])
    note = (
        "Top pair against the pair the data were made with, among all pairs across modalities, on "
        "correctly predicted positive test samples. Medians per sample: "
    )
    note += "; ".join(f"{kind}, {_searched(found)}" for kind, found in metrics["planted"].items())
    columns = ["interaction", "head", "precision@1", "average precision", "samples"]
    return {"columns": columns, "rows": rows, "note": note}


def _searched(found: Mapping[str, Any]) -> str:
    """What was searched for the planted pairs of one interaction, in words."""
    if not found["n"]:
        return "not measured"
    counts = [f"{found[name]:g} {name}" for name in COUNTS]
    return f"{', '.join(counts)}, precision@1 by chance {found['chance_precision_at_1']:.3f}"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _with_error(value: Mapping[str, float | None]) -> str:
    if value["mean"] is None:
        return "n/a"
    error = value["standard_error"]
    return f"{value['mean']:+.3f}" + ("" if error is None else f" ± {error:.3f}")

"""The data set at a glance: charts of what was measured, and the pairs that come up most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fli2moe.data.sample import Sample
from fli2moe.display import places
from fli2moe.display.notable import judged
from fli2moe.display.wording import head_name, is_clear
from fli2moe.explain.explanation import Explanation
from fli2moe.report.charts import Chart, Series, line_chart, stacked_bars
from fli2moe.tokens import Player

HALF = 1.96  # standard errors: half a 95% interval
MOST = 12  # frequent pairs of each kind
METHODS = 3  # attribution methods in one chart
KINDS = ("synergy", "redundancy")
HIDDEN = {
    "ranked": "top pairs",
    "random_pairs": "random pairs",
    "same_players": "random parts, as many",
    "top_players": "most important parts, as many",
}
CAUTION = (
    "Means with 95% intervals over samples. Even in a model without any interaction top pairs beat "
    "random ones, as they hold important parts: the comparison with edge-swapped pairs decides."
)
CURVES = {
    "comprehensiveness": "probability lost when the top K% is hidden (higher is better)",
    "sufficiency": "probability lost when only the top K% is kept (lower is better)",
}


def charts(measured: Mapping[str, Any], explanations: Sequence[Explanation]) -> list[Chart]:
    """Returns the charts of a data set: what of it was not measured has none.

    Args:
        measured: `metrics.json` as `evaluate` wrote it, or nothing.
        explanations: those of the page; expert weights are theirs where `measured` has none.
    """
    return [
        *_interaction_share(measured.get("interaction_share", {})),
        *_weights(measured, explanations),
        *_faithfulness(measured.get("faithfulness", {})),
        *_pair_masking(measured.get("pair_masking", {})),
    ]


def frequent_pairs(
    groups: Mapping[str, Sequence[Explanation]], samples: Mapping[str, Sample]
) -> dict[str, dict[str, Any]]:
    """Returns {title: table} of the clear pairs that come up in most samples.

    Words are compared without case, picture parts by where they lie (one of nine regions). The
    values are the mixture's.

    Args:
        groups: {sample id: its explanations}.
        samples: {sample id: sample}.
    """
    found: dict[str, dict[tuple[str, str, str], _Count]] = {kind: {} for kind in KINDS}
    looked: dict[str, int] = dict.fromkeys(KINDS, 0)
    for name, group in groups.items():
        for explanation in group:
            shown = places.modalities_of(explanation)
            kinds = {m: places.kind_of(m, explanation, samples[name]) for m in shown}
            for kind in (k for k in KINDS if k in explanation.pairs):
                looked[kind] += 1
                for key, value in _clear(explanation, kind, kinds).items():
                    found[kind].setdefault(key, _Count()).add(value, name)
    return {
        f"Most frequent {kind} pairs": _frequent(found[kind], looked[kind])
        for kind in KINDS
        if looked[kind]
    }


@dataclass
class _Count:
    values: list[float] = field(default_factory=list)
    samples: set[str] = field(default_factory=set)

    def add(self, value: float, sample: str) -> None:
        self.values.append(value)
        self.samples.add(sample)

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))


def _clear(
    explanation: Explanation, kind: str, kinds: Mapping[str, str]
) -> dict[tuple[str, str, str], float]:
    """{(one part, other part, target): value} of the clear pairs of one explanation's mixture."""
    scores = explanation.pairs[kind]
    ranked = judged(kind, scores.for_head(scores.heads[0]) if len(scores) else scores)
    scores = ranked.scores
    found: dict[tuple[str, str, str], float] = {}

    def label(player: Player) -> str:
        kind = kinds.get(player.modality, "vector")
        said = places.label_of(player, explanation, kind)
        return said.casefold() if kind == "text" else said

    for r, key in enumerate(ranked.keys):
        if is_clear(key):
            one, other = (scores.players[i] for i in (scores.first[r], scores.second[r]))
            place = (label(one), label(other), explanation.target)
            found.setdefault(place, float(scores.value[r]))
    return found


def _frequent(found: Mapping[tuple[str, str, str], _Count], looked: int) -> dict[str, Any]:
    ranked = sorted(found.items(), key=lambda item: (-len(item[1].samples), -item[1].mean))
    rows = [
        [one, other, target, len(count.samples), count.mean]
        for (one, other, target), count in ranked[:MOST]
    ]
    note = (
        f"Clear pairs in {looked} explanations, mixture; {len(found)} different ones."
        if found
        else f"No clear pair in {looked} explanations."
    )
    columns = ["part", "with", "for", "samples", "mean value"]
    return {"columns": columns, "rows": rows, "note": note}


def _interaction_share(section: Mapping[str, Any]) -> list[Chart]:
    heads = {h: f for h, f in section.items() if isinstance(f, Mapping) and "standard_error" in f}
    if not heads:
        return []
    shares = Series(
        "interactions",
        [f["mean"] for f in heads.values()],
        0,
        errors=[_half(f) for f in heads.values()],
    )
    chart = line_chart(
        "How much interactions explain",
        [head_name(head).replace("Unique: ", "") for head in heads],
        [shares],
        across="whole model, and each expert",
        up="share of the output",
        note="Share of the variance of the score that single parts cannot explain, with 95% "
        "intervals. Near 0: the model is almost additive, and its pairs are mostly noise.",
        joined=False,
    )
    return [replace(chart, legend=())]


def _weights(measured: Mapping[str, Any], explanations: Sequence[Explanation]) -> list[Chart]:
    experts = measured.get("experts", {})
    if len(experts) > 1 and all("weight_per_label" in found for found in experts.values()):
        labels = list(next(iter(experts.values()))["weight_per_label"])
        rows = {
            label: {head_name(e): found["weight_per_label"][label] for e, found in experts.items()}
            for label in labels
        }
        rows = {"all": {head_name(e): f["weight"] for e, f in experts.items()}} | rows
        note = "Mean router weight of the test samples for which each class is the answer."
    else:
        rows, note = _weights_shown(explanations)
    if len(next(iter(rows.values()), {})) < 2:
        return []
    return [stacked_bars("Expert weights by class", rows, note=note)]


def _weights_shown(
    explanations: Sequence[Explanation],
) -> tuple[dict[str, dict[str, float | None]], str]:
    of_target: dict[str, list[Explanation]] = {}
    for explanation in explanations:
        of_target.setdefault(explanation.target, []).append(explanation)
    rows: dict[str, dict[str, float | None]] = {
        target: {
            head_name(expert): float(np.mean([e.expert_weights.get(expert, 0.0) for e in own]))
            for expert in own[0].expert_weights
        }
        for target, own in of_target.items()
    }
    return rows, "Mean router weight of the samples on this page for which each class is explained."


def _faithfulness(section: Mapping[str, Any]) -> list[Chart]:
    methods = {
        name: f for name, f in section.items() if isinstance(f, Mapping) and name != "random"
    }
    methods = dict(list(methods.items())[:METHODS])
    modalities = dict.fromkeys(m for found in methods.values() for m in found)
    places_ = [f"{percent:g}" for percent in section.get("percents", ())]
    found = []
    for modality in modalities:
        for kind, up in CURVES.items():
            series = []
            for style, (method, values) in enumerate(methods.items()):
                if modality in values:
                    name = method.replace("_", " ")
                    series.append(Series(name, values[modality][kind], style))
                    random = values[modality][f"random_{kind}"]
                    series.append(Series("random parts", random, style, control=True))
            note = f"{up.capitalize()}. Dashed: random parts, as many; mixture."
            one = {s.name: s for s in series if s.control}
            kept = [s for s in series if not s.control] + list(one.values())
            found.append(
                line_chart(
                    f"{kind.capitalize()}: {modality}",
                    places_,
                    kept,
                    across="K, % of the parts",
                    up="fall of the probability",
                    note=note,
                )
            )
    return found


def _pair_masking(section: Mapping[str, Any]) -> list[Chart]:
    drops = section.get("drops", ())
    found: list[Chart] = []
    for kind, head in dict.fromkeys((e["kind"], e["head"]) for e in drops):
        own = [e for e in drops if (e["kind"], e["head"]) == (kind, head)]
        series = [
            Series(
                name,
                [e[control]["score"]["mean"] for e in own],
                style,
                errors=[_half(e[control]["score"]) for e in own],
            )
            for style, (control, name) in enumerate(HIDDEN.items())
        ]
        found.append(
            line_chart(
                f"Hiding {kind} pairs, ranked on {head_name(head).lower()}",
                [str(e["m"]) for e in own],
                series,
                across="pairs hidden",
                up="fall of the score",
                note=CAUTION if not found else "Means with 95% intervals over samples.",
                joined=False,
            )
        )
    return found


def _half(found: Mapping[str, Any]) -> float | None:
    error = found.get("standard_error")
    return None if error is None else HALF * float(error)

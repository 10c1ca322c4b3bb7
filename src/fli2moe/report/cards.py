"""From explanations of one sample to the JSON values its card is drawn from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fli2moe.data.causes import lies_on
from fli2moe.data.sample import Cause, Sample
from fli2moe.display import places
from fli2moe.display.pictures import LONGEST_SIDE, Thumbnail, thumbnail
from fli2moe.display.wording import head_meaning, head_name
from fli2moe.errors import InputError
from fli2moe.explain.explanation import Explanation
from fli2moe.report.pairs import pair_tables, rounded
from fli2moe.tokens import Player

MAX_BARS = 6
MAX_SETTING = 200  # characters of one setting's value


@dataclass(frozen=True)
class Task:
    """What the whole set of explanations tells about the task.

    Attributes:
        multilabel: several classes may be true at once.
        labelled: the true labels are known.
    """

    multilabel: bool
    labelled: bool


def task_of(explanations: Sequence[Explanation], samples: Sequence[Sample]) -> Task:
    """Returns the task that the explanations name, and whether any labels are known."""
    labels = [e.labels for e in explanations] + [s.labels for s in samples]
    return Task(any(e.task == "multilabel" for e in explanations), any(labels))


def card(
    sample: Sample, explanations: Sequence[Explanation], task: Task, longest: int = LONGEST_SIDE
) -> dict[str, Any]:
    """Returns the JSON values of one sample's card.

    Args:
        sample: the raw inputs, labels and planted truth.
        explanations: one or more of this sample, one per target.
        task: what the labels mean.
        longest: longest side of an embedded picture in pixels.
    """
    first = explanations[0]
    names = tuple(dict.fromkeys(m for e in explanations for m in places.modalities_of(e)))
    inputs = [_input(m, first, sample, longest) for m in names]
    icon = next((i.pop("icon") for i in inputs if i.get("icon")), "")
    for item in inputs:
        item.pop("icon", None)
    labels = first.labels or sample.labels
    predicted = _predicted(first, task)
    right = set(predicted) == set(labels) if task.labelled else None
    return {
        "id": sample.id,
        "icon": icon,
        "predicted": predicted,
        "labels": list(labels) if task.labelled else None,
        "right": right,
        "classes": list(dict.fromkeys([*labels, *predicted])),
        "expert": _dominant(first),
        "multilabel": task.multilabel,
        "inputs": inputs,
        "views": [_view(e, sample, names, inputs, labels, task) for e in explanations],
    }


def _input(modality: str, explanation: Explanation, sample: Sample, longest: int) -> dict[str, Any]:
    kind = places.kind_of(modality, explanation, sample)
    item: dict[str, Any] = {"modality": modality, "kind": kind}
    if kind == "text":
        return item
    given = explanation.inputs.get(modality, "")
    raw = sample.inputs.get(modality, given)
    # Only the name: a folder tells a reader nothing and may tell too much about the machine.
    item["file"] = Path(raw).name
    if kind == "image":
        item["size"] = list(explanation.sizes[modality])
        try:
            picture = _first_readable([raw, given], longest)
        except InputError as error:
            item["problem"] = error.found
        else:
            item |= {"picture": picture.source, "icon": picture.icon}
    return item


def _first_readable(paths: Sequence[str | Path], longest: int) -> Thumbnail:
    found = [p for p in paths if "\0" not in str(p) and Path(p).is_file()]
    return thumbnail((found or list(paths))[0], longest)


def _predicted(explanation: Explanation, task: Task) -> list[str]:
    scored = list(zip(explanation.classes, explanation.probabilities, strict=True))
    if task.multilabel:
        return [name for name, p in scored if p >= 0.5]
    return [max(scored, key=lambda pair: pair[1])[0]] if scored else []


def _dominant(explanation: Explanation) -> str:
    """The expert with the largest share of the output; empty where there is one alone."""
    shares = {e: explanation.expert_shares.get(e, w) for e, w in explanation.expert_weights.items()}
    return head_name(max(shares, key=lambda e: shares[e])) if len(shares) > 1 else ""


def _view(
    explanation: Explanation,
    sample: Sample,
    names: Sequence[str],
    inputs: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    task: Task,
) -> dict[str, Any]:
    layout = places.layout_of(explanation)
    players = layout.players
    causes = places.causes_for(explanation, sample)
    kinds = {item["modality"]: item["kind"] for item in inputs}
    return {
        "target": explanation.target,
        "probability": _number(explanation.probabilities[explanation.class_index]),
        "bars": _bars(explanation, labels, task),
        "hidden_classes": max(0, len(explanation.classes) - MAX_BARS),
        "heads": [[h, head_name(h), head_meaning(h)] for h in explanation.heads],
        "experts": [
            [head_name(e), _number(w), _number(explanation.expert_shares.get(e, math.nan))]
            for e, w in explanation.expert_weights.items()
        ],
        "attribution": explanation.attribution.replace("_", " "),
        "players": [
            {
                "m": names.index(p.modality),
                "kind": kinds[p.modality],
                "label": _label(p, members, explanation, kinds[p.modality]),
                "several": len(members) > 1,
            }
            for i, p in enumerate(players)
            for members in [[q for q, o in zip(layout.parts, layout.owners, strict=True) if o == i]]
        ],
        "parts": [
            {"player": owner, "label": places.label_of(p, explanation, kinds[p.modality])}
            | ({"name": p.name} if kinds[p.modality] == "image" and p.name else {})
            for owner, p in zip(layout.owners, layout.parts, strict=True)
        ],
        "drawings": [
            _drawing(m, kinds[m], explanation, layout, places.cause_spans(causes, m)) for m in names
        ],
        "scores": {
            head: [_number(score) for score in explanation.scores_of(layout.parts, head)]
            for head in explanation.heads
        },
        "pairs": pair_tables(explanation, causes),
        "truth": [_truth(c, players, explanation, kinds) for c in causes],
        "notes": list(explanation.notes),
        "settings": _settings(explanation),
    }


def _label(player: Player, members: list[Player], explanation: Explanation, kind: str) -> str:
    if kind == "vector" and len(members) > 1:
        return f"{members[0]} to {members[-1]}"
    return places.label_of(player, explanation, kind)


def _drawing(
    modality: str,
    kind: str,
    explanation: Explanation,
    layout: places.Layout,
    causes: list[places.Span],
) -> dict[str, Any]:
    """Returns what of one modality is drawn where: pieces of text, boxes or cells.

    Each piece, box and cell says of which player and part it is; `edges` are the players' boxes.
    """
    own = layout.of(modality)
    unseen = list(explanation.unseen.get(modality, ()))
    drawing: dict[str, Any] = {"homeless": [[i, k] for i, k, p in own if not p.spans]}
    if kind == "text":
        text = explanation.inputs.get(modality, "")
        drawing["pieces"] = places.pieces(text, own, unseen, causes)
    elif kind == "image":
        players = {i: layout.players[i] for i, _, _ in own}
        drawing["boxes"] = [[i, k, *map(rounded, span)] for i, k, p in own for span in p.spans]
        drawing["edges"] = [[i, *map(rounded, s)] for i, p in players.items() for s in p.spans]
        drawing["unseen"] = [list(map(rounded, span)) for span in unseen]
        drawing["causes"] = [list(map(rounded, span)) for span in causes]
    else:
        spans = {modality: tuple(causes)}
        drawing["cells"] = [[i, k, int(lies_on(p, spans))] for i, k, p in own if p.spans]
    return drawing


def _bars(explanation: Explanation, labels: Sequence[str], task: Task) -> list[list[Any]]:
    scored = sorted(
        enumerate(zip(explanation.classes, explanation.probabilities, strict=True)),
        key=lambda row: (row[0] != explanation.class_index, row[1][0] not in labels, -row[1][1]),
    )
    # The target and the true classes stay, the best of the others fill up; then all by size.
    shown = sorted(scored[:MAX_BARS], key=lambda row: -row[1][1])
    known = set(labels) if task.labelled else set()
    return [[n, _number(p), int(i == explanation.class_index), int(n in known)]
            for i, (n, p) in shown]  # fmt: skip


def _truth(
    cause: Cause, players: Sequence[Player], explanation: Explanation, kinds: Mapping[str, str]
) -> dict[str, Any]:
    found = [i for i, p in enumerate(players) if lies_on(p, cause.spans)]
    return {
        "interaction": cause.interaction,
        "name": head_name(cause.interaction),
        "players": found,
    }


def _settings(explanation: Explanation) -> list[list[str]]:
    rows = {"attribution": explanation.attribution, **explanation.settings}
    rows |= {"seed": explanation.seed, "model fingerprint": explanation.fingerprint or "n/a"}
    for kind, scores in explanation.pairs.items():
        rows |= {f"{kind}: {name}": value for name, value in scores.settings.items()}
    return [[name.replace("_", " "), _shown(value)] for name, value in rows.items()]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SETTING else text[:MAX_SETTING] + " …"


def _number(value: float) -> float | None:
    return rounded(value) if math.isfinite(value) else None  # JSON has no NaN

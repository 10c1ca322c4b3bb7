"""The planted truth: the optional column `causes` of a manifest as JSON, and what lies on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite, prod

from fli2moe.data.problems import RowFaults, shown
from fli2moe.data.sample import Cause
from fli2moe.tokens import Player

EXPECTED = 'a JSON list of {"label": class, "interaction": name, "spans": {modality: [[...], ...]}}'
Spans = tuple[tuple[float, ...], ...]


class _CauseError(ValueError):
    """What is wrong with the cell: found, expected, remedy."""

    def __init__(self, found: str, expected: str = EXPECTED, remedy: str = "") -> None:
        super().__init__(found)
        self.found, self.expected, self.remedy = found, expected, remedy


def parse_causes(
    cell: str, column: str, kinds: Mapping[str, str], texts: Mapping[str, str], faults: RowFaults
) -> tuple[Cause, ...]:
    """Returns the causes that a cell holds; none after reporting a fault, or for an empty cell.

    Args:
        cell: JSON list of {"label", "interaction", "spans": {modality: [[...], ...]}}.
        column: name of the column, for messages.
        kinds: {modality: kind}; text spans are (start, end) characters, picture spans boxes.
        texts: {modality: text} of this row: spans must lie within.
        faults: where what is wrong is reported.
    """
    if not cell.strip():
        return ()
    try:
        return tuple(_cause(entry, kinds, texts) for entry in _entries(cell))
    except _CauseError as error:
        faults(column, error.found, error.expected, error.remedy or "mend the cell or empty it")
        return ()


def causes_as_json(causes: tuple[Cause, ...]) -> str:
    """Returns the cell that `parse_causes` reads back; empty for no causes."""
    if not causes:
        return ""
    entries = [
        {"label": c.label, "interaction": c.interaction, "spans": dict(c.spans)} for c in causes
    ]
    return json.dumps(entries, ensure_ascii=False)


def lies_on(player: Player, spans: Mapping[str, Spans]) -> bool:
    """Returns whether a player lies on one of the cause's `spans`, {modality: spans}.

    It does where a span of its own shares more than half of the smaller of the two: a part of the
    cause, as a piece of a word, or a block around it counts, but not the neighbour that a shifted
    or resized grid lets reach a pixel into it. A cause in equal parts over several players lies on
    none of them.
    """
    return any(
        _overlap(own, other)
        for own in player.spans
        for other in spans.get(player.modality, ())
        if len(own) == len(other)
    )


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Of character spans (start, end) or boxes (x0, y0, x1, y1)."""
    half = len(a) // 2
    shared = prod(max(0.0, min(a[k + half], b[k + half]) - max(a[k], b[k])) for k in range(half))
    smaller = min(prod(x[k + half] - x[k] for k in range(half)) for x in (a, b))
    return shared > 0.5 * smaller


def _entries(cell: str) -> list[object]:
    try:
        entries = json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise _CauseError(f"not JSON ({error})") from error
    if not isinstance(entries, list):
        raise _CauseError(f"JSON of type {type(entries).__name__}")
    return entries


def _cause(entry: object, kinds: Mapping[str, str], texts: Mapping[str, str]) -> Cause:
    if not isinstance(entry, dict) or set(entry) != {"label", "interaction", "spans"}:
        raise _CauseError(f"an entry {shown(json.dumps(entry))}")
    label, interaction, spans = entry["label"], entry["interaction"], entry["spans"]
    if not isinstance(label, str) or not isinstance(spans, dict):
        raise _CauseError(f"an entry {shown(json.dumps(entry))}")
    interactions = ["synergy", "redundancy", *(f"unique_{name}" for name in kinds)]
    if interaction not in interactions:
        expected = f"one of {', '.join(interactions)}"
        raise _CauseError(f"interaction {shown(str(interaction))}", expected)
    return Cause(label, interaction, {m: _spans(m, s, kinds, texts) for m, s in spans.items()})


def _spans(
    modality: str, spans: object, kinds: Mapping[str, str], texts: Mapping[str, str]
) -> Spans:
    if modality not in kinds:
        found = f"spans of an unknown modality {shown(modality)}"
        raise _CauseError(found, f"one of {', '.join(kinds)}")
    if not isinstance(spans, list) or not spans:
        raise _CauseError(f"no list of spans for {modality}")
    return tuple(_span(modality, span, kinds[modality], texts.get(modality)) for span in spans)


def _span(modality: str, span: object, kind: str, text: str | None) -> tuple[float, ...]:
    found = f"span {shown(json.dumps(span))} of {modality}"
    if kind == "image":
        expected = "[x0, y0, x1, y1] in pixels, 0 <= x0 < x1 and 0 <= y0 < y1"
        x0, y0, x1, y1 = _numbers(span, 4, found, expected)
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise _CauseError(found, expected)
        return (x0, y0, x1, y1)
    limit = "" if text is None else f" <= {len(text)}"
    expected = f"[start, end], whole numbers with 0 <= start < end{limit}"
    start, end = _numbers(span, 2, found, expected)
    whole = start == int(start) and end == int(end)
    if not whole or not 0 <= start < end or (text is not None and end > len(text)):
        raise _CauseError(found, expected)
    return (start, end)


def _numbers(span: object, count: int, found: str, expected: str) -> list[float]:
    if not isinstance(span, list) or len(span) != count:
        raise _CauseError(found, expected)
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in span):
        raise _CauseError(found, expected)
    if not all(isfinite(x) for x in span):
        raise _CauseError(found, expected)
    return span

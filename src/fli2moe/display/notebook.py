"""An explanation as a piece of static HTML, as notebooks show it: no script, no style sheet."""

from __future__ import annotations

from html import escape
from typing import Any

from fli2moe.data.sample import Sample
from fli2moe.display import places
from fli2moe.display.notable import notable_pairs
from fli2moe.display.pictures import thumbnail
from fli2moe.display.wording import doubt
from fli2moe.errors import InputError
from fli2moe.explain.explanation import Explanation
from fli2moe.tokens import Player

HEAT = "126, 87, 194"
LINES = {"synergy": "2px solid #1a5fc4", "redundancy": "2px dashed #b9540a"}
NAMES = {"synergy": "synergy (together)", "redundancy": "redundancy (the same)"}
SIDE = 260  # pixels of a picture's longest side
PAIRS = 3  # of each kind


def explanation_html(explanation: Explanation) -> str:
    """Returns the text and pictures shaded by importance, and the strongest pairs.

    Shades are of the mixture, from the weakest part of each input to the strongest. Pairs that
    cannot be told from nothing are left out, and it says so. Everything from data is escaped.

    Args:
        explanation: of one sample; its pictures are shown where their files are still there.
    """
    sample = places.sample_of(explanation)
    probability = explanation.probabilities[explanation.class_index]
    parts = [
        f"<p><b>{escape(explanation.target)}</b>, probability {probability:.3f}"
        f" ({escape(explanation.attribution.replace('_', ' '))}, mixture)</p>"
    ]
    parts += [_input(m, explanation, sample) for m in places.modalities_of(explanation)]
    parts.append(_pairs(explanation, sample))
    parts += [f"<p><small>{escape(note)}</small></p>" for note in explanation.notes]
    return f'<div style="max-width: 760px; line-height: 1.6">{"".join(parts)}</div>'


def _input(modality: str, explanation: Explanation, sample: Sample) -> str:
    layout = places.layout_of(explanation)
    own = layout.of(modality)
    scores = places.display_weights(explanation, modality, layout)
    kind = places.kind_of(modality, explanation, sample)
    if kind == "text":
        text = explanation.inputs.get(modality, "")
        unseen = explanation.unseen.get(modality, ())
        pieces = places.pieces(text, own, unseen, ())
        shown = "".join(_piece(piece, scores) for piece in pieces)
        content = f'<p dir="auto" style="white-space: pre-wrap">{shown}</p>'
    elif kind == "image":
        content = _picture(modality, explanation, own, scores)
    else:
        cells = "".join(
            f'<span style="display: inline-block; width: 14px; height: 22px; margin-right: 2px; '
            f'background: rgba({HEAT}, {0.05 + 0.7 * scores.get(k, 0.0):.3f})"></span>'
            for _, k, _ in own
        )
        content = f"<p>{cells}</p>"
    return f"<p><small>{escape(modality)}</small></p>{content}"


def _piece(piece: list[Any], scores: dict[int, float]) -> str:
    raw, _, part, flags = piece
    text = escape(raw)
    if flags & places.UNSEEN:
        return f"<s>{text}</s>"
    if part < 0:
        return text
    shade = 0.6 * scores.get(part, 0.0)
    return f'<span style="background: rgba({HEAT}, {shade:.3f})">{text}</span>'


def _picture(
    modality: str,
    explanation: Explanation,
    own: list[tuple[int, int, Player]],
    scores: dict[int, float],
) -> str:
    try:
        source = thumbnail(explanation.inputs.get(modality, ""), 2 * SIDE).source
    except InputError as error:
        return f"<p><i>The picture cannot be shown: {escape(error.found)}</i></p>"
    width, height = explanation.sizes[modality]
    scale = SIDE / max(width, height)
    veils = "".join(
        f'<rect x="{x0:g}" y="{y0:g}" width="{x1 - x0:g}" height="{y1 - y0:g}" '
        f'fill="#1e2030" fill-opacity="{0.55 * (1 - scores.get(k, 0.0)):.3f}"/>'
        for _, k, part in own
        for x0, y0, x1, y1 in part.spans
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width * scale:.0f}" '
        f'height="{height * scale:.0f}" role="img" aria-label="{escape(modality, quote=True)}">'
        f'<image href="{source}" width="{width}" height="{height}"/>{veils}</svg>'
    )


def _pairs(explanation: Explanation, sample: Sample) -> str:
    rows = []
    for kind, name in NAMES.items():
        for pair, key in notable_pairs(explanation, kind, PAIRS):
            names = [
                escape(places.name_in_words(player, explanation, sample))
                for player in (pair.first, pair.second)
            ]
            value = escape(pair.amount)
            both = " × ".join(names)
            rows.append(
                f'<tr><td style="border-left: {LINES[kind]}; padding: 2px 8px">{name}</td>'
                f"<td>{both}</td><td>{value}{doubt(key)}</td></tr>"
            )
    if not rows:
        return "<p><i>No pair stands out from chance.</i></p>"
    return f"<table>{''.join(rows)}</table>"

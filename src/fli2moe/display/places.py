"""Where players, unseen parts and planted causes lie in the raw inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from fli2moe.data.sample import Cause, Sample
from fli2moe.display.wording import region
from fli2moe.explain.explanation import Explanation
from fli2moe.tokens import Player

Span = tuple[float, ...]
VECTOR_SUFFIXES = (".npy", ".safetensors")
UNSEEN, PLANTED = 1, 2  # flags of a piece of text
LONGEST_LABEL = 60  # characters of a group's words; beyond it the ends of the group stand for it


@dataclass(frozen=True)
class Layout:
    """What can be pointed at.

    Attributes:
        players: what pairs are made of, the explanation's own first: their indices stay valid.
        parts: what is shaded: the words, patches and positions by themselves.
        owners: for each part, the index of the player that it belongs to.
    """

    players: tuple[Player, ...]
    parts: tuple[Player, ...]
    owners: tuple[int, ...]

    def of(self, modality: str) -> list[tuple[int, int, Player]]:
        """Returns (player index, part index, part) of one modality."""
        rows = zip(self.owners, range(len(self.parts)), self.parts, strict=True)
        return [row for row in rows if row[2].modality == modality]


def sample_of(explanation: Explanation) -> Sample:
    """Returns what an explanation itself knows of its sample."""
    return Sample(explanation.sample_id, dict(explanation.inputs), explanation.labels)


def display_weights(
    explanation: Explanation, modality: str, layout: Layout, head: str | None = None
) -> dict[int, float]:
    """Returns {part index: importance, from 0 for the weakest of a modality to 1}.

    For display only; 0 everywhere where all are alike. A part without a score is not in it.

    Args:
        explanation: of one sample.
        modality: whose parts.
        layout: of the explanation.
        head: whose attribution; the mixture's by default.
    """
    own = layout.of(modality)
    scores = explanation.scores_of([part for _, _, part in own], head or explanation.heads[0])
    found = {k: s for (_, k, _), s in zip(own, scores, strict=True) if math.isfinite(s)}
    low, high = min(found.values(), default=0.0), max(found.values(), default=0.0)
    return {k: (s - low) / (high - low) if high > low else 0.0 for k, s in found.items()}


def name_in_words(player: Player, explanation: Explanation, sample: Sample) -> str:
    """Returns a player's label, with its modality where several are pictures."""
    kind = kind_of(player.modality, explanation, sample)
    label = label_of(player, explanation, kind)
    several = kind == "image" and len(explanation.sizes) > 1
    return f"{player.modality}: {label}" if several else label


def kind_of(modality: str, explanation: Explanation, sample: Sample) -> str:
    """Returns how a modality is drawn: `image`, `vector` or `text`."""
    if modality in explanation.sizes:
        return "image"
    raw = sample.inputs.get(modality, explanation.inputs.get(modality, ""))
    is_path = isinstance(raw, Path) or not any(c.isspace() for c in raw)
    return "vector" if is_path and str(raw).lower().endswith(VECTOR_SUFFIXES) else "text"


def modalities_of(explanation: Explanation) -> tuple[str, ...]:
    """Returns the modalities in the order in which the explanation names them."""
    named = [*explanation.inputs, *explanation.token_scores, *explanation.sizes]
    return tuple(dict.fromkeys([*named, *(p.modality for p in explanation.players)]))


def layout_of(explanation: Explanation) -> Layout:
    """Returns players and parts; each token by itself where a modality has none of either.

    A part outside every player becomes a player without pairs.
    """
    players, own = list(explanation.players), explanation.parts or explanation.players
    covered = {p.modality for p in own}
    alone = [
        Player(modality, (token,), (span,))
        for modality, table in explanation.token_scores.items()
        if modality not in covered
        for token, span in zip(table.tokens, table.spans, strict=True)
    ]
    owners = list(range(len(players))) if own is explanation.players else []
    owner_of = {(p.modality, token): i for i, p in enumerate(players) for token in p.tokens}
    for part in (*own[len(owners) :], *alone):
        keys = [(part.modality, token) for token in part.tokens]
        owner = next((owner_of[key] for key in keys if key in owner_of), len(players))
        if owner == len(players):
            players.append(part)
        owners.append(owner)
    return Layout(tuple(players), (*own, *alone), tuple(owners))


def label_of(player: Player, explanation: Explanation, kind: str) -> str:
    """Returns what a reader sees for a player: the word, or where the patch lies."""
    if kind == "image" and player.spans:
        box = bounds(player.spans)
        where = region(box, explanation.sizes[player.modality])
        return f"{'patch' if len(player.tokens) == 1 else 'block'} at the {where}"
    if kind == "text" and player.spans:
        text = explanation.inputs.get(player.modality, "")
        label = " … ".join(text[start:end] for start, end in _joined(text, player.spans))
        return label if label and len(label) <= LONGEST_LABEL else player.name or label
    return str(player)


def _joined(text: str, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Returns character spans, those with no letter or digit between them made one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted((int(s[0]), int(s[1])) for s in spans):
        if found and _is_gap(text[found[-1][1] : start]):
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _is_gap(text: str) -> bool:
    return not any(character.isalnum() for character in text)


def bounds(spans: Sequence[Span]) -> Span:
    """Returns the smallest box around boxes (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = zip(*spans, strict=True)
    return (min(x0), min(y0), max(x1), max(y1))


def pieces(
    text: str,
    parts: Iterable[tuple[int, int, Player]],
    unseen: Sequence[Span],
    causes: Sequence[Span],
) -> list[list[Any]]:
    """Cuts a text where a part, an unseen stretch or a planted cause begins or ends.

    Cutting happens here because a script counts UTF-16 units, Python characters.

    Args:
        text: the raw text.
        parts: (player index, part index, part) of this modality.
        unseen: character spans that the model never saw.
        causes: character spans of the planted truth.

    Returns:
        [substring, player index or -1, part index or -1, flags] in order; the substrings joined are
        `text`. What lies between two pieces of one player, such as a space, has a player and no
        part.
    """
    owned = [(s, owner, i) for owner, i, part in parts for s in part.spans]
    cuts = {0, len(text)}
    for span in (*(row[0] for row in owned), *unseen, *causes):
        cuts |= {min(max(int(edge), 0), len(text)) for edge in span[:2]}
    edges = sorted(cuts)
    row: list[list[Any]] = []
    starts = sorted(owned)
    position = 0
    active: list[tuple[Span, int, int]] = []
    for start, end in pairwise(edges):
        while position < len(starts) and starts[position][0][0] <= start:
            active.append(starts[position])
            position += 1
        active = [a for a in active if a[0][1] > start]
        owner = active[0][1:] if active else (-1, -1)
        flags = UNSEEN * _within(start, end, unseen) | PLANTED * _within(start, end, causes)
        row.append([text[start:end], *owner, flags])
    _fill_gaps(row)
    return row


def _fill_gaps(row: list[list[Any]]) -> None:
    held = [k for k, piece in enumerate(row) if piece[1] >= 0]
    for before, after in pairwise(held):
        between = row[before + 1 : after]
        if row[before][1] == row[after][1] and _is_gap("".join(piece[0] for piece in between)):
            for piece in between:
                piece[1] = row[before][1]


def causes_for(explanation: Explanation, sample: Sample) -> tuple[Cause, ...]:
    """Returns the planted causes of the explained target."""
    return tuple(c for c in sample.causes if c.label == explanation.target)


def cause_spans(causes: Iterable[Cause], modality: str) -> list[Span]:
    """Returns the spans of all `causes` in one modality."""
    return [span for cause in causes for span in cause.spans.get(modality, ())]


def _within(start: int, end: int, spans: Sequence[Span]) -> bool:
    return any(s[0] <= start and end <= s[1] for s in spans)

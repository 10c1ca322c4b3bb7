"""From tokens to players: sub-words merged into words, patches and time steps named."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import Any

import regex
from torch import Tensor

from fli2moe.errors import unknown_name
from fli2moe.tokens import STRUCTURAL, Player

_BOUNDARY = regex.compile(r"\b", regex.V1 | regex.WORD)  # WORD: the default rules of UAX #29
_GRAPHEME = regex.compile(r"\X", regex.V1)
_INVISIBLE = regex.compile(r"[\p{Z}\p{Cc}\p{Cf}]*", regex.V1)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Splits text into words by UAX #29, never inside a grapheme cluster.

    Punctuation is a word of its own unless it sits inside one (`don't`, `3.14`); a hyphen
    separates. Chinese, Hiragana and Thai, which write no spaces, come apart character by
    character. White space and other invisible characters are no words.

    Returns:
        (start, end) characters, in order, disjoint.
    """
    graphemes = {match.start() for match in _GRAPHEME.finditer(text)}
    inner = (match.start() for match in _BOUNDARY.finditer(text))
    cuts = sorted({0, len(text), *(cut for cut in inner if cut in graphemes)})
    return [(a, b) for a, b in pairwise(cuts) if not _INVISIBLE.fullmatch(text, a, b)]


def word_players(text: str, spans: Tensor, modality: str) -> tuple[Player, ...]:
    """Groups a text's content tokens into words.

    A token over several words joins them into one player. A token over nothing visible (a
    space of its own) goes with the word after it, the last ones with the word before.

    Args:
        text: the raw text that the spans point into.
        spans: (T, 2) integer characters of one sample; -1 marks a structural token.
        modality: name of the modality.

    Returns:
        players in the order of the text; every content token is in exactly one, and each name
        is exactly the text its span cuts out.
    """
    words = word_spans(text)
    content = [
        (index, start, end)
        for index, (start, end) in enumerate(spans.tolist())
        if start != STRUCTURAL
    ]
    if not words:
        return tuple(
            Player(modality, (index,), ((start, end),), text[start:end])
            for index, start, end in content
        )
    starts, ends = [a for a, _ in words], [b for _, b in words]
    joined = [False] * len(words)  # joined[i]: word i belongs together with word i - 1
    first_word: dict[int, int] = {}
    for index, start, end in content:
        first, last = bisect_right(ends, start), bisect_left(starts, end) - 1
        for word in range(first + 1, last + 1):
            joined[word] = True
        first_word[index] = min(first, len(words) - 1)
    group, groups = -1, []  # groups[i]: the player that word i is in
    for flag in joined:
        group += not flag
        groups.append(group)
    members: dict[int, list[int]] = {}
    for index, word in first_word.items():
        members.setdefault(groups[word], []).append(index)
    bounds: dict[int, tuple[int, int]] = {}
    for group, (start, end) in zip(groups, words, strict=True):
        bounds[group] = (bounds.get(group, (start, end))[0], end)
    return tuple(
        Player(modality, tuple(members[group]), (bounds[group],), text[slice(*bounds[group])])
        for group in sorted(members)
    )


def patch_players(spans: Tensor, modality: str) -> tuple[Player, ...]:
    """Makes each content patch of a picture a player, named by its rounded corners.

    Args:
        spans: (T, 4) float boxes x0 y0 x1 y1 in raw pixels; -1 marks a structural token.
        modality: name of the modality.
    """
    players = []
    for index, box in enumerate(spans.tolist()):
        if box[0] != STRUCTURAL:
            x0, y0, x1, y1 = (round(value) for value in box)
            name = f"patch ({x0}, {y0})-({x1}, {y1})"
            players.append(Player(modality, (index,), (tuple(box),), name))
    return tuple(players)


def vector_players(spans: Tensor, modality: str) -> tuple[Player, ...]:
    """Makes each position of a precomputed sequence a player, named `position t`.

    Args:
        spans: (T, 2) integer positions [t, t + 1); -1 marks padding.
        modality: name of the modality.
    """
    return tuple(
        Player(modality, (index,), ((start, end),), f"position {start}")
        for index, (start, end) in enumerate(spans.tolist())
        if start != STRUCTURAL
    )


def players_of(kind: str, raw: Any, spans: Tensor, modality: str) -> tuple[Player, ...]:
    """Returns the players of one sample's modality.

    Args:
        kind: the encoder's kind: `text`, `image` or `vector`.
        raw: the raw input; only a text is looked at.
        spans: (T, 2) or (T, 4), one sample's row of `Tokens.spans`.
        modality: name of the modality.

    Raises:
        InputError: when `kind` is not one of the three.
    """
    if kind == "text":
        return word_players(raw, spans, modality)
    if kind == "image":
        return patch_players(spans, modality)
    if kind == "vector":
        return vector_players(spans, modality)
    raise unknown_name("encoder", "kind", kind, ("text", "image", "vector"))

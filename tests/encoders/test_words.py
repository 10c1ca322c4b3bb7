"""Words: exact substrings in every script, and every content token in exactly one player."""

from __future__ import annotations

from itertools import pairwise

import pytest
import regex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fli2moe.encoders.words import (
    patch_players,
    players_of,
    vector_players,
    word_players,
    word_spans,
)
from fli2moe.errors import InputError

INVISIBLE = regex.compile(r"[\p{Z}\p{Cc}\p{Cf}]*")
SNIPPETS = [
    "hello", "don't", " ", "  ", "3.14", "well-known", "foo_bar", ",", "...", "👨‍👩‍👧", "🇩🇪🇫🇷",
    "👍🏽", "é", "e\u0301", "नमस्ते", "สวัสดี", "你好", "カタカナ", "한국어", "مرحبا",
    "\u202e", "\u200b", "\r\n", "\0", "\ud800", "\t", "𝒳", "ﬁ", "ß", "İ", "\ufe0f", "\u200d", "<b>",
]  # fmt: skip
texts = st.lists(st.sampled_from(SNIPPETS), max_size=10).map("".join) | st.text(max_size=30)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello, don't 3.14!", ["hello", ",", "don't", "3.14", "!"]),
        ("a well-known word", ["a", "well", "-", "known", "word"]),
        ("👨‍👩‍👧 🇩🇪🇫🇷 👍🏽", ["👨‍👩‍👧", "🇩🇪", "🇫🇷", "👍🏽"]),
        ("你好 カタカナ", ["你", "好", "カタカナ"]),
        ("नमस्ते مرحبا", ["नमस्ते", "مرحبا"]),
        ("x\u200by", ["x", "y"]),
        (" \t\r\n", []),
        ("", []),
    ],
)
def test_words_of_many_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@settings(max_examples=300, deadline=None)
@given(texts)
def test_words_are_ordered_disjoint_and_on_grapheme_boundaries(text: str) -> None:
    edges = {match.start() for match in regex.finditer(r"\X", text)} | {len(text)}
    previous = 0
    for start, end in word_spans(text):
        assert previous <= start < end
        assert {start, end} <= edges
        assert INVISIBLE.fullmatch(text, previous, start)
        previous = end
    assert INVISIBLE.fullmatch(text, previous)


@st.composite
def tokenised(draw: st.DrawFn) -> tuple[str, torch.Tensor]:
    """A text and any increasing token spans on it, with structural tokens in between."""
    text = draw(texts.filter(len))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2)) | {0, len(text)})
    spans = [(-1, -1)]
    for start, end in pairwise(cuts):
        spans += [(start, end)] * draw(st.integers(0, 2))
    return text, torch.tensor([*spans, (-1, -1)])


@settings(max_examples=300, deadline=None)
@given(tokenised())
def test_every_content_token_is_in_exactly_one_exact_player(
    case: tuple[str, torch.Tensor],
) -> None:
    text, spans = case
    players = word_players(text, spans, "plot")
    members = sorted(index for player in players for index in player.tokens)
    assert members == torch.nonzero(spans[:, 0] != -1).flatten().tolist()
    previous = 0
    for player in players:
        ((start, end),) = player.spans
        assert player.modality == "plot"
        assert player.name == text[int(start) : int(end)]
        if word_spans(text):
            assert previous <= start < end
            previous = end
            for index in player.tokens:  # a token that touches a word lies in the player's span
                token_start, token_end = spans[index].tolist()
                touched = text[token_start:token_end]
                if word_spans(touched):
                    assert token_start < end
                    assert start < token_end


def test_sub_words_merge_and_a_token_over_two_words_joins_them() -> None:
    text = "unbelievable, really"
    spans = torch.tensor([(-1, -1), (0, 2), (2, 12), (12, 13), (14, 20), (-1, -1)])
    names = [(p.name, p.tokens) for p in word_players(text, spans, "text")]
    assert names == [("unbelievable", (1, 2)), (",", (3,)), ("really", (4,))]
    spans[3] = torch.tensor([10, 14])
    names = [(p.name, p.tokens) for p in word_players(text, spans, "text")]
    assert names == [("unbelievable,", (1, 2, 3)), ("really", (4,))]


def test_a_space_of_its_own_goes_with_the_next_word() -> None:
    spans = torch.tensor([(0, 1), (1, 2), (2, 3), (3, 4)])
    assert [p.tokens for p in word_players("a b ", spans, "text")] == [(0,), (1, 2, 3)]


def test_patches_are_named_by_their_rounded_corners() -> None:
    spans = torch.tensor([[-1.0, -1, -1, -1], [96.2, 31.9, 112.4, 48]])
    (player,) = patch_players(spans, "image")
    assert str(player) == "patch (96, 32)-(112, 48)"
    assert player.tokens == (1,)
    assert player.spans[0] == pytest.approx((96.2, 31.9, 112.4, 48))


def test_positions_are_named_by_number() -> None:
    spans = torch.tensor([[0, 1], [1, 2], [-1, -1]])
    assert [str(p) for p in vector_players(spans, "lab")] == ["position 0", "position 1"]


def test_players_of_dispatches_on_the_kind() -> None:
    assert players_of("text", "a", torch.tensor([[0, 1]]), "m")[0].name == "a"
    assert players_of("vector", None, torch.tensor([[0, 1]]), "m")[0].name == "position 0"
    assert players_of("image", None, torch.tensor([[0.0, 0, 4, 4]]), "m")[0].name.startswith("p")
    with pytest.raises(InputError, match="did you mean 'text'"):
        players_of("texts", "a", torch.tensor([[0, 1]]), "m")

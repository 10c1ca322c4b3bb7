from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_made import page_data, shapes

from fli2moe import report
from fli2moe.display.places import PLANTED, UNSEEN, bounds, pieces
from fli2moe.display.wording import head_meaning, head_name, number, region, verdicts
from fli2moe.evaluation.planted import true_pairs
from fli2moe.tokens import Player


def word(start: int, end: int) -> Player:
    return Player("text", (0,), ((start, end),))


def verdict(kind: str, value: float, error: float, *, pairs: int = 1, against: bool = False) -> str:
    """The key of one pair."""
    return verdicts(kind, *(np.array([x]) for x in (value, error, pairs, against)))[0]


def test_pieces_follow_players_unseen_and_causes() -> None:
    row = pieces("a red dog", [(0, 0, word(0, 1)), (1, 1, word(2, 5))], [(6, 9)], [(2, 5)])
    assert row == [
        ["a", 0, 0, 0],
        [" ", -1, -1, 0],
        ["red", 1, 1, PLANTED],
        [" ", -1, -1, 0],
        ["dog", -1, -1, UNSEEN],
    ]


def test_a_player_of_several_words_owns_several_pieces() -> None:
    group = Player("text", (0, 1), ((0, 1), (2, 3)))
    row = pieces("a b", [(7, 7, group)], [], [])
    assert [p[1:3] for p in row] == [[7, 7], [7, -1], [7, 7]]


def test_only_spaces_and_points_between_its_parts_belong_to_a_group() -> None:
    parts = [(0, 0, word(0, 1)), (0, 1, word(3, 4)), (0, 2, word(9, 10)), (1, 3, word(11, 12))]
    row = pieces("a, b the c d", parts, [], [])
    assert [(p[0], p[1], p[2]) for p in row] == [
        ("a", 0, 0), (", ", 0, -1), ("b", 0, 1), (" the ", -1, -1), ("c", 0, 2), (" ", -1, -1),
        ("d", 1, 3),
    ]  # fmt: skip


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted).map(tuple))


@given(st.text(max_size=30), spans, spans, spans)
def test_pieces_join_to_the_text(text: str, owned: list, unseen: list, causes: list) -> None:
    players = [(i // 2, i, word(*span)) for i, span in enumerate(owned)]
    row = pieces(text, players, unseen, causes)
    assert "".join(p[0] for p in row) == text
    assert all(p[0] for p in row)


def test_bounds_enclose_every_box() -> None:
    assert bounds([(0, 0, 4, 4), (4, 2, 8, 9)]) == (0, 0, 8, 9)


@pytest.mark.parametrize(
    ("kind", "value", "error", "expected"),
    [
        ("synergy", 1.0, 0.1, "synergy.clear"),
        ("synergy", 0.19, 0.1, "synergy.unclear"),
        ("synergy", -1.0, 0.1, "synergy.substitutes"),
        ("synergy", 0.5, 0.0, "synergy.clear"),
        ("synergy", 0.0, 0.0, "synergy.unclear"),
        ("synergy", 0.5, float("nan"), "synergy.unsure"),
        ("redundancy", 1.0, 0.1, "redundancy.clear"),
        ("redundancy", 0.0, 0.1, "redundancy.unclear"),
        ("redundancy", -0.5, 0.1, "redundancy.unclear"),
    ],
)
def test_verdicts(kind: str, value: float, error: float, expected: str) -> None:
    assert verdict(kind, value, error) == expected


def test_the_best_of_many_pairs_needs_more_than_two_errors() -> None:
    assert verdict("synergy", 0.3, 0.1) == "synergy.clear"
    assert verdict("synergy", 0.3, 0.1, pairs=192) == "synergy.maybe"
    assert verdict("synergy", 0.5, 0.1, pairs=192) == "synergy.clear"
    assert verdict("synergy", -0.3, 0.1, pairs=192) == "synergy.unclear"


def test_a_gap_may_be_shared_evidence_against() -> None:
    assert verdict("redundancy", 1.0, 0.1, against=True) == "redundancy.against"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 16, 16), "upper left"),
        ((24, 24, 40, 40), "centre"),
        ((48, 24, 64, 40), "middle right"),
        ((24, 48, 40, 64), "lower centre"),
    ],
)
def test_regions(box: tuple[float, ...], expected: str) -> None:
    assert region(box, (64, 64)) == expected


def test_names_and_numbers() -> None:
    assert head_name("unique_text") == "Unique: text"
    assert head_name("only_text") == "Only: text"
    assert head_meaning("only_text") == "The expert that sees text and nothing else."
    assert [number(x) for x in (None, True, 1234, 0.5, -0.25, 1e-5, 12345.678, "x")] == [
        "n/a", "yes", "1,234", "0.500", "−0.250", "1.00e−05", "12,345.7", "x",
    ]  # fmt: skip


def test_the_page_marks_what_the_evaluation_counts(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    (cause, *_) = (c for c in sample.causes if c.label == explanation.target)
    box = (47.0, 16.0, 63.0, 32.0)  # a pixel of it lies on the neighbouring patch
    cause = replace(cause, spans={**cause.spans, "image": (box,)})
    page = report.render([explanation], [replace(sample, causes=(cause,))])
    (view,) = page_data(page)[0]["views"]
    marked = {
        tuple(row[:2]) for row in view["pairs"][cause.interaction]["mixture"]["rows"] if row[7]
    }
    true = np.argwhere(np.triu(true_pairs(explanation.players, cause)))
    assert marked == {tuple(pair) for pair in true.tolist()}
    assert len(marked) == 1

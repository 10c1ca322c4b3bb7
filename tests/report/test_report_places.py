import pytest
from hypothesis import given
from hypothesis import strategies as st

from fli2moe.report.places import PLANTED, UNSEEN, bounds, pieces, touches
from fli2moe.report.wording import head_name, number, region, verdict
from fli2moe.tokens import Player


def word(start: int, end: int) -> Player:
    return Player("text", (0,), ((start, end),))


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


def test_touching_needs_an_overlap() -> None:
    patch = Player("image", (0,), ((0.0, 0.0, 16.0, 16.0),))
    assert touches(patch, {"image": ((0, 0, 16, 16),)})
    assert touches(patch, {"image": ((4, 4, 8, 8),)})
    assert not touches(patch, {"image": ((15, 0, 31, 16),)})
    assert not touches(patch, {"text": ((0, 3),)})
    assert touches(word(2, 5), {"text": ((4, 9),)})
    assert not touches(word(2, 5), {"text": ((5, 9),)})


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
    assert [number(x) for x in (None, True, 1234, 0.5, -0.25, 1e-5, 12345.678, "x")] == [
        "n/a", "yes", "1,234", "0.500", "−0.250", "1.00e−05", "12,345.7", "x",
    ]  # fmt: skip

from __future__ import annotations

import json

import pytest

from fli2moe.data.causes import lies_on, parse_causes
from fli2moe.data.problems import RowFaults, raise_first
from fli2moe.tokens import Player

KINDS = {"text": "text", "image": "image"}
TEXTS = {"text": "a red box"}
FAULTS = RowFaults(raise_first, "m.csv", "line", 7, "x1")


def entry(**changes):
    return {"label": "match", "interaction": "synergy", "spans": {"text": [[2, 5]]}} | changes


def test_an_empty_cell_holds_no_cause():
    assert parse_causes("", "causes", KINDS, TEXTS, FAULTS) == ()
    assert parse_causes("[]", "causes", KINDS, TEXTS, FAULTS) == ()


@pytest.mark.parametrize("name", ["synergy", "redundancy", "unique_text", "unique_image"])
def test_each_interaction_is_known(name):
    (cause,) = parse_causes(json.dumps([entry(interaction=name)]), "causes", KINDS, TEXTS, FAULTS)
    assert cause.interaction == name
    assert cause.spans == {"text": ((2, 5),)}


CASES = {
    "not JSON": ("[", "not JSON", "a JSON list"),
    "deep": ("[" * 100_000, "not JSON", "a JSON list"),
    "an object": ("{}", "JSON of type dict", "a JSON list"),
    "a number in it": ("[1]", "an entry '1'", "a JSON list"),
    "a key too few": ('[{"label": "a"}]', "an entry", "interaction"),
    "a key too many": ([entry(x=1)], "an entry", "interaction"),
    "label not text": ([entry(label=1)], "an entry", "class"),
    "interaction": ([entry(interaction="unique_audio")], "unique_audio", "unique_text"),
    "interaction not text": ([entry(interaction=["synergy"])], "interaction", "synergy"),
    "modality": ([entry(spans={"audio": [[0, 1]]})], "'audio'", "one of text, image"),
    "no span": ([entry(spans={"text": []})], "no list of spans for text", "JSON list"),
    "three numbers": ([entry(spans={"text": [[0, 1, 2]]})], "[0, 1, 2]", "[start, end]"),
    "reversed": ([entry(spans={"text": [[5, 2]]})], "[5, 2]", "start < end"),
    "past the end": ([entry(spans={"text": [[2, 10]]})], "[2, 10]", "end <= 9"),
    "fraction": ([entry(spans={"text": [[0.5, 2]]})], "[0.5, 2]", "whole numbers"),
    "text for a number": ([entry(spans={"text": [["0", 2]]})], "span", "whole numbers"),
    "infinite": ('[{"label":"a","interaction":"synergy","spans":{"text":[[0,1e999]]}}]', "", "who"),
    "box of two": ([entry(spans={"image": [[0, 1]]})], "[0, 1]", "[x0, y0, x1, y1]"),
    "empty box": ([entry(spans={"image": [[0, 0, 0, 4]]})], "[0, 0, 0, 4]", "x0 < x1"),
    "negative box": ([entry(spans={"image": [[-1, 0, 3, 4]]})], "[-1, 0, 3, 4]", "0 <= x0"),
    "bool": ([entry(spans={"image": [[False, 0, 3, 4]]})], "[false, 0, 3, 4]", "pixels"),
}


@pytest.mark.parametrize("case", CASES)
def test_fault_names_the_row_and_what_was_expected(fault, case):
    cell, found, expected = CASES[case]
    text = cell if isinstance(cell, str) else json.dumps(cell)
    fault(
        lambda: parse_causes(text, "causes", KINDS, TEXTS, FAULTS),
        where=["m.csv", "line 7", "'causes'", "'x1'"],
        found=[found],
        expected=[expected],
        remedy=["mend the cell"],
    )


@pytest.mark.parametrize(
    ("own", "spans", "expected"),
    [
        ((0, 0, 16, 16), {"image": ((0, 0, 16, 16),)}, True),
        ((0, 0, 16, 16), {"image": ((4, 4, 8, 8),)}, True),  # a block around it
        ((4, 4, 8, 8), {"image": ((0, 0, 16, 16),)}, True),  # a part of it
        ((0, 0, 16, 16), {"image": ((7, 0, 23, 16),)}, True),
        ((0, 0, 16, 16), {"image": ((8, 0, 24, 16),)}, False),  # half is not most
        ((0, 0, 16, 16), {"image": ((15, 15, 31, 31),)}, False),
        ((0, 0, 16, 16), {"image": ((-9, -9, -1, -1),)}, False),  # apart along both axes
        ((0, 0, 16, 16), {"image": ((40, 0, 56, 16), (0, 0, 16, 16))}, True),
        ((0, 0, 16, 16), {"text": ((0, 3),)}, False),
        ((0, 0, 16, 16), {"image": ((0, 3),)}, False),
        ((2, 5), {"image": ((2, 5),)}, True),
        ((2, 4), {"image": ((2, 5),)}, True),
        ((2, 5), {"image": ((4, 9),)}, False),
        ((2, 5), {"image": ((5, 9),)}, False),
    ],
)
def test_a_player_lies_on_a_cause_with_most_of_the_smaller(own, spans, expected):
    assert lies_on(Player("image", (0,), (own,)), spans) is expected

"""Shades of single words and patches, pairs of groups, and pairs that were measured twice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_made import grouped, page_data

from fli2moe import report
from fli2moe.explain.players import join_players
from fli2moe.tokens import Player


def test_parts_are_shaded_and_groups_are_paired(tmp_path: Path) -> None:
    explanation, sample = grouped(tmp_path)
    view = page_data(report.render([explanation], [sample]))[0]["views"][0]
    assert [p["label"] for p in view["players"][:4]] == [
        "a red dog", "plays in the", "sunny garden near", "the old gate",
    ]  # fmt: skip
    assert [p["several"] for p in view["players"]] == [True] * 8
    assert [p["player"] for p in view["parts"][:12]] == [k // 3 for k in range(12)]
    assert view["parts"][1]["label"] == "red"
    assert view["scores"]["mixture"] == pytest.approx(explanation.part_scores("mixture"), rel=1e-5)
    pieces = view["drawings"][0]["pieces"]
    assert [p[:3] for p in pieces[:6]] == [
        ["a", 0, 0], [" ", 0, -1], ["red", 0, 1], [" ", 0, -1], ["dog", 0, 2], [" ", -1, -1],
    ]  # fmt: skip
    image = view["drawings"][1]
    assert len(image["boxes"]) == 16
    assert image["boxes"][2] == [5, 14, 32, 0, 48, 16]
    assert image["edges"][1] == [5, 32, 0, 64, 32]


def test_a_part_outside_every_player_is_a_player_without_pairs(tmp_path: Path) -> None:
    explanation, sample = grouped(tmp_path)
    kept = tuple(p for p in explanation.players if p.modality == "text")
    view = page_data(report.render([replace(explanation, players=kept, pairs={})], [sample]))[0][
        "views"
    ][0]
    assert len(view["players"]) == 4 + 16
    assert [p["player"] for p in view["parts"][12:]] == list(range(4, 20))
    assert not any(p["several"] for p in view["players"][4:])


def test_luck_among_audited_pairs_is_luck_among_few(tmp_path: Path) -> None:
    explanation, sample = grouped(tmp_path)
    scores = explanation.pairs["synergy"]
    value, error = scores.value.copy(), np.full(len(scores), 0.1)
    value[[0, 8]] = 0.27  # above the bound for 4 pairs, 0.25, and below that for 16, 0.295
    pairs = {"synergy": replace(scores, value=value, standard_error=error)}
    view = page_data(report.render([replace(explanation, pairs=pairs)], [sample]))[0]["views"][0]
    table = view["pairs"]["synergy"]["mixture"]
    assert (table["total"], table["audited"], table["exact"]) == (16, 4, False)
    found = {tuple(row[:2]): (row[5], row[6], row[8]) for row in table["rows"]}
    assert found[0, 4] == (40, "synergy.clear", 1)
    assert found[2, 4] == (4, "synergy.maybe", 0)


def test_an_exact_table_has_no_luck_to_allow_for(tmp_path: Path) -> None:
    explanation, sample = grouped(tmp_path)
    scores = replace(
        explanation.pairs["synergy"],
        standard_error=np.zeros(32),
        columns={},
        settings={"method": "exact"},
    )
    changed = replace(explanation, pairs={"synergy": scores})
    view = page_data(report.render([changed], [sample]))[0]["views"][0]
    table = view["pairs"]["synergy"]["mixture"]
    assert table["exact"]
    assert {row[6] for row in table["rows"]} == {"synergy.clear", "synergy.substitutes"}


def test_a_group_of_positions_is_named_by_its_ends(tmp_path: Path) -> None:
    explanation, sample = grouped(tmp_path)
    steps = [Player("lab", (i,), ((i, i + 1),), f"step {i}") for i in range(6)]
    explanation = replace(
        explanation,
        players=(join_players(steps[:3]), join_players(steps[3:5]), steps[5]),
        parts=tuple(steps),
        pairs={},
        inputs={"lab": "x.npy"},
        sizes={},
        token_scores={},
    )
    sample = replace(sample, inputs={"lab": tmp_path / "x.npy"}, causes=())
    view = page_data(report.render([explanation], [sample]))[0]["views"][0]
    labels = [p["label"] for p in view["players"]]
    assert labels == ["step 0 to step 2", "step 3 to step 4", "step 5"]
    assert [c[:2] for c in view["drawings"][0]["cells"]] == [
        [0, 0], [0, 1], [0, 2], [1, 3], [1, 4], [2, 5],
    ]  # fmt: skip

"""Pair masking over a split: what is ranked, hidden, compared and left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_options import with_options
from torch import Tensor

from fli2moe.data.sample import Dataset
from fli2moe.evaluation.pair_masking import Ranked, pair_masking, rank_pairs
from fli2moe.evaluation.pair_summary import (
    CLASS,
    PROBABILITY,
    MaskedSample,
    block_figures,
    drop_figures,
    primary_figures,
)
from fli2moe.evaluation.pair_tables import pair_masking_tables
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.explain import TokenGame
from fli2moe.explain.pair_masking import (
    CONTROLS,
    COUNTS,
    TESTED,
    Contrast,
    Hidden,
    Masking,
    compare_pairs,
)
from fli2moe.features import default_cache
from fli2moe.predictor import Predictor

RANKINGS = [
    ("synergy", "synergy"),
    ("synergy", "mixture"),
    ("redundancy", "redundancy"),
    ("redundancy", "mixture"),
]


@pytest.fixture(scope="module")
def split(predictor: Predictor, dataset: Dataset, tiny_run: Path) -> TestSplit:
    return run_split(predictor, dataset.test[:3], default_cache(tiny_run))


@pytest.fixture(scope="module")
def small(predictor: Predictor) -> Predictor:
    options = {"budget": 80, "pair_samples": 3, "pair_contexts": 2, "random_draws": 2}
    return with_options(predictor, evaluation=options)


@pytest.fixture(scope="module")
def part(small: Predictor, split: TestSplit):
    return pair_masking(small, split, 0, None)


def test_every_ranking_and_count_has_its_entry(part):
    keys = ("kind", "head", "pairs", "m")
    primary = [tuple(e[key] for key in keys) for e in part.summary["primary"]]
    tested = [*(("top", m) for m in TESTED), ("disjoint", 2), ("disjoint", 5)]
    assert primary == [(*ranking, *each) for ranking in RANKINGS for each in tested]
    drops = [(e["kind"], e["head"], e["m"]) for e in part.summary["drops"]]
    assert drops == [(kind, head, m) for kind, head in RANKINGS for m in COUNTS]
    assert (part.summary["n"], part.summary["left_out"]) == (3, 0)
    for entry in part.summary["primary"]:
        assert entry["n"] + entry["not_possible"] == 3
        if entry["p"] is not None:
            assert entry["p"] <= entry["p_holm"] <= 1


def test_rows_hold_what_the_summary_is_the_mean_of(part):
    for entry in part.summary["primary"]:
        if entry["m"] == 10 and entry["pairs"] == "top":
            name = f"pairs.{entry['kind']}.{entry['head']}.top10_minus_swapped"
            values = [row[name] for row in part.rows.values() if name in row]
            assert len(values) == entry["n"]
            if values:
                assert np.mean(values) == pytest.approx(entry["mean"])


def give_pairs(monkeypatch: pytest.MonkeyPatch, pairs: Sequence[Sequence[int]]) -> None:
    given = {key: Ranked(np.array(pairs), np.array(pairs), len(pairs)) for key in RANKINGS}
    monkeypatch.setattr("fli2moe.evaluation.pair_masking.rank_pairs", lambda *_: given)


def test_hiding_pairs_is_what_the_model_says_without_their_players(
    small: Predictor, split: TestSplit, monkeypatch: pytest.MonkeyPatch
):
    give_pairs(monkeypatch, [[0, 8], [1, 9]])
    one = replace(split, samples=split.samples[:1])
    found = pair_masking(small, one, 0, None)
    entry = next(e for e in found.summary["drops"] if e["m"] == 2 and e["head"] == "synergy")
    inputs = split.samples[0].inputs
    label = small.task.classes[split.targets[0][0]]
    rows = np.ones((2, len(small.players(inputs, split.tokens(0)))), dtype=bool)
    rows[1, [0, 1, 8, 9]] = False
    score = small.game(inputs, label).on("synergy")(rows)
    p = small.game(inputs, label, score="probability").on("mixture")(rows)
    assert entry["ranked"]["score"]["mean"] == pytest.approx(score[0] - score[1], abs=1e-5)
    assert entry["ranked"]["probability"]["mean"] == pytest.approx(p[0] - p[1], abs=1e-5)
    changed = (p[0] >= 0.5) != (p[1] >= 0.5)
    assert entry["ranked"]["flipped"]["mean"] == float(changed)
    assert entry["players"] == 4
    longer = next(e for e in found.summary["drops"] if e["m"] == 5)
    assert longer["ranked"]["score"] == {"mean": None, "standard_error": None, "n": 0}
    assert longer["ranked"]["accuracy"] is None


def test_the_same_seed_gives_the_same_part(small: Predictor, split: TestSplit, part):
    again = pair_masking(small, split, 0, None)
    assert again.summary == part.summary
    assert again.rows == part.rows


def test_a_sample_with_one_modality_is_left_out_and_counted(
    small: Predictor, split: TestSplit, monkeypatch: pytest.MonkeyPatch
):
    players = Predictor.players
    first = split.samples[0].inputs

    def one_modality(self, inputs, tokens):
        found = players(self, inputs, tokens)
        return tuple(p for p in found if p.modality == "text") if inputs is first else found

    monkeypatch.setattr(Predictor, "players", one_modality)
    give_pairs(monkeypatch, [[0, 8], [1, 9]])
    found = pair_masking(small, split, 0, None)
    assert (found.summary["n"], found.summary["left_out"]) == (2, 1)
    assert 0 not in found.rows
    none = replace(split, samples=split.samples[:1])
    assert pair_masking(small, none, 0, None).summary == {}


def test_a_multi_class_sample_explains_the_class_that_is_predicted(
    small: Predictor, split: TestSplit, monkeypatch: pytest.MonkeyPatch
):
    give_pairs(monkeypatch, [[0, 8], [1, 9]])
    single = replace(small, task=replace(small.task, kind="multiclass"))
    predicted = split.logits.argmax(-1)
    one = replace(split, target=predicted, targets=[[t] for t in predicted.tolist()])
    found = pair_masking(single, one, 0, None)
    for entry in found.summary["drops"]:
        for hidden in ("ranked", *CONTROLS):  # all are right, so to change is to be wrong
            assert entry[hidden]["accuracy"] == pytest.approx(entry[hidden]["flipped"]["mean"])


HEADS = ("mixture", "synergy", "redundancy")
TOP = [(0, 6), (1, 7), (2, 8), (3, 9)]


def of_heads(n: int, *parts: tuple[int, int, int]) -> TokenGame:
    """Heads that add up ANDs (synergy), ORs (redundancy) or both of the pairs (i, j, weight)."""

    def f(z: Tensor) -> Tensor:
        both = sum(w * (z[:, i] & z[:, j]).double() for i, j, w in parts)
        either = sum(w * (z[:, i] | z[:, j]).double() for i, j, w in parts)
        return torch.stack([both + either, both, either], dim=1)

    sizes = {"text": n // 2, "image": n // 2}
    return TokenGame.from_callable(f, sizes, head_names=HEADS, batch_size=4096)


def test_planted_pairs_rank_first_and_beat_their_swaps():
    game = of_heads(12, *((i, j, 4 - i) for i, j in TOP))
    ranked = rank_pairs(game, HEADS, 4096, 0)
    assert list(ranked) == RANKINGS
    for kind in ("synergy", "redundancy"):
        assert ranked[kind, kind].pairs[:4].tolist() == [list(pair) for pair in TOP]
        assert ranked[kind, kind].positive >= 4
    rankings = [ranked[kind, kind].pairs for kind in ("synergy", "redundancy")]
    found = compare_pairs(game, rankings, 8, np.random.default_rng(0), (2, 4))
    assert found[0][4].interaction[1] == pytest.approx(2.5)  # the mean weight
    assert found[1][2].gap[2] == pytest.approx(3.5)
    assert found[1][4].gap[2] == pytest.approx(2.5)


def test_pairs_of_no_value_follow_in_random_order():
    game = of_heads(10, (0, 5, 3), (1, 6, 2))
    first, again, other = (rank_pairs(game, HEADS, 1024, seed) for seed in (0, 0, 1))
    own = first["synergy", "synergy"]
    assert own.pairs.tolist() == again["synergy", "synergy"].pairs.tolist()
    assert own.pairs[:2].tolist() == [[0, 5], [1, 6]]
    assert len(own.pairs) == max(COUNTS)
    assert own.positive == 2
    rest = own.pairs[2:].tolist()
    assert rest != sorted(rest)
    assert rest != other["synergy", "synergy"].pairs[2:].tolist()


def test_a_model_without_experts_ranks_on_its_mixture():
    game = of_heads(8, (0, 4, 1)).on("mixture")
    ranked = rank_pairs(game, ("mixture",), 256, 0)
    assert list(ranked) == [("synergy", "mixture"), ("redundancy", "mixture")]


ON_MIXTURE = ("synergy", "mixture")
NAMES = ("mixture", PROBABILITY, CLASS)


def masked(index: int, gained: float, left: Sequence[int], block: float) -> MaskedSample:
    """Two pairs whose hiding changes class 0 to each of `left`; the controls change nothing."""
    whole = np.array([3.0, 0.9, 0.0])
    ranked = np.array([[1.0, 0.4, c] for c in left])
    values = {"ranked": ranked, **dict.fromkeys(CONTROLS, whole[None])}
    ends = np.full(3, block), np.zeros(3), np.full(3, -2.0), np.full(3, 2.0)
    masking = Masking(whole, {2: Hidden(values, *ends, 4)})
    contrast = {2: Contrast(*(np.full(3, x) for x in (gained, 9.0, 5.0, 9.0)))}
    kinds = (ON_MIXTURE, ("redundancy", "mixture"))
    return MaskedSample(
        index,
        0,
        NAMES,
        dict.fromkeys(kinds, 1),
        dict.fromkeys(kinds, masking),
        {"top": dict.fromkeys(kinds, contrast), "disjoint": {kind: {} for kind in kinds}},
    )


def test_primary_figures_by_hand():
    found = [masked(0, 1.0, [0], -1.0), masked(1, 3.0, [0], -1.0), masked(2, -0.5, [0], -1.0)]
    kinds = [ON_MIXTURE, ("redundancy", "mixture")]
    tested = [e for e in primary_figures(found, kinds, 0) if e["pairs"] == "top"]
    entries = {(e["kind"], e["m"]): e for e in tested}
    own = entries["synergy", 2]
    assert own["mean"] == pytest.approx(3.5 / 3)
    assert own["ranked"]["mean"] == 5.0
    assert own["positive"] == 1.0
    assert own["p"] == pytest.approx(2 / 8)  # ranks 2 + 3 of 6: two of eight signs reach them
    assert own["p_holm"] == own["p"]  # the only one of its kind that was tested
    assert own["rank_biserial"] == pytest.approx((5 - 1) / 6)
    assert own["share_above"] == pytest.approx(2 / 3)
    assert entries["redundancy", 2]["mean"] == 9.0
    missing = entries["synergy", 10]
    assert (missing["n"], missing["not_possible"]) == (0, 3)
    for name in ("mean", "p", "p_holm", "effect_size", "rank_biserial", "interval", "positive"):
        assert missing[name] is None


def test_drop_figures_by_hand(small: Predictor, split: TestSplit):
    multiclass = replace(small.task, kind="multiclass")
    draws = ([0, 1], [0, 0], [1, 2])
    found = [masked(i, 1.0, left, -1.0) for i, left in enumerate(draws)]
    one = replace(split, target=torch.tensor([0, 0, 1]))
    entry = drop_figures(multiclass, one, found, ON_MIXTURE, 2)
    own = entry["ranked"]
    assert own["score"]["mean"] == 2.0
    assert own["probability"]["mean"] == pytest.approx(0.5)
    assert own["flipped"]["mean"] == pytest.approx((0.5 + 0 + 1) / 3)
    # Right at first: two of three. Draws 0 0 1 and 1 0 2: three of three, and one.
    assert own["accuracy"] == pytest.approx(2 / 3 - (1 + 1 / 3) / 2)
    # Macro F1 over classes 0 and 1: 0 0 0 gives .8 and 0; the draws 1 and 1, and 2/3 and 0.
    assert own["f1"] == pytest.approx(0.4 - (1 + 1 / 3) / 2)
    assert entry["random_pairs"]["flipped"]["mean"] == 0.0
    assert entry["score_more_than_top_players"]["mean"] == 2.0
    assert entry["score_more_than_top_players"]["p"] == pytest.approx(1 / 8)
    none = drop_figures(small.task, replace(split, target=torch.zeros(3, 4)), found, ON_MIXTURE, 2)
    assert none["ranked"]["f1"] is None
    assert none["ranked"]["accuracy"] is not None


def test_block_figures_take_the_sign_of_their_own_drop():
    found = [masked(0, 0.0, [0], -1.0), masked(1, 0.0, [0], -3.0)]
    assert block_figures(found, ON_MIXTURE, 2, 0)["mean"] == 2.0
    backup = block_figures(found, ("redundancy", "mixture"), 2, 0)
    assert backup["mean"] == 2.0  # B < 0 of evidence against the target: D < 0
    assert backup["top_players"]["mean"] == 0.0
    assert block_figures(found, ON_MIXTURE, 5, 0)["mean"] is None


def test_tables_show_the_deciding_comparison_first(part):
    tables = pair_masking_tables(part.summary)
    assert next(iter(tables)) == "Top pairs against the same players with other partners"
    assert len(tables["Hiding the top pairs"]["rows"]) == 6 * len(RANKINGS) * len(COUNTS)
    for table in tables.values():
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
        assert "3 samples, 0 left out" in table["note"]


def test_tables_show_what_was_measured_and_what_was_not():
    found = [masked(i, gained, [0], -1.0) for i, gained in enumerate((0.0005, 0.001, 0.0015))]
    summary = {"n": 3, "left_out": 1, "swaps": 4, "drops": [], "blocks": []}
    summary["primary"] = primary_figures(found, [ON_MIXTURE], 0)
    table = pair_masking_tables(summary)["Top pairs against the same players with other partners"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    by_m = {row["m"]: row for row in rows if row["which"] == "top"}
    assert by_m[2]["above swapped"] == "+0.001 ± 0.00029"  # .0005 / sqrt(3)
    assert by_m[2]["of a value above 0"] == 1.0
    assert by_m[2]["p (Holm)"] == pytest.approx(1 / 8)
    assert by_m[10]["above swapped"] == by_m[10]["95% interval"] == "n/a"
    assert by_m[10]["samples"] == 0

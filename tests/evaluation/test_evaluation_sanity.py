"""Sanity checks: measures with known answers, a model against itself, and against fresh ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_options import with_options

from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError
from fli2moe.evaluation.across_models import compare_explanations
from fli2moe.evaluation.agreement import (
    Explained,
    agree,
    agree_on_pairs,
    by_chance,
    compared_methods,
    importance_of,
    pairs_of,
)
from fli2moe.evaluation.importance import player_sums
from fli2moe.evaluation.part import Part
from fli2moe.evaluation.sanity import (
    _has_changed,
    sanity,
    sanity_tables,
)
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.explain.attribution import attribute
from fli2moe.explain.randomise import BOTTOM, TOP, randomised
from fli2moe.explain.scores import PairScores
from fli2moe.features import default_cache
from fli2moe.predictor import Predictor
from fli2moe.tokens import Player

METHODS = ("attention_gradient", "gradient_x_input")
EXPERTS = ("unique_text", "unique_image", "synergy", "redundancy")
EXPLAINED = [METHODS[0], *(f"{METHODS[0]}.{expert}" for expert in EXPERTS), METHODS[1]]
OPTIONS = {"attributions": METHODS, "check_samples": 3, "budget": 60}
PLAYERS = tuple(Player(m, (i,)) for m in ("text", "image") for i in range(4))  # 16 pairs


def table(values: dict[tuple[int, int], float], players: tuple[Player, ...] = PLAYERS) -> Any:
    first, second = (np.array([pair[k] for pair in values], dtype=np.int64) for k in (0, 1))
    scores = np.array(list(values.values()), dtype=np.float64)
    return PairScores(
        "SII",
        players,
        first,
        second,
        ("mixture",) * len(values),
        scores,
        np.ones(len(values)),
        np.ones(len(values), dtype=np.int64),
    )


def falling(order: list[tuple[int, int]]) -> PairScores:
    return table({pair: float(len(order) - n) for n, pair in enumerate(order)})


PAIRS = [(i, j) for i in range(4) for j in range(4, 8)]


def agreement(first: PairScores, second: PairScores) -> tuple[float, float]:
    found = agree_on_pairs({"SII": first}, {"SII": second})
    return found["SII", "spearman"], found["SII", "jaccard"]


def test_rankings_of_pairs_have_known_agreements():
    assert agreement(falling(PAIRS), falling(PAIRS)) == (pytest.approx(1), pytest.approx(1))
    # Reversed: the tops of 10 of 16 share the 4 in the middle.
    assert agreement(falling(PAIRS), falling(PAIRS[::-1])) == (
        pytest.approx(-1),
        pytest.approx(4 / 16),
    )
    swapped = [*PAIRS[:9], PAIRS[10], PAIRS[9], *PAIRS[11:]]  # places 10 and 11: d = 1 twice
    spearman = 1 - 6 * 2 / (16 * (16**2 - 1))
    assert agreement(falling(PAIRS), falling(swapped)) == (
        pytest.approx(spearman),
        pytest.approx(9 / 11),
    )


def test_pairs_that_only_one_scores_count_for_the_top_alone():
    part = falling(PAIRS[2:])  # ranks the rest alike
    spearman, jaccard = agreement(falling(PAIRS), part)
    assert spearman == pytest.approx(1)
    assert jaccard == pytest.approx(8 / 12)


def test_pairs_that_tie_at_the_edge_share_its_places():
    values = {pair: 1.0 if n < 4 else 0.0 for n, pair in enumerate(PAIRS)}
    spearman, jaccard = agreement(table(values), falling(PAIRS))
    both = 4 + 6 * (6 / 12)  # six places for twelve pairs, six of them on the other top
    assert jaccard == pytest.approx(both / (20 - both))
    assert 0 < spearman < 1


def test_what_ranks_nothing_is_not_a_number():
    same = table(dict.fromkeys(PAIRS, 0.0))
    assert np.isnan(agreement(same, falling(PAIRS))).all()
    assert np.isnan(agreement(falling(PAIRS), same)).all()
    assert np.isnan(agreement(table({}), falling(PAIRS))).all()
    few = PLAYERS[:5]  # four pairs: all of them are on top
    four = table({(i, 4): float(i) for i in range(4)}, few)
    assert agreement(four, four) == (pytest.approx(1), pytest.approx(np.nan, nan_ok=True))
    importance = Explained({"a": np.zeros(8)}, {})
    assert np.isnan(list(agree(importance, Explained({"a": np.arange(8.0)}, {})).values())).all()


def test_importances_have_known_agreements():
    x = np.arange(20.0)
    found = agree(Explained({"a": x, "b": x}, {}), Explained({"a": x, "b": -x}, {}))
    assert found["a", "spearman"] == found["a", "jaccard"] == pytest.approx(1)
    assert found["b", "spearman"] == pytest.approx(-1)
    assert found["b", "jaccard"] == 0


def test_chance_is_what_shuffled_rankings_agree_by():
    own = Explained({"a": np.arange(20.0)}, {"SII": falling(PAIRS)})
    generator = np.random.default_rng(0)
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(500):
        order = [PAIRS[k] for k in generator.permutation(16)]
        other = Explained({"a": generator.permutation(20).astype(float)}, {"SII": falling(order)})
        for name, value in agree(own, other).items():
            found.setdefault(name, []).append(value)
    expected = by_chance(own)
    assert set(expected) == set(found)
    for name, values in found.items():
        error = np.std(values) / len(values) ** 0.5
        assert np.mean(values) == pytest.approx(expected[name], abs=4 * error)


@pytest.fixture(scope="module", autouse=True)
def few_players() -> Iterator[None]:
    """Five words and five patches of each sample: with this budget, probes take no time."""
    players = Predictor.players

    def few(self: Predictor, inputs: Any, tokens: Any) -> tuple[Player, ...]:
        found = players(self, inputs, tokens)
        return tuple(
            p for m in ("text", "image") for p in [p for p in found if p.modality == m][:5]
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "players", few)
        yield


@pytest.fixture(scope="module")
def split(predictor: Predictor, dataset: Dataset, tiny_run: Path) -> TestSplit:
    return run_split(predictor, dataset.test[:3], default_cache(tiny_run))


@pytest.fixture(scope="module")
def small(predictor: Predictor) -> Predictor:
    return with_options(predictor, evaluation=OPTIONS)


@pytest.fixture(scope="module")
def part(small: Predictor, split: TestSplit) -> Part:
    return sanity(small, split, 0, None)


def test_every_step_measures_every_explanation(part: Part):
    summary = json.loads(json.dumps(part.summary, allow_nan=False))
    assert (summary["n"], summary["left_out"], summary["budget"]) == (3, 0, 60)
    assert [step["name"] for step in summary["steps"]] == [TOP, "layer 1", BOTTOM]
    names = [*EXPLAINED, "SII", "redundancy_gap"]
    for found in (summary["unchanged"], *(step["agreement"] for step in summary["steps"])):
        assert list(found) == names
        assert all(list(of_what) == ["spearman", "jaccard"] for of_what in found.values())
    for what in EXPLAINED:
        assert summary["unchanged"][what]["spearman"]["mean"] == pytest.approx(1)
    for method in METHODS:
        assert abs(summary["steps"][-1]["agreement"][method]["spearman"]["mean"]) < 0.9
    assert summary["unchanged"]["SII"]["spearman"]["mean"] < 1


def test_rows_hold_what_the_last_step_is_the_mean_of(part: Part):
    for what, of_what in part.summary["steps"][-1]["agreement"].items():
        for measure, found in of_what.items():
            name = f"sanity.{what}.{measure}"
            values = [row[name] for row in part.rows.values() if name in row]
            assert len(values) == found["n"]
            assert np.mean(values) == pytest.approx(found["mean"])


def test_a_model_that_stays_as_it_is_fails(
    small: Predictor, split: TestSplit, monkeypatch: pytest.MonkeyPatch
):
    def unchanged(model: Any, seed: int) -> Any:
        yield BOTTOM, copy.deepcopy(model)

    monkeypatch.setattr("fli2moe.evaluation.sanity.randomised", unchanged)
    found = sanity(small, split, 0, None).summary
    for what, of_what in found["steps"][-1]["agreement"].items():
        if of_what["spearman"]["n"]:
            assert of_what["spearman"]["mean"] == pytest.approx(1)
        said = found["passed"][what]["spearman"]
        assert said is False if what in EXPLAINED else said in (False, None)


def figure(mean: float | None, error: float | None) -> dict[str, Any]:
    return {"mean": mean, "standard_error": error, "n": 12}


@pytest.mark.parametrize(
    ("ceiling", "left", "said"),
    [
        (figure(1.0, 0.0), figure(0.3, 0.05), True),  # half of the way from .2 to 1 is .6
        (figure(1.0, 0.0), figure(0.65, 0.02), False),
        (figure(1.0, 0.0), figure(-0.3, 0.02), False),  # the same upside down
        (figure(1.0, 0.0), figure(0.55, 0.05), None),  # .6 is within two errors
        (figure(0.9, 0.2), figure(0.3, 0.05), True),  # error of half of the ceiling: .1
        (figure(0.9, 0.2), figure(0.36, 0.05), None),
        (figure(0.3, 0.06), figure(0.2, 0.01), None),  # the ceiling is no better than chance
        (figure(1.0, None), figure(0.2, 0.01), None),
        (figure(1.0, 0.0), figure(None, None), None),
    ],
)
def test_the_verdict_leaves_open_what_two_standard_errors_do(
    ceiling: dict[str, Any], left: dict[str, Any], said: bool | None
):
    assert _has_changed(ceiling, left, 0.2) is said


def test_without_a_level_of_chance_there_is_no_verdict():
    assert _has_changed(figure(1.0, 0.0), figure(0.2, 0.01), float("nan")) is None


def test_the_same_seed_gives_the_same_part(
    small: Predictor, split: TestSplit, dataset: Dataset, tiny_run: Path, part: Part
):
    state = torch.get_rng_state()
    again = sanity(small, run_split(small, dataset.test[:3], default_cache(tiny_run)), 0, None)
    assert torch.equal(torch.get_rng_state(), state)
    assert again == part
    assert sanity(small, split, 1, None) != part


def test_the_trained_model_is_probed_once_for_all_steps(
    small: Predictor, dataset: Dataset, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
):
    test = run_split(small, dataset.test[:2], default_cache(tiny_run))
    probed: list[tuple[bool, int, int]] = []

    def counted(predictor: Predictor, test: TestSplit, i: int, seed: int, *rest: Any) -> Any:
        probed.append((predictor is small, i, seed))
        return pairs_of(predictor, test, i, seed, *rest)

    monkeypatch.setattr("fli2moe.evaluation.agreement.pairs_of", counted)
    sanity(small, test, 0, None)
    own = [found for found in probed if found[0]]
    assert sorted(own) == [(True, 0, 0), (True, 0, 1), (True, 1, 1), (True, 1, 2)]
    assert len(probed) == 4 + 3 * 2
    compare_explanations(small, small, test, 0, None)
    assert len(probed) == 4 + 3 * 2 + 2


def test_a_model_agrees_with_itself_and_less_with_another(small: Predictor, split: TestSplit):
    same = compare_explanations(small, small, split, 0, None)
    json.dumps(same, allow_nan=False)
    assert (same["n"], same["left_out"]) == (3, 0)
    assert same["agreement"]["SII"]["spearman"]["n"] > 0
    for of_what in same["agreement"].values():
        if of_what["spearman"]["n"]:
            assert of_what["spearman"]["mean"] == pytest.approx(1)
    fresh = replace(small, model=list(randomised(small.model, 0))[-1][1])
    fresh = with_options(fresh, evaluation={"budget": 200, "attributions": METHODS[:1]})
    other = compare_explanations(small, fresh, split, 0, None)
    assert other["agreement"] == sanity(small, split, 0, None).summary["steps"][-1]["agreement"]
    assert other["unchanged"] == same["unchanged"]


def test_another_models_classes_have_to_be_the_same(small: Predictor, split: TestSplit):
    task = replace(small.task, classes=tuple(reversed(small.task.classes)))
    with pytest.raises(InputError, match="same data"):
        compare_explanations(small, replace(small, task=task), split, 0, None)


def test_samples_without_a_cross_modal_pair_are_left_out_and_counted(
    small: Predictor, dataset: Dataset, tiny_run: Path
):
    samples = [
        replace(s, inputs={**s.inputs, "text": text or s.inputs["text"]})
        for s, text in zip(dataset.test[:3], (" ", "", ""), strict=True)
    ]
    test = run_split(small, samples, default_cache(tiny_run))
    found = sanity(small, test, 0, None)
    assert (found.summary["n"], found.summary["left_out"]) == (2, 1)
    assert sorted(found.rows) == [1, 2]
    none = run_split(small, samples[:1], default_cache(tiny_run))
    assert sanity(small, none, 0, None).summary == {}
    assert compare_explanations(small, small, none, 0, None)["agreement"] == {}


def test_a_budget_too_small_for_pairs_leaves_the_attributions(small: Predictor, split: TestSplit):
    found = sanity(with_options(small, evaluation={"budget": 16}), split, 0, None).summary
    assert list(found["unchanged"]) == EXPLAINED
    assert all(len(table["rows"]) == 6 for table in sanity_tables(found).values())


def test_experts_are_explained_by_the_configs_own_method(small: Predictor, split: TestSplit):
    other = with_options(small, explain={"attribution": "gradient_x_input"})
    assert list(importance_of(other, split, 0)) == [
        *METHODS, *(f"gradient_x_input.{expert}" for expert in EXPERTS)
    ]  # fmt: skip
    none = with_options(small, explain={"attribution": "integrated_gradients"})
    found = importance_of(none, split, 0)
    assert list(found) == EXPLAINED
    heads = attribute(
        small.model,
        split.tokens(0),
        small.task.target_weights([split.targets[0]]),
        METHODS[0],
        baseline=small.attribution_baseline(),
    ).scores
    players = small.players(split.samples[0].inputs, split.tokens(0))
    expected = player_sums(players, heads["synergy"])
    assert found["attention_gradient.synergy"].tolist() == expected.tolist()
    assert found["attention_gradient"].tolist() != expected.tolist()


def test_costly_methods_are_compared_where_there_is_no_other(small: Predictor):
    def compared(*methods: str) -> list[str]:
        return compared_methods(with_options(small, evaluation={"attributions": methods}))

    assert compared("integrated_gradients", "random", "gradient_x_input") == ["gradient_x_input"]
    assert compared("random", "integrated_gradients") == ["integrated_gradients"]
    assert compared("random") == []


def test_tables_hold_the_figures_of_the_summary(part: Part):
    for measure, table in zip(
        ("spearman", "jaccard"), sanity_tables(part.summary).values(), strict=True
    ):
        assert table["columns"][:3] == ["explanation", "unchanged", TOP]
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
        assert table["rows"][3][0] == "attention_gradient, synergy"
        row = table["rows"][5]
        last = part.summary["steps"][-1]["agreement"][METHODS[1]][measure]
        assert row[0] == METHODS[1]
        assert row[-3] == f"{last['mean']:.3f} ± {last['standard_error']:.3f}"
        assert row[-2] == part.summary["by_chance"][METHODS[1]][measure]
        said = part.summary["passed"][METHODS[1]][measure]
        assert row[-1] == {True: "yes", False: "no", None: None}[said]

"""Every predicted label is measured by itself; the error is over samples."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_options import with_options

from fli2moe.data.sample import Dataset
from fli2moe.evaluation import interactions
from fli2moe.evaluation.interactions import ORDERS, interaction_shares, interaction_tables
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.evaluation.statistics import mean_and_error, mean_of
from fli2moe.evaluation.task import expert_figures
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes import interaction_share
from fli2moe.features import default_cache
from fli2moe.predictor import Predictor
from fli2moe.task import Task

TARGETS = [[0, 1], [1], [0, 2, 1]]  # of dog, match, star, sunny


@pytest.fixture
def split(predictor: Predictor, dataset: Dataset, tiny_run: Path) -> TestSplit:
    found = run_split(predictor, dataset.test[:3], default_cache(tiny_run))
    return replace(found, targets=TARGETS)


def test_every_target_of_a_sample_counts_alike(predictor: Predictor, split: TestSplit):
    options = {"budget": 40, "pair_samples": 3}
    found = interaction_shares(with_options(predictor, evaluation=options), split, 5, None).summary
    head = "synergy"
    share = {
        (i, c): interaction_share(
            predictor.game(split.samples[i].inputs, predictor.task.classes[c]).on(head),
            40,  # the same coalitions serve every target
            5 + i,
        ).interactions
        for i, targets in enumerate(TARGETS)
        for c in targets
    }
    of_samples = [np.mean([share[i, c] for c in targets]) for i, targets in enumerate(TARGETS)]
    assert found[head] == pytest.approx(mean_and_error(of_samples))
    per_label = found["per_label"]
    assert list(per_label) == list(predictor.task.classes)
    assert per_label["dog"][head] == pytest.approx(mean_and_error([share[0, 0], share[2, 0]]))
    assert per_label["match"][head]["n"] == 3
    assert per_label["star"][head] == {
        "mean": pytest.approx(share[2, 2]), "standard_error": None, "n": 1
    }  # fmt: skip
    assert per_label["sunny"][head] == {"mean": None, "standard_error": None, "n": 0}


def test_orders_are_means_over_targets_and_then_samples(predictor: Predictor, split: TestSplit):
    options = {"budget": 40, "pair_samples": 3}
    part = interaction_shares(with_options(predictor, evaluation=options), split, 5, None)
    for head in predictor.model.heads:
        found = part.summary["orders"][head]
        assert list(found) == list(ORDERS)
        assert sum(found[order]["mean"] for order in ORDERS) == pytest.approx(1)
        for order in ORDERS:
            of_samples = [
                np.mean(
                    [
                        getattr(interaction_share(game.on(head), 40, 5 + i), order)
                        for game in (
                            predictor.game(split.samples[i].inputs, predictor.task.classes[c])
                            for c in targets
                        )
                    ]
                )
                for i, targets in enumerate(TARGETS)
            ]
            assert found[order] == pytest.approx(mean_and_error(of_samples), abs=1e-6)
        values = [part.rows[i][f"interaction_share.{head}"] for i in range(3)]
        assert np.mean(values) == pytest.approx(part.summary[head]["mean"])


def test_targets_of_a_sample_share_its_evaluations(
    predictor: Predictor, split: TestSplit, monkeypatch: pytest.MonkeyPatch
):
    games: list[TokenGame] = []
    make = Predictor.game_of

    def kept(self: Predictor, *args: Any, **options: Any) -> TokenGame:
        games.append(make(self, *args, **options))
        return games[-1]

    monkeypatch.setattr(Predictor, "game_of", kept)
    interaction_shares(with_options(predictor, evaluation={"budget": 40}), split, 0, None)
    assert [game.evaluations for game in games] == [40, 40, 40]


def test_a_target_that_never_varies_does_not_spoil_its_sample(
    predictor: Predictor, split: TestSplit, monkeypatch: pytest.MonkeyPatch
):
    values = iter([nan, 0.2, 0.4, nan, nan, nan])

    def given(*_: Any) -> SimpleNamespace:
        share = next(values)
        return SimpleNamespace(interactions=share, main=1 - share, pairs=share, higher=0.0)

    monkeypatch.setattr(interactions, "interaction_share", given)
    one_head = SimpleNamespace(
        config=predictor.config,
        task=predictor.task,
        model=SimpleNamespace(heads=("mixture",)),
        players=predictor.players,
        game_of=predictor.game_of,
    )
    found = interaction_shares(one_head, split, 0, None).summary
    assert found["mixture"]["mean"] == pytest.approx(0.3)
    assert found["mixture"]["n"] == 2
    assert mean_of([nan]) is np.nan


def test_multi_class_has_one_target_and_no_labels_of_its_own(
    predictor: Predictor, split: TestSplit
):
    task = Task("multiclass", predictor.task.classes)
    single = Predictor(predictor.config, task, predictor.model, predictor.encoders, predictor.means)
    single = with_options(single, evaluation={"budget": 64})
    found = interaction_shares(single, replace(split, targets=[[2], [0], [1]]), 0, None).summary
    assert set(found) == {*predictor.model.heads, "orders"}
    assert found["mixture"]["n"] == 3
    assert "share_per_label" not in expert_figures(single, split)["synergy"]


def test_contributions_are_of_every_target(predictor: Predictor, split: TestSplit):
    a, b = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.7, 0.1, 0.1, 0.1])
    shares = [torch.stack([a, b]), a[None], torch.stack([b, b, a])]
    found = expert_figures(predictor, replace(split, shares=shares))
    figures = found["unique_text"]
    of_samples = [0.4, 0.1, 0.5]
    assert figures["share"] == pytest.approx(np.mean(of_samples))
    assert figures["share_sd"] == pytest.approx(np.std(of_samples))
    assert figures["share_per_label"] == {
        "dog": pytest.approx(0.4), "match": pytest.approx((0.7 + 0.1 + 0.1) / 3),
        "star": pytest.approx(0.7), "sunny": None,
    }  # fmt: skip


def share(mean: float | None, error: float | None) -> dict[str, Any]:
    return {"mean": mean, "standard_error": error, "n": 12}


def test_tables_put_orders_beside_the_share_and_labels_in_one_of_their_own():
    summary = {
        "mixture": share(0.3, 0.02),
        "synergy": share(0.9, None),
        "orders": {
            head: dict(zip(ORDERS, map(share, of_head, (0.02, 0.03, 0.04)), strict=True))
            for head, of_head in (("mixture", (0.7, 0.25, 0.05)), ("synergy", (0.1, 0.9, 0.0)))
        },
        "per_label": {"dog": {"mixture": share(0.4, 0.1), "synergy": share(0.8, 0.1)}},
    }
    whole, per_label = interaction_tables(summary).values()
    assert whole["columns"][1:5] == ["interactions", "main effects", "pairs", "higher orders"]
    assert whole["rows"][0] == [
        "mixture", "0.300 ± 0.020", "0.700 ± 0.020", "0.250 ± 0.030", "0.050 ± 0.040", 12
    ]  # fmt: skip
    assert [row[0] for row in whole["rows"]] == ["mixture", "synergy"]
    assert per_label["rows"] == [["dog", 0.4, 0.1, 12]]


def test_a_summary_without_orders_still_has_its_table():
    (table,) = interaction_tables({"mixture": share(0.3, 0.02)}).values()
    assert table["rows"] == [["mixture", "0.300 ± 0.020", None, None, None, 12]]


@pytest.mark.parametrize(
    ("mean", "error", "said"),
    [
        (0.02, 0.01, True),
        (0.02, 0.015, False),  # two errors reach .05
        (0.06, 0.0, False),
        (0.02, None, False),  # of one sample
        (None, None, False),
    ],
)
def test_a_model_is_called_almost_additive_only_where_its_error_allows(
    mean: float | None, error: float | None, said: bool
):
    summary = {"mixture": share(mean, error), "synergy": share(0.9, 0.01)}
    (table,) = interaction_tables(summary).values()
    assert ("almost additive here" in table["note"]) is said

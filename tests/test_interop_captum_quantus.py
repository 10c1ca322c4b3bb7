"""Captum and Quantus get from the adapters what our own games say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, IntegratedGradients
from explain.games import halves, moebius

from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError
from fli2moe.interop import CaptumView, as_captum, as_quantus
from fli2moe.predictor import Predictor


@pytest.fixture
def view(predictor: Predictor, dataset: Dataset) -> CaptumView:
    inputs = dataset.test[0].inputs
    tokens = predictor.encode([inputs])
    players = predictor.players(inputs, tokens)
    return as_captum(predictor.model, tokens, players, predictor.baseline("mean"))


@pytest.mark.parametrize("head", ["mixture", "synergy"])
def test_feature_ablation_is_what_hiding_each_player_costs(
    predictor: Predictor, dataset: Dataset, head: str
):
    inputs = dataset.test[0].inputs
    tokens = predictor.encode([inputs])
    players = predictor.players(inputs, tokens)
    view = as_captum(predictor.model, tokens, players, predictor.baseline("mean"), head=head)
    target = 1
    values = FeatureAblation(view).attribute(
        view.inputs, view.baselines, target=target, feature_mask=view.feature_mask
    )
    found = view.player_scores(values)
    game = predictor.game(inputs, predictor.task.classes[target], tokens=tokens, score="logit")
    without = ~np.eye(game.n_players, dtype=bool)
    cost = game.on(head)(np.ones((1, game.n_players), bool)) - game.on(head)(without)
    assert found.tolist() == pytest.approx(cost.tolist(), abs=1e-5)
    assert np.abs(cost).max() > 1e-3


def test_integrated_gradients_are_complete(view: CaptumView):
    values = IntegratedGradients(view).attribute(
        view.inputs, view.baselines, target=0, n_steps=64, method="gausslegendre"
    )
    difference = view(*view.inputs)[0, 0] - view(*view.baselines)[0, 0]
    assert float(view.player_scores(values).sum()) == pytest.approx(float(difference), abs=2e-2)
    assert abs(float(difference)) > 0.05
    assert all(p.grad is None for p in view.model.parameters())


def test_many_rows_are_each_as_if_alone(view: CaptumView):
    rows = tuple(x.expand(3, -1, -1) for x in view.inputs)
    with torch.no_grad():
        assert torch.allclose(view(*rows), view(*view.inputs).expand(3, -1), atol=1e-5)


def test_what_does_not_fit_is_one_line(view: CaptumView):
    with pytest.raises(InputError, match="1 tensors; expected 2"):
        view(view.inputs[0])
    with pytest.raises(InputError, match=r"head 'synergi'.*'synergy'"):
        as_captum(view.model, view.tokens, view.players, head="synergi")


GAME = halves(moebius({(0,): 3.0, (1,): 1.0, (4,): 2.0, (0, 4): 1.0}))


def test_quantus_sees_the_game_through_the_masks():
    view = as_quantus(GAME, [3.5, 1.0, 0.0, 0.0, 2.5, 0.0], repeats=2)
    model, x = view.arguments["model"], view.arguments["x_batch"]
    masks = torch.from_numpy(x.copy())
    masks[1, 0, 0] = 0.0
    assert model(masks)[:, 0].tolist() == [7.0, 3.0]
    with pytest.raises(InputError, match=r"shape \(5,\); expected \(6,\)"):
        as_quantus(GAME, [0.0] * 5)
    with pytest.raises(InputError, match="NaN"):
        as_quantus(GAME, [np.nan] * 6)


@pytest.mark.filterwarnings("ignore")  # Quantus warns of what it is given by design
def test_metrics_of_quantus_prefer_the_right_ranking():
    quantus = pytest.importorskip("quantus", reason="needs `pip install quantus`")
    right, wrong = [3.5, 1.0, 0.0, 0.0, 2.5, 0.0], [0.0, 0.0, 3.5, 2.5, 0.0, 1.0]

    def flipped(values: list[float]) -> np.ndarray:
        view = as_quantus(GAME, values)
        metric = quantus.PixelFlipping(features_in_step=1, **view.settings)
        return np.asarray(metric(**view.arguments)[0])

    found = flipped(right)
    assert found.tolist() == [3.0, 1.0, 0.0, 0.0, 0.0, 0.0]  # 0 goes first, then 4, then 1
    assert found.sum() < flipped(wrong).sum()

    def correlation(values: list[float]) -> float:
        view = as_quantus(GAME, values)
        metric = quantus.FaithfulnessCorrelation(nr_runs=100, subset_size=2, **view.settings)
        return float(metric(**view.arguments)[0])

    np.random.seed(0)
    assert correlation(right) > 0.9 > correlation(wrong)

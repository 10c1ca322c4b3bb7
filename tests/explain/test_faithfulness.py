from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from fli2moe.errors import InputError
from fli2moe.explain import TokenGame, top_k_curve
from fli2moe.explain.faithfulness import top_k_curves

from .games import Counted, halves, random_table

WEIGHTS = torch.tensor([0.05, 0.4, 0.1, 0.25, 0.2], dtype=torch.float64)


def additive() -> TokenGame:
    """p = sum of five text weights that are present, half of it when the picture is hidden."""
    return TokenGame.from_callable(
        lambda z: (z[:, :5].double() @ WEIGHTS) * (0.5 + 0.5 * z[:, 5]), {"text": 5, "image": 1}
    )


def test_hand_computed_curve():
    scores = [*WEIGHTS.tolist(), 9.0]
    curve = top_k_curve(additive(), scores, "text", percents=(10, 20, 50, 100))
    assert curve.counts == (1, 1, 3, 5)
    assert curve.full == pytest.approx(1.0)
    assert curve.comprehensiveness == pytest.approx((0.4, 0.4, 0.85, 1.0))
    assert curve.sufficiency == pytest.approx((0.6, 0.6, 0.15, 0.0))
    assert curve.aopc_comprehensiveness == pytest.approx(2.65 / 4)
    assert curve.aopc_sufficiency == pytest.approx(1.35 / 4)


def test_gaps_are_against_the_random_control():
    scores = [*WEIGHTS.tolist(), 0.0]
    curve = top_k_curve(additive(), scores, "text", draws=4000)
    # k = 1 of 5 for 5 to 20%, 2 for 25%: a random player carries a fifth on average.
    assert curve.random_comprehensiveness == pytest.approx((0.2, 0.2, 0.2, 0.2, 0.4), abs=0.02)
    assert curve.comprehensiveness_gap == pytest.approx((4 * 0.4 + 0.65 - 1.2) / 5, abs=0.02)
    assert curve.sufficiency_gap == pytest.approx((3.8 - (4 * 0.6 + 0.35)) / 5, abs=0.02)
    worst = top_k_curve(additive(), [-s for s in scores], "text")
    assert worst.comprehensiveness_gap < 0
    assert worst.sufficiency_gap < 0


def test_only_the_modality_is_hidden():
    curve = top_k_curve(additive(), np.zeros(6), "image", percents=(100,))
    assert curve.comprehensiveness == pytest.approx((0.5,))
    assert curve.sufficiency == pytest.approx((0.0,))
    assert curve.random_comprehensiveness == pytest.approx((0.5,))


def test_ties_go_to_the_earlier_player():
    curve = top_k_curve(additive(), np.zeros(6), "text", percents=(20, 40))
    assert curve.comprehensiveness == pytest.approx((0.05, 0.45))


def test_same_seed_same_curve_and_few_evaluations():
    f = Counted(random_table(10, 0))
    game = halves(f, 10)
    scores = np.arange(10.0)
    curve = top_k_curve(game, scores, "text", seed=5)
    assert f.rows <= 1 + 11 * 2 * 5
    before = f.rows
    assert top_k_curve(game, scores, "text", seed=5) == curve
    assert f.rows == before
    assert top_k_curve(game, scores, "text", seed=6) != curve
    with pytest.raises(FrozenInstanceError):
        curve.full = 0.0  # type: ignore[misc]


def test_all_rankings_and_heads_share_their_evaluations():
    f = Counted(random_table(8, 3, heads=3))
    game = halves(f, 8, head_names=("mixture", "one", "other"))
    scores = np.random.default_rng(0).normal(size=(4, 8))
    curves = top_k_curves(game, scores, "image", draws=3, seed=2)
    asked = f.rows
    assert asked <= 1 + (4 + 3) * 2 * 5
    for ranking, of_heads in zip(scores, curves, strict=True):
        assert list(of_heads) == ["mixture", "one", "other"]
        for head, curve in of_heads.items():
            alone = top_k_curve(game.on(head), ranking, "image", draws=3, seed=2)
            assert curve == alone
    assert f.rows == asked
    assert len({curve.comprehensiveness for curve in curves[0].values()}) == 3
    chance = {of_heads["one"].random_sufficiency for of_heads in curves}
    assert len(chance) == 1


def test_rankings_that_do_not_fit_the_game_are_refused():
    with pytest.raises(InputError, match=r"shape \(6,\); expected \(rankings, 6\)"):
        top_k_curves(additive(), np.zeros(6), "text")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percents": (0,)}, "K = 0"),
        ({"percents": (5, 101)}, "K = 101"),
        ({"percents": (float("nan"),)}, "K = nan"),
        ({"percents": ()}, "at least one K"),
        ({"modality": "txt"}, "did you mean 'text'"),
        ({"scores": np.zeros(5)}, r"expected \(6,\)"),
        ({"scores": np.full(6, np.nan)}, "finite"),
        ({"draws": 0}, "draws"),
    ],
)
def test_bad_requests_are_one_clear_line(options, message):
    with pytest.raises(InputError, match=message):
        top_k_curve(additive(), **{"scores": np.zeros(6), "modality": "text", **options})

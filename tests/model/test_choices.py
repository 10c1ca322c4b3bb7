"""Which experts there are, and what weighs them: the ablations, and up to four modalities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from oracles.model import run_alone
from oracles.steps import batch_of, product_step, trainee_of
from saved import config_of
from tiny import CLASSES, FOUR, THREE, WIDTHS, gappy, tiny_batch, tiny_model

from fli2moe import accumulation, losses
from fli2moe.config import Config, LossConfig
from fli2moe.errors import InputError
from fli2moe.explain.attribution import METHODS, attribute
from fli2moe.explain.model_game import model_game
from fli2moe.losses import Objective, View, check_losses
from fli2moe.model import expert_names, from_pretrained, masks_of, save_pretrained
from fli2moe.model.router import Router, UniformRouter
from fli2moe.task import Task
from fli2moe.tokens import Player, TokenBatch

TASK = Task("multiclass", ("a", "b", "c"))
CHOICES: list[dict[str, Any]] = [
    {"isolated": True},
    {"experts": ["redundancy", "synergy"]},
    {"experts": ["synergy"]},
    {"router": {"kind": "uniform"}},
]


@pytest.mark.parametrize("widths", [WIDTHS, THREE, FOUR], ids=["two", "three", "four"])
@pytest.mark.parametrize("options", CHOICES)
def test_the_model_is_the_oracle(options: dict[str, Any], widths: dict[str, int]) -> None:
    model, batch = tiny_model(widths=widths, **options), tiny_batch(gappy(widths), widths=widths)
    found, expected = model(batch), run_alone(model, batch)
    for kind in ("logits", "weights", "expert_logits", "latents"):
        ours, theirs = getattr(found, kind), getattr(expected, kind)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_some_experts_stand_in_the_order_of_all() -> None:
    model = tiny_model(experts=["redundancy", "unique_image", "synergy"])
    assert model.experts == ("unique_image", "synergy", "redundancy")
    assert model.heads == ("mixture", *model.experts)
    assert isinstance(model.router, Router)
    alone = tiny_model(experts=["synergy"])
    assert alone.router is None
    assert alone.heads == ("mixture",)
    assert torch.equal(alone(tiny_batch()).weights, torch.ones(2, 1).double())


def test_an_unknown_expert_names_the_closest() -> None:
    with pytest.raises(InputError, match=r"model.experts: .*'synergi'.*did you mean 'synergy'"):
        tiny_model(experts=["synergi"])


@pytest.mark.parametrize("value", [[], ["synergy", "synergy"], "some", 3, [3]])
def test_other_than_names_is_one_line(value: object) -> None:
    with pytest.raises(InputError, match=r"model.experts.*all, or a list of different") as caught:
        config(model={"experts": value})
    assert "\n" not in str(caught.value)


def test_an_unknown_router_names_the_closest() -> None:
    with pytest.raises(InputError, match=r"model.router.kind.*unifrom.*uniform"):
        config(model={"router": {"kind": "unifrom"}})


def config(**sections: Any) -> Config:
    modalities = {m: {"encoder": "vector", "width": 3} for m in ("text", "image")}
    return Config.from_dict({"data": {"path": "-", "modalities": modalities}, **sections})


def test_a_uniform_router_weighs_alike_and_learns_nothing() -> None:
    model, batch = tiny_model(router={"kind": "uniform"}), tiny_batch()
    assert isinstance(model.router, UniformRouter)
    assert not list(model.router.parameters())
    output = model(batch)
    assert torch.equal(output.weights, torch.full((2, 4), 0.25).double())
    torch.testing.assert_close(output.logits, output.expert_logits.mean(1))
    half = {"text": torch.zeros(2, 1, 8, dtype=torch.bfloat16)}
    assert model.router(half, {}).dtype == torch.float32


@pytest.mark.parametrize("normalize", ["l2", "none"])
def test_weights_of_a_sample_without_a_modality_are_finite_and_its_own(normalize: str) -> None:
    """Whatever stands where the modality would be, and in the gradient too."""
    router = {"normalize": normalize, "hidden": 6, "dropout": 0.0}
    model = tiny_model(router=router)
    found = []
    for value in (0.0, 1e30, torch.nan, torch.inf):
        batch = tiny_batch(gappy(WIDTHS))
        spoilt = {
            m: t.with_features(torch.where(t.mask[..., None], t.features, value))
            for m, t in batch.items()
        }
        model.zero_grad()
        weights = model(TokenBatch(spoilt)).weights
        weights.square().sum().backward()
        gradients = [p.grad for p in model.router.parameters()]
        gradients += [model.projections[m].linear.weight.grad for m in WIDTHS]
        assert all(bool(torch.isfinite(x).all()) for x in (weights, *gradients))
        found.append(weights.detach())
    assert all(torch.equal(weights, found[0]) for weights in found)
    torch.testing.assert_close(found[0].sum(1), torch.ones(7).double())


@pytest.mark.parametrize("variant", ["paper", "swap", "predictive", "residual"])
@pytest.mark.parametrize(
    "experts", [["synergy", "redundancy"], ["synergy"], ["redundancy"], ["unique_text"]]
)
def test_the_losses_are_those_of_the_experts_that_there_are(
    experts: list[str], variant: str
) -> None:
    model = tiny_model(experts=experts)
    batch = tiny_batch(gappy(WIDTHS))
    view = View(model.project(batch), masks_of(batch))
    target = torch.arange(7) % 3
    options = LossConfig.model_validate({"variant": variant})
    if variant == "residual" and experts == ["unique_text"]:
        with pytest.raises(InputError, match=r"losses.variant: residual with.*add redundancy"):
            Objective(options, model, TASK, target, {})
        return
    objective = Objective(options, model, TASK, target, {})
    others = objective.views(model, view, torch.Generator().manual_seed(0))
    passes = losses.run_views(model, view, others)
    supervision = losses.Supervision(TASK, target, TASK.losses)
    presence = objective.presence(view, others)
    step = losses.Step(view, passes, supervision, torch.arange(7), 0, presence)
    found = objective(model, step)
    assert list(found.terms) == list(model.experts)
    mean = torch.stack(list(found.terms.values())).mean()
    torch.testing.assert_close(found.weighted[0].detach(), 0.5 * mean)


def test_without_interaction_losses_the_model_runs_on_no_other_view(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def watch(model: Any, clean: View, others: Any) -> Any:
        asked.append(len(others))
        return losses.run_views(model, clean, others)

    monkeypatch.setattr(accumulation, "run_views", watch)
    for weight in (0.0, 0.5):
        model, batch = tiny_model(), batch_of(tiny_batch(gappy(WIDTHS)), CLASSES)
        product_step(trainee_of(model, batch, interaction=weight, micro_batch=None), batch, seed=1)
    assert asked == [0, 2]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"experts": ["synergy"]}, "losses": {"router": "pid"}}, "model.experts: all"),
        (
            {"model": {"router": {"kind": "uniform"}}, "losses": {"router": "pid"}},
            "model.router.kind: learned",
        ),
        (
            {"model": {"experts": ["unique_text"]}, "losses": {"variant": "residual"}},
            "add redundancy to model.experts",
        ),
        ({"model": {"experts": ["unique_txt"]}}, "did you mean 'unique_text'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_read(
    sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_losses(config(**sections))


@pytest.mark.parametrize("widths", [THREE, FOUR], ids=["three", "four"])
@pytest.mark.parametrize("method", METHODS)
def test_every_attribution_serves_more_modalities(method: str, widths: dict[str, int]) -> None:
    model = tiny_model(widths=widths)
    batch = tiny_batch(gappy(widths), widths=widths)
    scores = attribute(model, batch, torch.eye(CLASSES)[torch.arange(7) % 3], method).scores
    assert set(scores) == set(model.heads)
    for of_head in scores.values():
        for m, values in of_head.items():
            assert bool(torch.isfinite(values).all())
            assert not values[~batch[m].mask].any()
            assert values[batch[m].mask].any()


@pytest.mark.parametrize("widths", [THREE, FOUR], ids=["three", "four"])
def test_a_game_of_more_modalities_hides_what_an_isolated_expert_cannot_see_in_vain(
    widths: dict[str, int],
) -> None:
    model = tiny_model(widths=widths, isolated=True)
    lengths = [{m: 0 if m == "image" else 2 for m in widths}]  # the sample has no picture
    tokens = tiny_batch(lengths, widths=widths)
    players = [Player(m, (t,)) for m in widths for t in range(lengths[0][m])]
    baseline = {m: torch.zeros(d).double() for m, d in widths.items()}
    game = model_game(model, tokens, players, lambda z: z[..., 0], baseline)
    everything = torch.ones(1, len(players), dtype=torch.bool)
    scores = {m: everything.clone() for m in widths}
    for m, kept in scores.items():
        kept[0, [i for i, player in enumerate(players) if player.modality == m]] = False
    whole = game.heads(everything.numpy())[0]
    for m, kept in scores.items():
        changed = game.heads(kept.numpy())[0] != whole
        for head, moved in zip(game.head_names, changed, strict=True):
            sees = model.sees.get(head, tuple(widths))
            assert bool(moved) == (m in sees and m != "image"), (m, head)


@pytest.mark.parametrize("options", [*CHOICES, {"isolated": True, "experts": ["unique_audio"]}])
def test_what_is_saved_is_what_is_loaded(options: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(widths=FOUR, **options).float()
    folder = save_pretrained(model, config_of(**options), tmp_path / "model")
    loaded = from_pretrained(folder)
    batch = tiny_batch(gappy(FOUR), widths=FOUR)
    batch = TokenBatch({m: t.with_features(t.features.float()) for m, t in batch.items()})
    assert loaded.experts == model.experts
    assert loaded.sees == model.sees
    assert torch.equal(loaded(batch).logits, model(batch).logits)
    assert set(model.experts) <= set(expert_names(tuple(FOUR)))

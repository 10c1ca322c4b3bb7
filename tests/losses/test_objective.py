"""Options to losses: what is added with which weight, and what does not fit is refused early."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import THREE, WIDTHS, tiny_batch, tiny_model

from fli2moe.config import Config, LossConfig
from fli2moe.errors import InputError
from fli2moe.losses import (
    Objective,
    Presence,
    Step,
    Supervision,
    View,
    check_losses,
    decorrelation,
    interaction_losses,
    replaced_views,
    run_views,
)
from fli2moe.losses.objective import Demands, decorrelation_weight
from fli2moe.model import FusionTransformer, masks_of
from fli2moe.task import Task

TASK = Task("multiclass", ("a", "b", "c"))
TARGET = torch.tensor([0, 2, 1, 2])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def view_of(model: FusionTransformer) -> View:
    lengths = [{m: 1 + (i + j) % 3 for j, m in enumerate(model.widths)} for i in range(4)]
    batch = tiny_batch(lengths, widths=model.widths)
    return View(model.project(batch), masks_of(batch))


def demands(
    model: FusionTransformer,
    view: View,
    *,
    epoch: int = 0,
    gate_open: bool = True,
    **options: Any,
) -> Demands:
    config = LossConfig.model_validate(options)
    means = {m: torch.zeros(d) for m, d in model.widths.items()}
    objective = Objective(config, model, TASK, TARGET, means).double()
    others = objective.views(model, view, seeded()) if gate_open else ()
    rows = torch.arange(len(view))
    supervision = Supervision(TASK, TARGET[rows], TASK.losses)
    presence = objective.presence(view, others)
    step = Step(view, run_views(model, view, others), supervision, rows, epoch, presence)
    found: Demands = objective(model, step)
    return found


def test_by_default_it_is_half_the_interaction_losses_and_nothing_else() -> None:
    model = tiny_model()
    view = view_of(model)
    found = demands(model, view)
    views = replaced_views(model, view, seeded())
    passes = run_views(model, view, list(views.values()))
    replaced = dict(zip(views, passes.latents, strict=True))
    presence = Presence.of_replaced(view, views)
    expected = interaction_losses(model, passes.output.latents, replaced, presence)
    assert found.terms == expected.terms
    assert [x.item() for x in found.weighted] == [0.5 * expected.total.item()]
    assert not any(x.requires_grad for x in found.terms.values())


@pytest.mark.parametrize("kind", ["cos", "cka", "barlow", "cka_debiased", "barlow_full"])
def test_decorrelation_comes_with_its_weight_and_does_not_wait_for_the_gate(kind: str) -> None:
    model = tiny_model()
    view = view_of(model)
    value = decorrelation(kind, model.fuse(view.projected, view.masks).latents).detach()
    published = {"cos": 3e-3, "cka": 1e-2, "cka_debiased": 1e-2, "barlow": 10, "barlow_full": 10}
    found = demands(model, view, epoch=5, gate_open=False, decorrelation=kind)
    assert found.terms == {"decorrelation": value}
    assert found.weighted[0].item() == pytest.approx(published[kind] * value.item())
    given = demands(
        model, view, epoch=5, gate_open=False, decorrelation=kind, decorrelation_weight=0.25
    )
    assert given.weighted[0].item() == pytest.approx(0.25 * value.item())


def test_barlow_rises_from_nothing_over_its_warm_up() -> None:
    barlow = LossConfig(decorrelation="barlow_full")
    weights = [decorrelation_weight(barlow, epoch) for epoch in range(7)]
    assert weights == [0, 2, 4, 6, 8, 10, 10]
    at_once = LossConfig(decorrelation="barlow", barlow_warmup_epochs=0)
    assert decorrelation_weight(at_once, 0) == 10
    assert decorrelation_weight(LossConfig(decorrelation="cos"), 0) == 3e-3


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "swap"},
        {"variant": "predictive"},
        {"variant": "residual"},
        {"space": "logit"},
        {"replacement": "zero"},
        {"replacement": "mean"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_each_option_gives_other_terms_of_the_same_names(options: dict[str, str]) -> None:
    model = tiny_model(widths=THREE)
    view = view_of(model)
    plain, other = demands(model, view), demands(model, view, **options)
    assert plain.terms.keys() == other.terms.keys() == set(model.experts)
    assert all(not torch.equal(plain.terms[e], other.terms[e]) for e in model.experts)


@pytest.mark.parametrize("variant", ["paper", "swap", "predictive", "residual", "complete"])
def test_a_part_of_the_batch_is_the_batch_of_that_part(variant: str) -> None:
    model = tiny_model()
    view = view_of(model)
    found = demands(model, view, variant=variant, noise_fraction=0.5).terms
    for expert, value in demands(model, view[:2], variant=variant).terms.items():
        torch.testing.assert_close(found[expert], value, rtol=0, atol=1e-10)


def test_the_pid_router_brings_heads_that_are_no_part_of_the_model() -> None:
    model = tiny_model()
    found = demands(model, view_of(model), gate_open=False, router="pid")
    assert set(found.terms) == {"router_heads", "router"}
    assert len(found.weighted) == 2
    config = LossConfig(router="pid")
    objective = Objective(config, model, TASK, TARGET, {})
    assert objective.pid is not None
    own = {id(p) for p in objective.parameters()}
    assert own
    assert not own & {id(p) for p in model.parameters()}
    assert not list(Objective(LossConfig(), model, TASK, TARGET, {}).parameters())


@pytest.mark.parametrize("name", ["dense", "late_fusion", "early_fusion"])
def test_a_model_without_interaction_experts_is_asked_nothing(name: str) -> None:
    model = tiny_model(name)
    everything = {"decorrelation": "cka", "router": "pid", "variant": "residual"}
    found = demands(model, view_of(model), **everything)
    assert (found.weighted, found.terms) == ((), {})


def test_pid_with_three_modalities_is_refused() -> None:
    with pytest.raises(InputError, match=r"pid with 3 modalities .*use router: learned"):
        Objective(LossConfig(router="pid"), tiny_model(widths=THREE), TASK, TARGET, {})


def config_of(modalities: tuple[str, ...] = tuple(WIDTHS), **sections: Any) -> Config:
    data = {"path": "x", "modalities": {m: {"encoder": "vector"} for m in modalities}}
    return Config.from_dict({"data": data, **sections})


def test_what_does_not_fit_is_refused_before_anything_is_read() -> None:
    check_losses(config_of(losses={"router": "pid", "decorrelation": "cka_debiased"}))
    pid = {"losses": {"router": "pid"}}
    with pytest.raises(InputError, match=r"losses.router: pid with 3 modalities"):
        check_losses(config_of(tuple(THREE), **pid))
    check_losses(config_of(tuple(THREE), **pid, model={"name": "dense"}))
    small = {"losses": {"decorrelation": "cka_debiased"}, "training": {"batch_size": 3}}
    with pytest.raises(InputError, match=r"training.batch_size: 3; expected at least 4; losses"):
        check_losses(config_of(**small))


@pytest.mark.parametrize(
    ("option", "value", "match"),
    [
        ("variant", "residuals", "residual"),
        ("space", "logits", "logit"),
        ("replacement", "zeros", "zero"),
        ("decorrelation", "cka_debias", "cka_debiased"),
        ("router", "pdi", "pid"),
    ],
)
def test_an_unknown_option_names_the_closest(option: str, value: str, match: str) -> None:
    with pytest.raises(InputError, match=rf"losses.{option}: '{value}'.*did you mean '{match}'"):
        config_of(losses={option: value})


@pytest.mark.parametrize("variant", ["swap", "predictive", "residual", "complete"])
def test_a_replacement_that_would_not_be_used_is_refused(variant: str) -> None:
    expected = f"losses.replacement: 'zero'; expected nothing else than noise where .* {variant}"
    with pytest.raises(InputError, match=expected):
        config_of(losses={"variant": variant, "replacement": "zero"})

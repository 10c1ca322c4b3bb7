"""Isolated experts: what a unique expert cannot see changes nothing about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracles import attribution as oracle_attribution
from oracles.model import OracleModel, gradients_like, run_alone
from oracles.steps import batch_of, oracle_step, product_step, trainee_of
from tiny import CLASSES, THREE, WIDTHS, replace, tiny_batch, tiny_model
from torch import Tensor

from fli2moe.explain.attribution import METHODS, attribute
from fli2moe.losses import Presence, interaction_losses
from fli2moe.model import FusionTransformer, passes
from fli2moe.tokens import TokenBatch, Tokens

LENGTHS = [{"text": 4, "image": 3}, {"text": 2, "image": 5}, {"text": 3, "image": 1}]


def other_features(tokens: Tokens) -> Tokens:
    return tokens.with_features(torch.randn_like(tokens.features))


def huge(tokens: Tokens) -> Tokens:
    return tokens.with_features(torch.full_like(tokens.features, 1e30))


def removed(tokens: Tokens) -> Tokens:
    """All of it masked out, with NaN where it was."""
    absent = torch.zeros_like(tokens.mask)
    return Tokens(torch.full_like(tokens.features, torch.nan), absent, tokens.spans)


CHANGES = (other_features, huge, removed)


@pytest.mark.parametrize("alone", [False, True], ids=["together", "one by one"])
@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("final_norm", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_what_it_cannot_see_changes_nothing_about_an_expert(
    change: Callable[[Tokens], Tokens],
    final_norm: bool,
    pooling: str,
    alone: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passes, "ALONE", 0 if alone else 2**40)
    model = tiny_model(isolated=True, final_norm=final_norm, pooling=pooling)
    batch = tiny_batch(LENGTHS)
    found = {}
    for name, tokens in (
        ("plain", batch),
        ("other", replace(batch, image=change(batch["image"]))),
    ):
        model.zero_grad()
        output = model(tokens)
        unique_text = model.experts.index("unique_text")
        output.expert_logits[:, unique_text].square().sum().backward()
        own = [p.grad[unique_text].clone() for p in model.bank.parameters()]
        shared = [model.projections["text"].linear.weight.grad.clone()]
        latents, logits = (
            x[:, unique_text].detach() for x in (output.latents, output.expert_logits)
        )
        found[name] = [latents, logits, *own, *shared]
        assert not model.projections["image"].linear.weight.grad.any()
        assert not latents[:, model.hidden :].any()  # its image part
        assert latents[:, : model.hidden].any()
    for plain, other in zip(found["plain"], found["other"], strict=True):
        assert torch.equal(plain, other)
    synergy = model.experts.index("synergy")
    plainly, otherwise = (
        model(x).expert_logits[:, synergy]
        for x in (batch, replace(batch, image=change(batch["image"])))
    )
    assert not torch.allclose(plainly, otherwise)


@pytest.mark.parametrize("widths", [WIDTHS, THREE], ids=["two", "three"])
def test_it_is_the_oracle_whose_experts_get_their_modality_alone(widths: dict[str, int]) -> None:
    model, batch = tiny_model(widths=widths, isolated=True), tiny_batch(widths=widths)
    found, expected = model(batch), run_alone(model, batch)
    for kind in ("logits", "weights", "expert_logits", "latents"):
        ours, theirs = getattr(found, kind), getattr(expected, kind)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    assert not torch.allclose(found.logits, tiny_model(widths=widths)(batch).logits)


@pytest.mark.parametrize("method", METHODS)
def test_unseen_tokens_are_attributed_exactly_nothing(method: str) -> None:
    model, batch = tiny_model(widths=THREE, isolated=True), tiny_batch(widths=THREE)
    target = torch.eye(CLASSES)[[0, 2]].double()
    scores = attribute(model, batch, target, method).scores
    assert set(scores) == set(model.heads)
    for expert, sees in model.sees.items():
        for m, values in scores[expert].items():
            assert bool((values != 0).any()) == (m in sees), (expert, m)
    assert all(bool((x != 0).any()) for x in scores["mixture"].values())


@pytest.mark.parametrize("method", ["attention_gradient", "attention_rollout", "gradient_x_input"])
@pytest.mark.parametrize("widths", [WIDTHS, THREE], ids=["two", "three"])
def test_attribution_is_the_oracle_s(method: str, widths: dict[str, int]) -> None:
    """The mean is over the queries that an expert sees."""
    model = tiny_model(widths=widths, isolated=True)
    batch = tiny_batch(widths=widths, structural=True)
    oracle = OracleModel.of(model)
    target = torch.eye(CLASSES)[[0, 2]].double()
    baseline = {m: torch.full((width,), 0.1).double() for m, width in widths.items()}
    given: dict[str, tuple[Any, ...]] = {
        "attention_gradient": (target,),
        "attention_rollout": (),
        "gradient_x_input": (target, baseline),
    }
    expected = getattr(oracle_attribution, method)(oracle, batch, *given[method])
    found = attribute(model, batch, target, method, baseline=baseline).scores
    for head, scores in expected.items():
        for m, values in scores.items():
            torch.testing.assert_close(found[head][m], values, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", ["attention_gradient", "attention_rollout", "gradient_x_input"])
def test_attribution_of_an_expert_ignores_what_it_cannot_see(method: str) -> None:
    model, batch = tiny_model(isolated=True), tiny_batch(LENGTHS)
    target = torch.eye(CLASSES).double()
    plain, other = (
        attribute(model, x, target, method).scores["unique_text"]["text"]
        for x in (batch, replace(batch, image=other_features(batch["image"])))
    )
    assert torch.equal(plain, other)


def test_a_single_isolated_expert_is_the_mixture_and_sees_as_little() -> None:
    model, batch = tiny_model(isolated=True, experts=["unique_image"]), tiny_batch()
    scores = attribute(model, batch, torch.eye(CLASSES)[[0, 2]].double(), "random").scores
    assert list(scores) == ["mixture"]
    assert not scores["mixture"]["text"].any()
    assert scores["mixture"]["image"].any()


def terms_and_gradients(
    model: FusionTransformer, batch: TokenBatch, **options: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model.zero_grad()
    one = batch_of(batch, CLASSES)
    trainee = trainee_of(model, one, **options)
    product_step(trainee, one, seed=3)
    terms = {name: x for name, x in trainee.terms[-1].items() if name.startswith("loss_")}
    return terms, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("widths", [WIDTHS, THREE], ids=["two", "three"])
@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("space", ["latent", "logit"])
def test_a_training_step_is_the_oracle_s(
    widths: dict[str, int], micro_batch: int | None, space: str
) -> None:
    """With the anchor itself as the positive of an isolated expert's triplet."""
    model = tiny_model(widths=widths, isolated=True).train()
    oracle = OracleModel.of(model)
    lengths = [{m: (2 * i + 3 * j) % 7 + (j > 0) for j, m in enumerate(widths)} for i in range(5)]
    batch = batch_of(tiny_batch(lengths, widths=widths), CLASSES)
    trainee = trainee_of(model, batch, micro_batch=micro_batch, space=space)
    found = product_step(trainee, batch, seed=3)
    expected = oracle_step(oracle, batch, seed=3, space=space)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    for name, reference in gradients_like(model, oracle).items():
        gradient = dict(model.named_parameters())[name].grad
        torch.testing.assert_close(gradient, reference, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("variant", ["paper", "swap", "predictive", "residual"])
def test_the_losses_of_isolated_experts_are_finite_and_train_them(variant: str) -> None:
    model = tiny_model(isolated=True, dropout=0.3).train()
    torch.manual_seed(0)
    terms, gradients = terms_and_gradients(model, tiny_batch(LENGTHS), variant=variant)
    assert all(bool(torch.isfinite(x).all()) for x in (*terms.values(), *gradients.values()))
    assert all(bool(x[0].any()) for n, x in gradients.items() if n.startswith("bank.layers.0"))


def test_the_triplet_of_an_isolated_expert_asks_for_a_margin_alone() -> None:
    """max(0, 1 - |z - z_-m|): no pull between two draws of dropout, which is not its business."""
    model = tiny_model(widths=THREE, isolated=True)
    draws = torch.Generator().manual_seed(0)
    shape = (4, 6, len(model.experts), 3 * model.hidden)
    clean, *others = torch.randn(shape, generator=draws).double() / 20
    clean.requires_grad_()
    replaced = dict(zip(THREE, others, strict=True))
    everyone = {m: torch.ones(6, dtype=torch.bool) for m in THREE}
    found = interaction_losses(model, clean, replaced, Presence(everyone, everyone)).terms
    for e, m in enumerate(THREE):
        apart = (clean[:, e] - replaced[m][:, e]).norm(dim=-1)
        expected = (1 - apart).clamp_min(0).mean()
        assert expected > 0.1
        torch.testing.assert_close(found[f"unique_{m}"], expected, rtol=0, atol=1e-5)
        (gradient,) = torch.autograd.grad(found[f"unique_{m}"], clean, retain_graph=True)
        (wanted,) = torch.autograd.grad(expected, clean, retain_graph=True)
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-5)

"""Interaction losses against the oracle, and finite differences (design 3.2)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import losses as oracles
from oracles.model import OracleModel
from tiny import FOUR, THREE, WIDTHS, gappy, tiny_batch, tiny_model
from torch import Tensor

from fli2moe.errors import InputError
from fli2moe.losses import (
    REPLACEMENTS,
    InteractionLosses,
    Presence,
    View,
    derangement,
    interaction_losses,
    replaced_views,
    run_views,
)
from fli2moe.model import FusionTransformer, masks_of
from fli2moe.tokens import TokenBatch


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def losses(
    model: FusionTransformer,
    batch: TokenBatch,
    seed: int = 7,
    floor: float | None = None,
    space: str = "latent",
    replacement: str = "noise",
) -> dict[str, Tensor]:
    view = View(model.project(batch), masks_of(batch))
    return dict(losses_of(model, view, seed, floor, space, replacement).terms)


def losses_of(
    model: FusionTransformer,
    view: View,
    seed: int = 7,
    floor: float | None = None,
    space: str = "latent",
    replacement: str = "noise",
) -> InteractionLosses:
    means = training_means(model)
    views = replaced_views(model, view, seeded(seed), replacement=replacement, means=means)
    passes = run_views(model, view, list(views.values()))
    replaced = dict(zip(views, passes.latents, strict=True))
    clean = passes.output.latents
    presence = Presence.of_replaced(view, views)
    return interaction_losses(model, clean, replaced, presence, synergy_floor=floor, space=space)


def training_means(model: FusionTransformer) -> dict[str, Tensor]:
    return {m: torch.linspace(-1, 1, width) for m, width in model.widths.items()}


def oracle_losses(
    model: FusionTransformer, batch: TokenBatch, space: str, replacement: str
) -> dict[str, Tensor]:
    """One pass per expert and modality, with what `seeded` draws."""
    oracle, masks, generator = OracleModel.of(model), masks_of(batch), seeded()
    projected = oracle.project(batch)
    if replacement == "noise":
        replaced = oracles.noise(projected, masks, generator)
    elif replacement == "zero":
        replaced = oracles.zero(projected, masks)
    elif replacement == "mean":
        means = {m: x.double() for m, x in training_means(model).items()}
        replaced = oracles.mean(oracle, projected, masks, means)
    else:
        partners = {m: derangement(batch.batch_size, generator) for m in oracle.modalities}
        replaced = oracles.swap(projected, masks, partners)
    output = oracle.fuse(projected, masks)
    return oracles.interaction_terms(oracle, projected, masks, output, replaced, space=space)


@pytest.mark.parametrize("space", ["latent", "logit"])
@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("gaps", [False, True], ids=["complete", "gaps"])
@pytest.mark.parametrize("widths", [WIDTHS, THREE, FOUR], ids=["two", "three", "four"])
def test_the_terms_are_those_of_the_definition(
    widths: dict[str, int], gaps: bool, replacement: str, space: str
) -> None:
    """And a term of a modality is a mean over the samples that have it."""
    lengths = [{m: 1 + (i + j) % 3 for j, m in enumerate(widths)} for i in range(4)]
    lengths = gappy(widths) if gaps else lengths
    model, batch = tiny_model(widths=widths), tiny_batch(lengths, widths=widths)
    found = losses(model, batch, space=space, replacement=replacement)
    expected = oracle_losses(model, batch, space, replacement)
    assert list(found) == list(model.experts) == list(expected)
    for expert, value in expected.items():
        torch.testing.assert_close(found[expert], value, rtol=0, atol=1e-6)


def test_the_total_is_the_mean_of_the_terms() -> None:
    model, batch = tiny_model(), tiny_batch()
    result = losses_of(model, View(model.project(batch), masks_of(batch)))
    expected = sum(float(term.detach()) for term in result.terms.values()) / 4
    assert float(result.total.detach()) == pytest.approx(expected)


def test_a_seed_gives_the_losses_and_the_global_generator_is_left_alone() -> None:
    model, batch = tiny_model(), tiny_batch()
    state = torch.random.get_rng_state()
    first, again, other = losses(model, batch, 1), losses(model, batch, 1), losses(model, batch, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first == again
    assert all(not torch.equal(first[expert], other[expert]) for expert in first)


@settings(max_examples=15, deadline=None)
@given(floor=st.floats(-1, 1))
def test_the_floor_lifts_the_synergy_term_only(floor: float) -> None:
    model, batch = tiny_model(), tiny_batch()
    plain, floored = losses(model, batch), losses(model, batch, floor=floor)
    assert floored["synergy"] >= max(floor, float(plain["synergy"].detach())) - 1e-12
    assert all(torch.equal(plain[e], floored[e]) for e in plain if e != "synergy")
    assert torch.equal(losses(model, batch, floor=-1.0)["synergy"], plain["synergy"])


def test_above_the_floor_is_where_the_synergy_gradient_is() -> None:
    model, batch = tiny_model(), tiny_batch()
    losses(model, batch, floor=1.0)["synergy"].backward()
    assert not any(p.grad.any() for p in model.bank.parameters())


def test_padding_stays_padding() -> None:
    """With the noise of one modality drawn first, what stands at padding changes nothing."""
    model, batch = tiny_model(), tiny_batch()
    spoilt = TokenBatch(
        {
            m: t.with_features(torch.where(t.mask[..., None], t.features, float("nan")))
            for m, t in batch.items()
        }
    )
    assert losses(model, batch) == losses(model, spoilt)
    projected, masks = model.project(batch), masks_of(batch)
    view = View(projected, masks)
    views = replaced_views(model, view, seeded())
    noisy = dict(zip(views, run_views(model, view, list(views.values())).latents, strict=True))
    row = dict(zip(WIDTHS, (2, 3), strict=True))  # lengths of the second sample
    generator = seeded()
    for m in model.modalities:
        noise = torch.randn(projected[m].shape, generator=generator).double()
        cut = {k: x[1:, : row[k]] for k, x in {**projected, m: noise}.items()}
        cut_masks = {k: masks[k][1:, : row[k]] for k in masks}
        alone = model.fuse(cut, cut_masks).latents
        torch.testing.assert_close(noisy[m][1], alone[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("expert", range(4))
def test_each_term_trains_its_own_expert_and_no_other(expert: int) -> None:
    model = tiny_model()
    losses(model, tiny_batch())[model.experts[expert]].backward()
    others = [e for e in range(4) if e != expert]
    for parameter in model.bank.parameters():
        assert not parameter.grad[others].any()
    for layer in model.bank.layers:
        assert layer.query_key_value.weight.grad[expert].any()
    assert all(p.grad is None for p in model.router.parameters())


def test_gradients_are_those_of_finite_differences() -> None:
    model, batch = tiny_model(layers=1), tiny_batch()
    spots = {
        "projection": model.projections["text"].linear.weight,
        "value": model.bank.layers[0].query_key_value.weight,
        "contract": model.bank.layers[0].contract.bias,
    }
    terms = losses(model, batch)
    total = torch.stack(list(terms.values())).mean()
    gradients = torch.autograd.grad(total, list(spots.values()))
    step = 1e-5
    for (name, weight), gradient in zip(spots.items(), gradients, strict=True):
        flat, slope = weight.data.view(-1), gradient.reshape(-1)
        for i in slope.abs().topk(3).indices.tolist():
            sides = []
            for sign in (1, -1):
                flat[i] += sign * step
                sides.append(
                    float(torch.stack(list(losses(model, batch).values())).mean().detach())
                )
                flat[i] -= sign * step
            assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(
                float(slope[i]), rel=1e-4, abs=1e-9
            ), name


def test_a_sample_without_a_modality_gives_finite_losses_and_gradients() -> None:
    model, batch = tiny_model(), tiny_batch()
    projected, masks = model.project(batch), masks_of(batch)
    masks["image"] = masks["image"].clone()
    masks["image"][0] = False
    total = losses_of(model, View(projected, masks)).total
    total.backward()
    assert torch.isfinite(total)
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.bank.parameters())


def test_a_model_without_interaction_experts_is_an_error() -> None:
    with pytest.raises(InputError, match="experts dense; expected some of unique_text"):
        losses(tiny_model("dense"), tiny_batch())


def test_the_options_default_to_the_papers() -> None:
    model, batch = tiny_model(), tiny_batch()
    assert losses(model, batch) == losses(model, batch, space="latent", replacement="noise")


@pytest.mark.parametrize(
    ("option", "name", "match"),
    [
        ("space", "logits", "logit"),
        ("replacement", "nois", "noise"),
        ("replacement", "Swap", "swap"),
    ],
)
def test_an_unknown_option_names_the_closest(option: str, name: str, match: str) -> None:
    with pytest.raises(InputError, match=f"losses.{option}: .*{name}.*did you mean '{match}'"):
        losses(tiny_model(), tiny_batch(), **{option: name})


def test_the_mean_needs_means() -> None:
    model, batch = tiny_model(), tiny_batch()
    view = View(model.project(batch), masks_of(batch))
    with pytest.raises(InputError, match=r"losses.replacement: mean without means; expected"):
        replaced_views(model, view, seeded(), replacement="mean")


@pytest.mark.parametrize("replacement", ["zero", "mean"])
def test_a_fixed_replacement_draws_nothing_and_knows_nothing_of_the_modality(
    replacement: str,
) -> None:
    model, batch, generator = tiny_model(), tiny_batch(), seeded()
    view, state = View(model.project(batch), masks_of(batch)), generator.get_state()
    other = view.replace("image", torch.randn_like(view.projected["image"]), view.masks["image"])
    options = {"replacement": replacement, "means": training_means(model)}
    found, again = (
        run_views(model, v, list(replaced_views(model, v, generator, **options).values())).latents
        for v in (view, other)
    )
    text, image = (model.modalities.index(m) for m in ("text", "image"))
    assert torch.equal(found[image], again[image])
    assert not torch.equal(found[text], again[text])
    assert torch.equal(generator.get_state(), state)


def test_one_sample_has_no_partner() -> None:
    with pytest.raises(InputError, match="within the batch: 1 sample; expected at least 2"):
        losses(tiny_model(), tiny_batch([{"text": 2, "image": 2}]), replacement="swap")

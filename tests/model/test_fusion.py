"""The whole model: the oracle on each sample alone, and the invariants of style.md."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.early import oracle_of
from oracles.model import OracleOutput, run_alone
from tiny import CLASSES, THREE, WIDTHS, alone, replace, tiny_batch, tiny_model

from fli2moe.config import ModelConfig
from fli2moe.errors import InputError
from fli2moe.model import (
    MODELS,
    FLI2MoE,
    FusionTransformer,
    MoEOutput,
    build_model,
    expert_names,
    masks_of,
)
from fli2moe.tokens import TokenBatch, Tokens

NAMES = tuple(MODELS)
LENGTHS = st.lists(
    st.fixed_dictionaries({m: st.integers(1, 5) for m in WIDTHS}), min_size=1, max_size=4
)


def fields(output: MoEOutput | OracleOutput) -> list[torch.Tensor]:
    return [output.logits, output.weights, output.expert_logits, output.latents]


def assert_same(a: MoEOutput, b: MoEOutput | OracleOutput, tolerance: float = 1e-10) -> None:
    for x, y in zip(fields(a), fields(b), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("widths", [WIDTHS, THREE], ids=["two", "three"])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_model_is_the_oracle_run_on_each_sample_alone(
    name: str, widths: dict[str, int], layers: int
) -> None:
    model, batch = tiny_model(name, widths, layers=layers), tiny_batch(widths=widths)
    assert_same(model(batch), run_alone(model, batch, oracle_of(model)))


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_names(name: str) -> None:
    model, batch = tiny_model(name, THREE), tiny_batch(widths=THREE)
    output = model(batch, attention=True)
    experts, hidden = len(model.experts), model.hidden
    assert output.logits.shape == (2, CLASSES)
    assert output.weights.shape == (2, experts)
    assert output.expert_logits.shape == (2, experts, CLASSES)
    assert output.latents.shape == (2, experts, 3 * hidden)
    maps = [] if name == "early_fusion" else [(experts, 2, 2, 12, 12)] * 2
    assert [a.shape for a in output.attention or ()] == maps
    assert [r.first.shape for r in output.routing or ()] == [(2, 4)] * 2 * (name == "sparse_moe")
    assert output.head_logits.shape == (2, 1 + experts, CLASSES)
    assert torch.equal(output.head_logits[:, 0], output.logits)
    assert torch.equal(output.head_logits[:, 1:], output.expert_logits)
    assert model.modalities == ("text", "image", "audio")
    if name == "late_fusion":
        assert model.heads == ("mixture", "only_text", "only_image", "only_audio")
        third = torch.full((2, 3), 1 / 3, dtype=torch.float64)
        assert torch.equal(output.weights, third)
    elif name != "fli2moe":
        assert model.heads == ("mixture",)
    else:
        unique = tuple(f"unique_{m}" for m in THREE)
        assert model.heads == ("mixture", *unique, "synergy", "redundancy")
        assert expert_names(model.modalities) == model.experts


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 2**16))
def test_padding_and_batch_composition_do_not_change_a_sample(
    name: str, lengths: list[dict[str, int]], seed: int
) -> None:
    model, batch = tiny_model(name), tiny_batch(lengths, seed=seed)
    together = model(batch)
    for row in range(len(lengths)):
        for one, all_ in zip(fields(model(alone(batch, row))), fields(together), strict=True):
            torch.testing.assert_close(one[0], all_[row], rtol=0, atol=1e-10)


def test_padding_does_not_change_float32_logits_either() -> None:
    model = tiny_model("fli2moe", positions="sinusoidal").float()
    lengths = [{"text": 3, "image": 2}, {"text": 40, "image": 60}]
    batch = TokenBatch(
        {m: t.with_features(t.features.float()) for m, t in tiny_batch(lengths).items()}
    )
    found = model(alone(batch, 0)).logits[0]
    torch.testing.assert_close(found, model(batch).logits[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_permuting_the_batch_permutes_the_output(name: str) -> None:
    lengths = [{"text": 1 + i, "image": 5 - i} for i in range(4)]
    model, batch, order = tiny_model(name), tiny_batch(lengths), torch.tensor([2, 0, 3, 1])
    permuted, straight = model(batch.rows(order)), model(batch)
    for x, y in zip(fields(permuted), fields(straight), strict=True):
        torch.testing.assert_close(x, y[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["sinusoidal", "learned"])
def test_the_order_of_tokens_matters_and_positions_can_be_turned_off(kind: str) -> None:
    batch = tiny_batch([{"text": 4, "image": 4}])
    text = batch["text"]
    swapped = replace(batch, text=text.with_features(text.features.flip(1)))
    model, blind = tiny_model(positions=kind), tiny_model(positions="none")
    assert (model(batch).logits - model(swapped).logits).abs().max() > 1e-3
    assert_same(blind(batch), blind(swapped))


def test_a_longer_text_moves_no_patch() -> None:
    """The follow-up's code counts positions over the padded concatenation; ours must not."""
    model, batch = tiny_model(), tiny_batch()
    expected = model(batch)
    for longer in (1, 5):
        padding = torch.nn.functional.pad(batch["text"].features, (0, 0, 0, longer))
        mask = torch.nn.functional.pad(batch["text"].mask, (0, longer))
        spans = torch.nn.functional.pad(batch["text"].spans, (0, 0, 0, longer), value=-1)
        assert_same(expected, model(replace(batch, text=Tokens(padding, mask, spans))))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_what_stands_at_padding_has_no_effect_on_output_or_gradient(value: float) -> None:
    model, batch = tiny_model().train(), tiny_batch()
    spoilt = TokenBatch(
        {
            m: t.with_features(torch.where(t.mask[..., None], t.features, value))
            for m, t in batch.items()
        }
    )
    assert_same(model(batch), model(spoilt), 0)
    gradients = []
    for tokens in (batch, spoilt):
        model.zero_grad()
        model(tokens).logits.square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for clean, other in zip(*gradients, strict=True):
        assert torch.equal(clean, other)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("missing", [["text"], ["image"], ["text", "image"]])
@pytest.mark.parametrize("attention", [False, True])
def test_a_sample_without_a_modality_has_finite_output_and_gradient(
    name: str, missing: list[str], attention: bool
) -> None:
    model, batch = tiny_model(name), tiny_batch()
    masks = masks_of(batch)
    for m in missing:
        masks[m] = masks[m].clone()
        masks[m][0] = False
    emptied = TokenBatch({m: Tokens(t.features, masks[m], t.spans) for m, t in batch.items()})
    output = model(emptied, attention=attention)
    assert all(bool(torch.isfinite(x).all()) for x in fields(output))
    torch.testing.assert_close(output.logits[1], model(batch).logits[1], rtol=0, atol=1e-10)
    output.logits.square().sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_asking_for_attention_maps_does_not_change_the_output(
    name: str, dtype: torch.dtype
) -> None:
    model, batch = tiny_model(name).to(dtype), tiny_batch(seed=3)
    batch = TokenBatch({m: t.with_features(t.features.to(dtype)) for m, t in batch.items()})
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert_same(model(batch), model(batch, attention=True), tolerance)
    assert model(batch).attention is None


@pytest.mark.parametrize("name", NAMES)
def test_without_dropout_training_and_evaluation_mean_the_same(name: str) -> None:
    room = {"sparse": {"capacity_factor": None}}  # which is limited in training only
    model, batch = tiny_model(name, **room), tiny_batch()
    assert_same(model(batch), model.train()(batch), 0)


def test_each_dropout_acts_in_training_only() -> None:
    batch = tiny_batch()
    router = {"hidden": 32, "dropout": 0.5}  # so many that some are at work
    for option in (
        {"dropout": 0.5},
        {"attention_dropout": 0.5},
        {"input_dropout": 0.5},
        {"router": router},
    ):
        model = tiny_model(**option)
        assert_same(model(batch), model(batch), 0)
        model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            assert not torch.equal(model(batch).logits, model(batch).logits), option


def test_the_order_of_the_batch_s_modalities_does_not_matter() -> None:
    model, batch = tiny_model(), tiny_batch()
    assert_same(
        model(batch), model(TokenBatch({m: batch[m] for m in reversed(model.modalities)})), 0
    )


def test_experts_are_no_copies_of_each_other() -> None:
    config = ModelConfig(hidden=8, heads=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(config, WIDTHS, CLASSES)
    for name, weight in [*model.bank.named_parameters(), *model.classifier.named_parameters()]:
        if weight.ndim == 3:
            for a, b in torch.combinations(torch.arange(len(model.experts))).tolist():
                assert not torch.allclose(weight[a], weight[b]), name


def test_an_expert_has_its_own_parameters() -> None:
    """The gradient of one expert's logits reaches that expert's slice of each weight only."""
    model = tiny_model()
    model(tiny_batch()).expert_logits[:, 1].sum().backward()
    for name, parameter in [*model.bank.named_parameters(), *model.classifier.named_parameters()]:
        assert not parameter.grad[[0, 2, 3]].any(), name
        assert parameter.grad[1].any(), name


def test_statistics_standardise_and_travel_with_the_state() -> None:
    model, batch = tiny_model(), tiny_batch()
    mean, deviation = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 2.0, 4.0])
    scaled = batch["image"].with_features(batch["image"].features * deviation + mean)
    plainly = model(batch)
    model.standardise("image", mean, deviation)
    assert_same(model(replace(batch, image=scaled)), plainly)
    other = tiny_model(seed=1)
    other.load_state_dict(model.state_dict())
    assert_same(other(replace(batch, image=scaled)), plainly)


def test_a_constant_channel_is_not_blown_up() -> None:
    model, batch = tiny_model(), tiny_batch()
    model.standardise("image", torch.zeros(3), torch.tensor([1.0, 0.0, 1e-9]))
    assert_same(model(batch), tiny_model()(batch), 0)


@pytest.mark.parametrize("name", NAMES)
def test_one_modality_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match=r"one modality \(text\); expected at least two"):
        tiny_model(name, {"text": 5})


def test_heads_must_divide_the_width() -> None:
    config = ModelConfig.model_construct(**{**ModelConfig().model_dump(), "hidden": 9})
    config = config.model_copy(update={"router": ModelConfig().router})
    with pytest.raises(InputError, match=r"4 heads; expected a divisor of the width 9.*1, 3, 9"):
        FLI2MoE(WIDTHS, CLASSES, config)


def test_several_experts_need_a_router() -> None:
    with pytest.raises(InputError, match="2 experts and no router"):
        FusionTransformer(WIDTHS, CLASSES, ("a", "b"), ModelConfig(hidden=8))


@pytest.mark.parametrize("name", ["type", "get", "training", "a.b", ""])
def test_a_modality_that_torch_cannot_name_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match="rename it"):
        tiny_model(widths={"text": 5, name: 3})


def test_an_input_of_other_modalities_or_widths_is_an_error() -> None:
    model, batch = tiny_model(), tiny_batch(widths=THREE)
    with pytest.raises(InputError, match=r"modalities \['audio', 'image', 'text'\]; expected"):
        model(batch)
    with pytest.raises(InputError, match="modality image: features of width 4; expected 3"):
        model(tiny_batch(widths={"text": 5, "image": 4}))


def test_too_many_tokens_for_learned_positions_is_an_error() -> None:
    lengths = [{"text": 4, "image": 6}]
    with pytest.raises(InputError, match=r"image: 6 tokens; expected at most 5; .*max_positions"):
        tiny_model(max_positions=5)(tiny_batch(lengths))
    assert tiny_model(max_positions=6)(tiny_batch(lengths)).logits.shape == (1, CLASSES)


def test_an_unknown_model_names_the_closest() -> None:
    config = ModelConfig().model_copy(update={"name": "fli2mo"})
    with pytest.raises(InputError, match="did you mean 'fli2moe'"):
        build_model(config, WIDTHS, CLASSES)

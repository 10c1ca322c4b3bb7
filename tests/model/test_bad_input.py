"""What cannot be used: an error with what was found, expected, and a remedy; never a NaN."""

from __future__ import annotations

import pytest
import torch
from tiny import CLASSES, THREE, WIDTHS, replace, tiny_batch, tiny_model

from fli2moe.config import Config, ModelConfig
from fli2moe.errors import InputError
from fli2moe.explain.attribution import METHODS, attribute
from fli2moe.model import build_model
from fli2moe.model.inputs import check_finite
from fli2moe.tokens import TokenBatch, Tokens

NAMES = ("fli2moe", "dense")


def absent(tokens: Tokens, rows: slice = slice(None)) -> Tokens:
    mask = tokens.mask.clone()
    mask[rows] = False
    return Tokens(tokens.features, mask, tokens.spans)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_feature_that_is_no_number_is_an_error_with_its_place(
    value: float, dtype: torch.dtype
) -> None:
    model, batch = tiny_model().to(dtype), tiny_batch()
    features = {m: t.features.to(dtype) for m, t in batch.items()}
    features["image"][1, 2, 0] = value
    spoilt = TokenBatch({m: t.with_features(features[m]) for m, t in batch.items()})
    message = (
        r"modality image: a NaN or infinite feature at sample 1, token 2; expected finite features "
        r"at real tokens; run the encoder in float32 or bfloat16, or mask the token out"
    )
    with pytest.raises(InputError, match=message):
        model(spoilt)
    for method in ("attention_gradient", "gradient_x_input"):
        with pytest.raises(InputError, match=message):
            attribute(model, spoilt, torch.eye(CLASSES)[:2], method)


def test_finite_features_whose_sum_is_not_are_no_error() -> None:
    features = torch.full((2, 3, 4), torch.finfo(torch.float32).max)
    assert not torch.isfinite(features.sum())
    check_finite("text", features)
    features[1, 0, 3] = torch.inf
    with pytest.raises(InputError, match="sample 1, token 0"):
        check_finite("text", features)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize(
    ("missing", "empty"),
    [(["text"], False), (["image"], False), (["text", "image"], False), (["text"], True)],
    ids=["text", "image", "both", "text, no token"],
)
def test_a_whole_batch_without_a_modality_has_finite_output_and_gradient(
    name: str, missing: list[str], empty: bool, isolated: bool
) -> None:
    """Masked out, or T = 0 of one. Without any modality the classifiers' biases speak."""
    model, batch = tiny_model(name, isolated=isolated), tiny_batch()
    gone = {
        m: Tokens(t.features[:, :0], t.mask[:, :0], t.spans[:, :0]) if empty else absent(t)
        for m, t in batch.items()
        if m in missing
    }
    output = model(replace(batch, **gone))
    output.logits.square().sum().backward()
    for x in (output.logits, output.weights, output.expert_logits, output.latents):
        assert bool(torch.isfinite(x).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    if len(missing) == 2:
        assert not output.latents.any()
        bias = model.classifier.bias[None].expand_as(output.expert_logits)
        torch.testing.assert_close(output.expert_logits, bias)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("missing", [["image"], ["text", "image"]])
def test_attribution_of_what_is_not_there_is_nothing(method: str, missing: list[str]) -> None:
    model, batch = tiny_model(), tiny_batch()
    emptied = replace(batch, **{m: absent(batch[m], slice(0, 1)) for m in missing})
    scores = attribute(model, emptied, torch.eye(CLASSES)[:2].double(), method).scores
    for of_head in scores.values():
        for m, values in of_head.items():
            assert bool(torch.isfinite(values).all())
            assert bool(values[0].any()) == (m not in missing)
            assert values[1].any()


def test_no_sample_and_no_room_for_a_token_are_errors() -> None:
    with pytest.raises(InputError, match="no sample; expected at least one; leave"):
        tiny_model()(tiny_batch().rows(slice(0, 0)))
    empty = {
        m: Tokens(t.features[:, :0], t.mask[:, :0], t.spans[:, :0]) for m, t in tiny_batch().items()
    }
    with pytest.raises(InputError, match=r"T = 0 in every modality; expected room.*masked out"):
        tiny_model()(TokenBatch(empty))


def test_shapes_that_do_not_fit() -> None:
    model, batch = tiny_model(), tiny_batch()
    x, mask, spans = batch["text"].features, batch["text"].mask, batch["text"].spans
    with pytest.raises(InputError, match=r"features of shape \(2, 4\); expected \(B, T, D\); add"):
        Tokens(x[..., 0], mask, spans)
    with pytest.raises(InputError, match=r"mask of shape \(2, 3\).*expected bool \(2, 4\)"):
        Tokens(x, mask[:, 1:], spans)
    with pytest.raises(InputError, match=r"batch sizes.*'text': 1.*the same for every modality"):
        replace(batch, text=batch["text"][:1])
    with pytest.raises(InputError, match=r"features of width 4; expected 5; encode with"):
        model(replace(batch, text=Tokens(x[..., :4], mask, spans)))
    with pytest.raises(InputError, match=r"modalities \['audio', 'image', 'text'\]; expected"):
        model(tiny_batch(widths=THREE))


def test_one_modality_and_heads_that_do_not_divide() -> None:
    with pytest.raises(
        InputError, match=r"one modality.*at least two: interactions need a partner"
    ):
        build_model(ModelConfig(), {"text": 5}, CLASSES)
    data = {"path": "-", "modalities": {m: {"encoder": "vector"} for m in WIDTHS}}
    with pytest.raises(InputError, match=r"model.heads: 3; expected a divisor of model.hidden"):
        Config.from_dict({"data": data, "model": {"hidden": 256, "heads": 3}})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"isolatd": True}, "did you mean 'isolated'"),
        ({"expert": ["synergy"]}, "did you mean 'experts'"),
        ({"router": {"kinds": "uniform"}}, "did you mean 'kind'"),
        ({"pooling": "atention"}, "did you mean 'attention'"),
    ],
)
def test_an_unknown_option_names_the_closest(section: dict[str, object], message: str) -> None:
    data = {"path": "-", "modalities": {m: {"encoder": "vector"} for m in WIDTHS}}
    with pytest.raises(InputError, match=message):
        Config.from_dict({"data": data, "model": section})

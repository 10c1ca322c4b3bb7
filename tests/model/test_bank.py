"""The expert bank against PyTorch's own layers, and its attention maps."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_batch, tiny_model
from torch import nn

from fli2moe.model import masks_of, parameter_count
from fli2moe.model.bank import ExpertBank


@pytest.fixture
def bank() -> ExpertBank:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = ExpertBank(
            experts=3,
            width=8,
            layers=2,
            heads=4,
            feed_forward=10,
            dropout=0.0,
            attention_dropout=0.0,
        )
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.5)
    return made.double().eval()


def torch_layer(bank: ExpertBank, number: int, e: int) -> nn.TransformerEncoderLayer:
    """PyTorch's pre-norm layer with the weights of one expert."""
    ours = bank.layers[number]
    theirs = nn.TransformerEncoderLayer(
        8, 4, 10, dropout=0.0, activation="gelu", norm_first=True, batch_first=True
    )
    pairs = {
        "self_attn.in_proj_": ours.query_key_value,
        "self_attn.out_proj.": ours.output,
        "linear1.": ours.expand,
        "linear2.": ours.contract,
        "norm1.": ours.norm_attention,
        "norm2.": ours.norm_feed_forward,
    }
    theirs.load_state_dict(
        {f"{n}{k}": getattr(layer, k)[e] for n, layer in pairs.items() for k in ("weight", "bias")}
    )
    return theirs.double().train()  # train: without PyTorch's fast path, which pads anew


def test_each_expert_is_a_pytorch_pre_norm_transformer(bank: ExpertBank) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 5, 8, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    hidden = bank(x, mask).hidden
    for e in range(3):
        y = x
        for number in range(2):
            y = torch_layer(bank, number, e)(y, src_key_padding_mask=~mask)
        y = nn.functional.layer_norm(y, (8,), bank.norm.weight[e], bank.norm.bias[e])
        torch.testing.assert_close(hidden[e][mask], y[mask], rtol=0, atol=1e-10)


def test_attention_rows_sum_to_one_over_real_tokens_and_are_zero_on_padding() -> None:
    model, batch = tiny_model(), tiny_batch()
    mask = torch.cat(list(masks_of(batch).values()), dim=1)  # (B, T)
    for attention in model(batch, attention=True).attention or ():
        real = attention.sum(-1).movedim(1, 0)  # (B, E, heads, T)
        torch.testing.assert_close(real, torch.ones_like(real))
        at_padding = attention.movedim(1, 0).movedim(-1, 1)[~mask]  # keys that are padding
        assert at_padding.numel()
        assert not at_padding.any()


def test_a_sample_without_tokens_attends_to_nothing(bank: ExpertBank) -> None:
    x, mask = torch.ones(1, 3, 8, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.bool)
    output = bank(x, mask, attention=True)
    assert not any(attention.any() for attention in output.attention or (x,))
    torch.testing.assert_close(bank(x, mask).hidden, output.hidden)


def test_the_maps_that_are_handed_out_are_the_ones_that_are_used(bank: ExpertBank) -> None:
    x = torch.randn(2, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    output = bank(x, torch.ones(2, 3, dtype=torch.bool), attention=True)
    gradients = torch.autograd.grad(output.hidden.square().sum(), output.attention)
    assert all(bool(gradient.flatten(2).any(-1).all()) for gradient in gradients)


def test_parameters_are_counted() -> None:
    layer = 2 * 2 * 8 + 8 * 24 + 24 + 8 * 8 + 8 + 2 * 8 * 16 + 16 + 8
    projections, positions = (5 + 1) * 8 + (3 + 1) * 8, 2 * 8
    expected = layer + 2 * 8 + 3 * (2 * 8) + 3 + projections + positions
    assert parameter_count(tiny_model("dense", layers=1, positions="none")) == expected

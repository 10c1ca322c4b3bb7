"""The expert bank against PyTorch's own layers, and its attention maps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny import tiny_batch, tiny_model
from torch import Tensor, nn

from fli2moe.model import masks_of, parameter_count, passes
from fli2moe.model.bank import ExpertBank
from fli2moe.model.passes import BankOutput, Pass, run_experts

T = 5


@pytest.fixture(params=["one by one", "all at once"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of running the experts on a CPU."""
    monkeypatch.setattr(passes, "ALONE", 0 if request.param == "one by one" else 10**9)
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["norm", "no norm"])
def bank(request: pytest.FixtureRequest, way: str) -> ExpertBank:
    """Each of T tokens is a modality of its own, so that the latents are the hidden states."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = ExpertBank(
            experts=3,
            modalities=T,
            width=8,
            layers=2,
            heads=4,
            feed_forward=10,
            dropout=0.0,
            attention_dropout=0.0,
            final_norm=request.param,
        )
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.5)
    return made.double().eval()


def hidden(bank: ExpertBank, x: Tensor, mask: Tensor, *, trace: str = "") -> BankOutput:
    """One pass over x (B, T, H); the latents are (E, B, T * H)."""
    return run_experts(bank, x, [Pass(mask, torch.arange(T))], trace=trace)[0]


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
    x = torch.randn(2, T, 8, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[True] * T, [True] * 3 + [False] * 2])
    states = hidden(bank, x, mask).latents.unflatten(-1, (T, 8))
    for e in range(3):
        y = x
        for number in range(2):
            y = torch_layer(bank, number, e)(y, src_key_padding_mask=~mask)
        if bank.norm is not None:
            y = nn.functional.layer_norm(y, (8,), bank.norm.weight[e], bank.norm.bias[e])
        torch.testing.assert_close(states[e][mask], y[mask], rtol=0, atol=1e-10)
        assert not states[e][~mask].any()


@pytest.mark.parametrize("trace", ["map", ""])
def test_passes_of_shared_tokens_are_passes_one_by_one(bank: ExpertBank, trace: str) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, T, 8, generator=generator, dtype=torch.float64)
    masks = [torch.ones(2, T, dtype=torch.bool), torch.tensor([[True] * 4 + [False]] * 2)]
    passes = [Pass(mask, torch.arange(T)) for mask in masks]
    order = torch.tensor([4, 2, 0, 1, 3])
    both = (bank, x, passes, lambda t: (t, t[:, :, order]))
    together = run_experts(*both, trace=trace)
    for one, tokens, mask in zip(together, (x, x[:, order]), masks, strict=True):
        alone = hidden(bank, tokens, mask, trace=trace)
        torch.testing.assert_close(one.latents, alone.latents, rtol=0, atol=1e-12)
        for maps, expected in zip(one.traces, alone.traces, strict=True):
            torch.testing.assert_close(maps, expected, rtol=0, atol=1e-12)


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
    x, mask = torch.ones(1, T, 8, dtype=torch.float64), torch.zeros(1, T, dtype=torch.bool)
    output = hidden(bank, x, mask, trace="map")
    maps = [attention for group in output.traces for attention in group]
    assert len(maps)
    assert not any(attention.any() for attention in maps)
    assert not output.latents.any()
    torch.testing.assert_close(hidden(bank, x, mask).latents, output.latents)


def test_the_maps_that_are_handed_out_are_the_ones_that_are_used(bank: ExpertBank) -> None:
    x = torch.randn(2, T, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    output = hidden(bank, x, torch.ones(2, T, dtype=torch.bool), trace="map")
    maps = [attention for group in output.traces for attention in group]
    assert sum(len(attention) for attention in maps) == 3 * 2  # experts x layers
    gradients = torch.autograd.grad(output.latents.square().sum(), maps)
    assert all(bool(gradient.flatten(2).any(-1).all()) for gradient in gradients)


def test_threads_may_share_a_model() -> None:
    """Experts run one by one have their weights put into the bank, one thread at a time."""
    model = tiny_model(positions="sinusoidal")
    batches = [tiny_batch([{"text": n, "image": 40}] * 2, seed=n) for n in (1, 30, 2, 40)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "ALONE", 2 * 60 * 8)  # the longer two one by one
        expected = [model(b).logits.detach() for b in batches]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda n: model(batches[n % 4]).logits.detach(), range(80)))
    for n, logits in enumerate(found):
        assert torch.equal(logits, expected[n % 4])


def test_parameters_are_counted() -> None:
    layer = 2 * 2 * 8 + 8 * 24 + 24 + 8 * 8 + 8 + 2 * 8 * 16 + 16 + 8
    projections, positions = (5 + 1) * 8 + (3 + 1) * 8, 2 * 8
    expected = layer + 2 * 8 + 3 * (2 * 8) + 3 + projections + positions
    assert (
        parameter_count(tiny_model("dense", layers=1, positions="none", final_norm=True))
        == expected
    )

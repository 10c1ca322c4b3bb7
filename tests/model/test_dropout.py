"""Dropout from random bits: its law, its mean, its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fli2moe.model.attention import attend
from fli2moe.model.dropout import (
    add_dropped,
    dropout,
    keep_probability,
    random_bits,
    random_mask,
)

PROBABILITIES = (0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 0.999)


@pytest.fixture(autouse=True)
def _seeded() -> object:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("probability", PROBABILITIES)
def test_the_probability_is_right_to_a_65536th(probability: float) -> None:
    assert abs(keep_probability(probability) - (1 - probability)) <= 2**-17
    size = 2**20
    kept = float((random_mask((size,), probability).values > 0).double().mean())
    keep = keep_probability(probability)
    assert abs(kept - keep) < 4.5 * math.sqrt(keep * (1 - keep) / size)


@pytest.mark.parametrize("keep", [0.5, 0.3, 40000 / 65536])
def test_bits_are_independent_of_their_neighbours(keep: float) -> None:
    """Neighbours in a word, and in the masks made of it."""
    size = 2**18
    bits = random_mask((size,), 1 - keep).values.bool().double()
    for distance in (1, 2, 7, 8, size // 8, size // 8 + 1, size // 2):
        together = float((bits[distance:] * bits[:-distance]).mean())
        error = 4.5 * math.sqrt(keep**2 * (1 - keep**2) * 3 / (size - distance))
        assert abs(together - keep_probability(1 - keep) ** 2) < error, distance


def test_a_mask_of_all_and_words_of_any_length() -> None:
    assert random_bits(65, 1.0).tolist() == [-1, -1]
    for count in (1, 63, 64, 65, 1000):
        assert random_mask((count,), 0.5).values.shape == (count,)


@pytest.mark.parametrize("probability", PROBABILITIES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(
    probability: float, dtype: torch.dtype
) -> None:
    x = torch.full((7, 11), 3.0, dtype=dtype)
    found = dropout(x, probability, training=True)
    scaled = torch.tensor(3 / keep_probability(probability), dtype=dtype)
    kept = found[found != 0]
    torch.testing.assert_close(kept, scaled.expand_as(kept), rtol=0.01, atol=0)
    if dtype == torch.float64:
        torch.testing.assert_close(kept, scaled.expand_as(kept), rtol=1e-12, atol=0)


@pytest.mark.parametrize("probability", [0.3, 0.5])
def test_the_gradient_goes_where_the_value_went(probability: float) -> None:
    x = torch.randn(50, 40, dtype=torch.float64, requires_grad=True)
    y = torch.randn(50, 40, dtype=torch.float64, requires_grad=True)
    dropped = dropout(y, probability, training=True)
    (gradient,) = torch.autograd.grad(dropped.sum(), y)
    torch.testing.assert_close(gradient * y, dropped)
    total = add_dropped(x, y, probability, training=True)
    into_x, into_y = torch.autograd.grad(total.sum(), (x, y))
    assert torch.equal(into_x, torch.ones_like(x))
    torch.testing.assert_close(x + into_y * y, total)


def test_without_training_or_probability_nothing_is_done() -> None:
    x = torch.randn(3, 4)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x
    assert torch.equal(add_dropped(x, x, 0.5, training=False), 2 * x)


def test_the_seed_decides() -> None:
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return dropout(torch.ones(1000), 0.3, training=True)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("probability", [0.3, 0.5])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_with_dropout_has_the_gradient_of_its_map(
    probability: float, padded: bool
) -> None:
    """The mask is read off the values themselves: with V = 1 they are sums of the dropped map."""
    tokens, heads = 5, 2
    qkv = torch.randn(1, 3, tokens, 3 * 8, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 3, tokens, dtype=torch.bool)
    if padded:
        mask[0, 1, 3:] = False
        mask[0, 2] = False  # a sequence without any key

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(7)  # the same mask each time
        return attend(x, mask, heads, dropout=probability).values

    assert torch.autograd.gradcheck(run, (qkv,), eps=1e-6, atol=1e-7)
    if padded:
        assert not run(qkv)[0, 2].any()


def test_attention_with_dropout_is_attention_in_the_mean() -> None:
    qkv = torch.randn(1, 1, 6, 3 * 4, dtype=torch.float64)
    mask = torch.ones(1, 1, 6, dtype=torch.bool)
    draws = torch.stack([attend(qkv, mask, 2, dropout=0.3).values for _ in range(4000)])
    error = draws.std(0) / math.sqrt(len(draws))
    expected = attend(qkv, mask, 2).values
    assert bool(((draws.mean(0) - expected).abs() < 4.5 * error).all())

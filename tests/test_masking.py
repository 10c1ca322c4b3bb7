"""Random baseline masking in training."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import WIDTHS, tiny_batch

from fli2moe.masking import mask_at_random
from fli2moe.tokens import TokenBatch

MEANS = {m: torch.full((width,), 100.0) for m, width in WIDTHS.items()}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hidden(batch: TokenBatch, share: float, seed: int = 0) -> dict[str, torch.Tensor]:
    """{modality: (B, T) bool: replaced by the mean}."""
    masked = mask_at_random(batch, MEANS, share, seeded(seed))
    return {m: (t.features == 100).all(-1) for m, t in masked.items()}


def test_share_0_changes_nothing() -> None:
    batch = tiny_batch()
    masked = mask_at_random(batch, MEANS, 0.0, seeded())
    for m, tokens in masked.items():
        assert torch.equal(tokens.features, batch[m].features)
        assert tokens.mask is batch[m].mask
        assert tokens.spans is batch[m].spans


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 2**16))
def test_only_content_is_hidden_and_the_rest_is_untouched(share: float, seed: int) -> None:
    batch = tiny_batch(structural=True)
    masked = mask_at_random(batch, MEANS, share, seeded(seed))
    for m, tokens in masked.items():
        gone = (tokens.features == 100).all(-1)
        assert not (gone & ~batch[m].content).any()
        assert torch.equal(tokens.features[~gone], batch[m].features[~gone])


def test_share_1_hides_a_uniform_part_of_every_sample() -> None:
    """The kept share q is uniform on [0, 1]: mean 1/2, variance 1/12, and per sample."""
    batch = tiny_batch([dict.fromkeys(WIDTHS, 60)] * 2000)
    both = hidden(batch, 1.0)
    part = torch.cat(list(both.values()), dim=1).double().mean(1)  # (B,) over 120 tokens
    assert float(part.mean()) == pytest.approx(1 / 2, abs=4 * (1 / 12 / 2000) ** 0.5)
    # variance of a binomial share whose rate is uniform: 1/12 + E[q(1-q)]/120
    assert float(part.var()) == pytest.approx(1 / 12 + 1 / 6 / 120, rel=0.08)
    ordered, _ = part.sort()
    uniform = (torch.arange(2000) + 0.5) / 2000
    assert float((ordered - uniform).abs().max()) < 0.05  # Kolmogorov-Smirnov at about 1e-4
    parts = torch.stack([gone.double().mean(1) for gone in both.values()])
    assert float(torch.corrcoef(parts)[0, 1]) > 0.9  # one q per sample, for both modalities


def test_the_share_is_of_the_samples() -> None:
    batch = tiny_batch([dict.fromkeys(WIDTHS, 30)] * 2000)
    touched = torch.cat(list(hidden(batch, 0.3).values()), dim=1).any(1).double()
    # a chosen sample of 60 tokens stays whole with probability 1/61
    assert float(touched.mean()) == pytest.approx(0.3 * 60 / 61, abs=4 * (0.21 / 2000) ** 0.5)


def test_a_generator_gives_the_masks_and_the_global_one_is_left_alone() -> None:
    batch, state = tiny_batch([dict.fromkeys(WIDTHS, 9)] * 9), torch.random.get_rng_state()
    first, again, other = hidden(batch, 0.5, 1), hidden(batch, 0.5, 1), hidden(batch, 0.5, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[m], again[m]) for m in first)
    assert any(not torch.equal(first[m], other[m]) for m in first)

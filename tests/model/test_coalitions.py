"""Coalitions of one sample are the batch that they stand for, written out token by token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import THREE, tiny_batch, tiny_model
from torch import Tensor

from fli2moe.model import MoEOutput, TwoStates, coalitions, passes
from fli2moe.model.coalitions import choose

LENGTHS = {"text": 4, "image": 5, "audio": 2}
LOGITS = ("logits", "weights", "expert_logits", "latents")


def states_and_coalitions(
    model: torch.nn.Module, *, drop: bool, seed: int = 0
) -> tuple[TwoStates, dict[str, Tensor]]:
    """A sample with padding, and 9 coalitions: all, none, and at random."""
    batch = tiny_batch([LENGTHS, dict.fromkeys(LENGTHS, 6)], widths=THREE).rows(slice(0, 1))
    generator = torch.Generator().manual_seed(seed)
    present = model.project(batch)
    absent = {m: torch.randn(1, 1, 8, generator=generator).double() for m in THREE}
    masks = {m: batch[m].mask for m in THREE}
    kept = {m: torch.rand(9, 6, generator=generator) < 0.5 for m in THREE}
    for x in kept.values():
        x[0], x[1] = True, False
    return TwoStates(present, None if drop else absent, masks), kept


def assert_same(found: MoEOutput, expected: MoEOutput) -> None:
    for name in LOGITS:
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=0, atol=1e-11
        )


@pytest.mark.parametrize("alone_from", [0, 10**9], ids=["one by one", "all at once"])
@pytest.mark.parametrize("at_once", [1, 40, 10**6])
@pytest.mark.parametrize("drop", [True, False], ids=["drop", "baseline"])
@pytest.mark.parametrize("final_norm", [True, False])
def test_they_are_the_batch_written_out(
    monkeypatch: pytest.MonkeyPatch, alone_from: int, at_once: int, drop: bool, final_norm: bool
) -> None:
    monkeypatch.setattr(passes, "ALONE", alone_from)
    monkeypatch.setattr(coalitions, "AT_ONCE", at_once)
    model = tiny_model(widths=THREE, final_norm=final_norm)
    states, kept = states_and_coalitions(model, drop=drop)
    view = states.view(kept)
    assert_same(model.under(states, kept), model.fuse(view.projected, view.masks))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_every_coalition_is_chosen_once_and_in_its_order(seed: int, at_once: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(7, 10, generator=generator) < torch.rand(7, 1, generator=generator)
    mask = torch.rand(10, generator=generator) < 0.8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coalitions, "AT_ONCE", at_once)
        groups = list(choose(kept, mask, torch.arange(10) // 4, drop=True, device=mask.device))
    assert sorted(torch.cat([g.rows for g in groups]).tolist()) == list(range(7))
    for group in groups:
        for row, index, there, owner in zip(
            group.rows.tolist(), group.index, group.one.mask, group.one.owner, strict=True
        ):
            expected = (kept[row] & mask).nonzero()[:, 0]
            assert index[there].tolist() == expected.tolist()
            assert owner[there].tolist() == (expected // 4).tolist()

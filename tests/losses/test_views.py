"""Views of a batch: partners without fixed points, masks that travel, modalities taken away."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_batch, tiny_model

from fli2moe.errors import InputError
from fli2moe.losses import View, derangement, only, run_views, swapped
from fli2moe.losses.views import expert_logits
from fli2moe.model import masks_of, shares_rows


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=50, deadline=None)
@given(size=st.integers(2, 40), seed=st.integers(0, 1000))
def test_a_derangement_moves_every_sample_and_follows_its_seed(size: int, seed: int) -> None:
    state = torch.random.get_rng_state()
    order = derangement(size, seeded(seed))
    assert sorted(order.tolist()) == list(range(size))
    assert all(partner != row for row, partner in enumerate(order.tolist()))
    assert torch.equal(order, derangement(size, seeded(seed)))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_derangement_is_equally_likely() -> None:
    generator = seeded()
    counts = Counter(tuple(derangement(4, generator).tolist()) for _ in range(1800))
    assert len(counts) == 9  # !4
    assert min(counts.values()) > 150
    assert max(counts.values()) < 250  # 200 expected, sd 13


@pytest.mark.parametrize("size", [0, 1])
def test_too_few_to_swap(size: int) -> None:
    with pytest.raises(
        InputError, match=rf"within the batch: {size} samples?; expected at least 2"
    ):
        derangement(size, seeded())


def view_of(lengths: list[dict[str, int]] | None = None) -> View:
    model, batch = tiny_model(), tiny_batch(lengths)
    return View(model.project(batch), masks_of(batch))


def test_a_swap_takes_tokens_and_mask_of_the_partner() -> None:
    view = view_of([{"text": 3, "image": 2}, {"text": 1, "image": 0}, {"text": 2, "image": 1}])
    partners = torch.tensor([1, 2, 0])
    found = swapped(view, ["image"], partners)
    for row, partner in enumerate(partners.tolist()):
        assert torch.equal(found.projected["image"][row], view.projected["image"][partner])
        assert torch.equal(found.masks["image"][row], view.masks["image"][partner])
    assert found.projected["text"] is view.projected["text"]
    assert found.masks["text"] is view.masks["text"]
    assert found.present["image"].tolist() == [False, True, True]
    assert view.present["image"].tolist() == [True, False, True]  # the view itself is unchanged


def test_swapping_everything_permutes_the_latents() -> None:
    model, view = tiny_model(), view_of()
    others = [swapped(view, model.modalities, torch.tensor([1, 0]))]
    passes = run_views(model, view, others)
    expected = passes.output.latents.flip(0)
    torch.testing.assert_close(passes.latents[0], expected, rtol=0, atol=1e-12)


def test_what_is_absent_does_not_matter() -> None:
    model, view = tiny_model(), view_of()
    other = view.replace("image", 5 + view.projected["image"], view.masks["image"])
    alone, again = run_views(model, view, [only(view, "text"), only(other, "text")]).latents
    assert torch.equal(alone, again)
    assert only(view, "text").present["image"].tolist() == [False, False]
    assert only(view, "text").present["text"].tolist() == [True, True]


def test_views_run_as_one_batch_as_they_would_alone() -> None:
    model, view = tiny_model(), view_of()
    clean = model.fuse(view.projected, view.masks)
    views = [view[:1], only(view, "image")[:1], swapped(view, ["text"], torch.tensor([1, 0]))[:1]]
    passes = run_views(model, view, views)
    torch.testing.assert_close(passes.output.logits, clean.logits, rtol=0, atol=1e-12)
    assert len(passes.latents) == len(views)
    for found, each in zip(passes.latents, views, strict=True):
        alone = model.fuse(each.projected, each.masks)
        torch.testing.assert_close(found, alone.latents, rtol=0, atol=1e-12)
        logits = expert_logits(model, found)
        torch.testing.assert_close(logits, alone.expert_logits, rtol=0, atol=1e-12)


def test_what_a_view_shares_with_the_batch_is_recognised() -> None:
    view = view_of()
    other = swapped(view[:1], ["text"], torch.tensor([0]))
    assert shares_rows(other.projected["image"], view.projected["image"])
    assert shares_rows(other.masks["image"], view.masks["image"])
    assert not shares_rows(other.projected["text"], view.projected["text"])
    assert not shares_rows(view.projected["image"][1:], view.projected["image"])
    assert not shares_rows(view.projected["image"][:, :1], view.projected["image"])

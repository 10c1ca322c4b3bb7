"""Missing modalities: a term is about those who have it, and says 0 where nobody does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import THREE, WIDTHS, tiny_batch, tiny_model
from torch import Tensor

from fli2moe.config import LossConfig, ModelConfig
from fli2moe.losses import Objective, Presence, Step, Supervision, View, run_views
from fli2moe.model import FLI2MoE, masks_of
from fli2moe.task import Task
from fli2moe.tokens import TokenBatch

TASK = Task("multiclass", ("a", "b", "c"))
VARIANTS = ("paper", "swap", "predictive", "residual")
BOTH, TEXT, IMAGE = {"text": 3, "image": 2}, {"text": 3, "image": 0}, {"text": 0, "image": 2}


def terms_of(batch: TokenBatch, model: Any = None, **options: Any) -> dict[str, Tensor]:
    """The interaction terms of a batch, with their graph."""
    model = model or tiny_model(widths={m: t.width for m, t in batch.items()})
    target = torch.arange(batch.batch_size) % 3
    means = {m: torch.zeros(t.width) for m, t in batch.items()}
    objective = Objective(LossConfig.model_validate(options), model, TASK, target, means)
    view = View(model.project(batch), masks_of(batch))
    others = objective.views(model, view, torch.Generator().manual_seed(0))
    passes, presence = run_views(model, view, others), objective.presence(view, others)
    supervision = Supervision(TASK, target, TASK.losses)
    step = Step(view, passes, supervision, torch.arange(len(view)), 0, presence)
    return dict(objective._interaction(model, step).terms)


def test_the_mean_is_over_the_pairs_that_are_there() -> None:
    here = {"a": torch.tensor([True, True, False]), "b": torch.tensor([True, False, True])}
    x, y = torch.tensor([1.0, 2.0, 40.0]), torch.tensor([8.0, 500.0, 16.0])
    presence = Presence(here, here)
    assert float(presence.mean({("a",): x})) == 1.5
    assert float(presence.mean({("a",): x, ("b",): y})) == (1 + 2 + 8 + 16) / 4
    assert float(presence.mean({("a", "b"): x})) == 1
    assert float(presence.mean({(): x})) == pytest.approx(43 / 3)
    assert presence.all().tolist() == [True, False, False]


@settings(max_examples=30, deadline=None)
@given(data=st.data(), size=st.integers(1, 6))
def test_the_means_of_parts_add_up_to_the_whole(data: st.DataObject, size: int) -> None:
    flags = st.lists(st.booleans(), min_size=size, max_size=size)
    here = {m: torch.tensor(data.draw(flags)) for m in "ab"}
    values = {group: torch.randn(size).double() for group in ((), ("a",), ("a", "b"))}
    whole = Presence(here, here)
    order = torch.tensor(data.draw(st.permutations(range(size))))
    cut = data.draw(st.integers(0, size))
    parts = [
        whole.rows(rows).mean({group: x[rows] for group, x in values.items()})
        for rows in (order[:cut], order[cut:])
    ]
    torch.testing.assert_close(sum(parts), whole.mean(values))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_term_that_nobody_has_is_nothing_with_no_gradient(variant: str) -> None:
    """No sample has a picture: its expert has nothing to learn, and no pair has both."""
    model = tiny_model()
    terms = terms_of(tiny_batch([TEXT, TEXT, TEXT, {**TEXT, "text": 1}]), model, variant=variant)
    assert float(terms["unique_image"].detach()) == 0
    terms["unique_image"].backward()
    assert not any(p.grad.any() for p in model.bank.parameters())
    for term in terms.values():
        assert bool(torch.isfinite(term))


@pytest.mark.parametrize("variant", ["paper", "predictive", "residual"])
def test_who_lacks_a_modality_does_not_dilute_its_term(variant: str) -> None:
    """Samples with text alone leave the term of `unique_image` as it was, to rounding."""
    batch = tiny_batch([BOTH, BOTH, TEXT, TEXT])
    without = batch.rows(slice(2))
    options = {"variant": variant} if variant != "paper" else {"replacement": "zero"}
    model = tiny_model(isolated=True)  # what partners it has does not matter then
    found, expected = (terms_of(x, model, **options) for x in (batch, without))
    if variant == "residual":  # kappa follows from the sample itself
        assert float(expected["unique_image"].detach()) > 0
    torch.testing.assert_close(found["unique_image"], expected["unique_image"], rtol=0, atol=1e-10)


def test_a_constant_would_have_diluted_it() -> None:
    """A sample without a picture has cosine 1: what it would add to `synergy` is not there."""
    batch = tiny_batch([BOTH, BOTH, TEXT])
    terms = terms_of(batch, replacement="zero")
    view_terms = [terms_of(batch.rows(slice(b, b + 1)), replacement="zero") for b in range(3)]
    each = [float(t["synergy"].detach()) for t in view_terms]
    weights = [2, 2, 1]  # modalities that each sample has
    expected = sum(w * x for w, x in zip(weights, each, strict=True)) / sum(weights)
    assert float(terms["synergy"].detach()) == pytest.approx(expected, abs=1e-10)


def test_a_swap_counts_where_both_partners_have_the_modality() -> None:
    view = View(
        {m: torch.zeros(3, 1, 2) for m in WIDTHS},
        {"text": torch.ones(3, 1).bool(), "image": torch.tensor([[True], [True], [False]])},
    )
    rows = torch.tensor([1, 2, 0])
    swapped = {m: view.replace(m, view.projected[m][rows], view.masks[m][rows]) for m in view.masks}
    presence = Presence.of_replaced(view, swapped)
    assert presence.here["text"].tolist() == [True, True, True]
    assert presence.here["image"].tolist() == [True, False, False]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("space", ["latent", "logit"])
def test_gradients_stay_small_where_a_sample_ends_up_with_nothing(variant: str, space: str) -> None:
    """An untrained classifier says 0 of a sample without tokens: no cosine is taken there."""
    config = ModelConfig(hidden=8, heads=2, dropout=0.0, attention_dropout=0.0)
    model = FLI2MoE(WIDTHS, 3, config).double()
    batch = tiny_batch([BOTH, TEXT, IMAGE, TEXT, BOTH, IMAGE])
    terms = terms_of(batch, model, variant=variant, space=space)
    torch.stack(list(terms.values())).sum().backward()
    largest = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    assert 0 < largest < 1e3


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_stands_where_a_modality_is_missing_has_no_effect(variant: str) -> None:
    batch = tiny_batch(
        [{**BOTH, "audio": 0}, {"text": 0, "image": 1, "audio": 2}] * 2, widths=THREE
    )
    spoilt = TokenBatch(
        {
            m: t.with_features(torch.where(t.mask[..., None], t.features, torch.nan))
            for m, t in batch.items()
        }
    )
    found, expected = (terms_of(x, variant=variant) for x in (spoilt, batch))
    assert all(torch.equal(found[e], expected[e]) for e in expected)

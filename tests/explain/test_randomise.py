"""Weights drawn anew from the top down: which, in what order, and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import WIDTHS, tiny_batch, tiny_model
from torch import Tensor

from fli2moe.explain.randomise import BOTTOM, TOP, randomised
from fli2moe.model import MODELS, FusionModel

STEPS = [TOP, "layer 2", "layer 1", BOTTOM]
OPTIONS = {"final_norm": True, "pooling": "attention"}


def standardised(name: str = "fli2moe") -> FusionModel:
    model = tiny_model(name, **OPTIONS)
    for m, width in WIDTHS.items():
        model.standardise(m, torch.full((width,), 0.5).double(), torch.full((width,), 2.0).double())
    return model


def differing(first: FusionModel, second: FusionModel) -> set[str]:
    other = dict(second.named_parameters())
    return {n for n, x in first.named_parameters() if not torch.equal(x, other[n])}


def logits(model: FusionModel) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(tiny_batch()).logits
    return found


@pytest.mark.parametrize("name", MODELS)
def test_in_the_end_no_parameter_is_the_trained_one(name: str):
    model = standardised(name)
    steps = list(randomised(model, 0))
    assert [s for s, _ in steps] == ([TOP, BOTTOM] if name == "early_fusion" else STEPS)
    assert differing(model, steps[-1][1]) == {n for n, _ in model.named_parameters()}


def test_groups_join_from_the_top_down():
    model = standardised()
    seen: set[str] = set()
    for step, changed in randomised(model, 0):
        now = differing(model, changed)
        assert seen < now
        new, seen = now - seen, now
        starts = {
            TOP: ("classifier.", "router.", "bank.norm.", "bank.pooling."),
            "layer 2": ("bank.layers.1.",),
            "layer 1": ("bank.layers.0.",),
            BOTTOM: ("projections.", "positions."),
        }[step]
        assert all(name.startswith(starts) for name in new)
        assert {s for s in starts if any(name.startswith(s) for name in new)} == set(starts)


def test_every_step_changes_the_logits_and_leaves_those_before_alone():
    model = standardised()
    before = [logits(model)]
    for _, changed in (kept := list(randomised(model, 0))):
        now = logits(changed)
        assert not torch.allclose(now, before[-1], atol=1e-3)
        before.append(now)
    assert [torch.equal(logits(m), x) for (_, m), x in zip(kept, before[1:], strict=True)] == [
        True
    ] * 4


def test_fresh_weights_are_those_of_an_untrained_model():
    last = list(randomised(standardised(), 0))[-1][1]
    bank = dict(last.named_parameters())
    assert torch.equal(bank["bank.norm.weight"], torch.ones_like(bank["bank.norm.weight"]))
    assert not bank["bank.pooling.query"].any()
    assert not bank["classifier.bias"].any()
    weights = bank["classifier.weight"]
    bound = (6 / (weights.shape[1] + weights.shape[2])) ** 0.5  # Xavier's
    assert 0.9 * bound < weights.abs().max() <= bound
    assert len({tuple(w.flatten().tolist()) for w in weights}) == len(weights)


def test_the_model_its_kind_of_numbers_and_the_statistics_stay():
    model = standardised()
    stored = copy.deepcopy(model.state_dict())
    for _, changed in randomised(model, 0):
        assert not changed.training
        assert {x.dtype for x in changed.parameters()} == {torch.float64}
        for m in WIDTHS:
            assert torch.equal(changed.projections[m].mean, model.projections[m].mean)
            assert torch.equal(changed.projections[m].deviation, model.projections[m].deviation)
    assert all(torch.equal(x, stored[n]) for n, x in model.state_dict().items())


def test_the_seed_decides_and_the_global_generator_stays():
    model = standardised()
    state = torch.get_rng_state()
    first, again, other = (list(randomised(model, seed))[-1][1] for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert not differing(first, again)
    assert "classifier.weight" in differing(first, other)

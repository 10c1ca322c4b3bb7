"""The `pid` router: the split of the evidence, the router's loss, and the folds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import WIDTHS, tiny_batch, tiny_model
from torch import Tensor
from torch.nn import functional as F

from fli2moe.errors import InputError
from fli2moe.explain.probes.terms import Corners, gap_terms
from fli2moe.losses import PidRouter, View
from fli2moe.losses.pid import Evidence, pid_targets, prior_logits, router_loss
from fli2moe.model import masks_of
from fli2moe.task import Task

MULTICLASS = Task("multiclass", ("a", "b", "c"))
MULTILABEL = Task("multilabel", ("a", "b", "c"))
TARGETS = {
    "multiclass": torch.tensor([0, 2, 1, 2]),
    "multilabel": torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]]).double(),
}
NATS = st.floats(-5, 5)


def evidence(*rows: tuple[float, float, float]) -> Evidence:
    return Evidence(*torch.tensor(rows, dtype=torch.float64).unbind(-1))


def plain_targets(a: float, b: float, c: float) -> list[float]:
    r = 0.0
    if a > 0 and a * b > 0:
        r = max(0.0, min(abs(a), abs(b)) - abs(c - max(abs(a), abs(b))))
    return [max(0.0, a - r), max(0.0, b - r), max(0.0, c - max(a, b, 0.0)), r]


@pytest.mark.parametrize(
    ("nats", "expected"),
    [
        ((1, 0, 1), (1, 0, 0, 0)),  # the first modality alone
        ((0, 1, 1), (0, 1, 0, 0)),
        ((0, 0, 1), (0, 0, 1, 0)),  # XOR
        ((1, 1, 1), (0, 0, 0, 1)),  # copies
        ((1, 1, 2), (1, 1, 1, 0)),  # additive: c - max(a, b) counts as synergy
        ((2, 1, 2), (1, 0, 0, 1)),
        ((-1, -1, -1), (0, 0, 0, 0)),
        ((-1, 2, 2), (0, 2, 0, 0)),
    ],
)
def test_known_mechanisms_split_as_they_should(
    nats: tuple[float, float, float], expected: tuple[float, ...]
) -> None:
    assert pid_targets(evidence(nats)).tolist() == [list(expected)]


@settings(max_examples=100, deadline=None)
@given(a=NATS, b=NATS, c=NATS)
def test_the_split_is_that_of_the_definition(a: float, b: float, c: float) -> None:
    found = pid_targets(evidence((a, b, c)))[0]
    assert found.tolist() == pytest.approx(plain_targets(a, b, c), abs=1e-12)
    corners = Corners(*(np.array([x]) for x in (0.0, a, b, c)))
    gap = float(gap_terms(corners).positive[0])  # the probe's own redundancy gap, where a > 0
    assert float(found[3]) == pytest.approx(gap, abs=1e-12)


def test_labels_are_split_one_by_one() -> None:
    nats = torch.tensor([[[1.0, 0, 1], [0, 0, 2]], [[-1, -1, -1], [3, 3, 3]]])  # (B, C, 3)
    found = pid_targets(Evidence(*nats.unbind(-1)))
    assert found.tolist() == [[1, 0, 2, 0], [0, 0, 0, 3]]


def test_the_router_s_loss_is_half_a_cross_entropy_over_the_samples_that_say_something() -> None:
    targets = torch.tensor([[1.0, 0, 0, 3], [0.02, 0.02, 0, 0], [0, 0, 2, 0]])
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1, 0, 0, 0], [0.25, 0.25, 0.5, 0]])
    expected = 0.5 * (-(math.log(0.1) + 3 * math.log(0.4)) / 4 - math.log(0.5)) / 2
    assert float(router_loss(targets, weights)) == pytest.approx(expected)
    assert float(router_loss(0 * targets, weights)) == 0


def test_the_router_s_loss_is_least_at_the_shares_and_finite_at_the_edge() -> None:
    targets = torch.tensor([[1.0, 2, 3, 4]])
    shares = targets / 10
    least = router_loss(targets, shares)
    other = (shares.log() + 0.3 * torch.randn(50, 4, generator=torch.Generator())).softmax(-1)
    assert (torch.stack([router_loss(targets, w[None]) for w in other]) >= least).all()
    logits = torch.tensor([[0.0, -1e4, 0, 0]], requires_grad=True)
    loss = router_loss(targets, logits.softmax(-1))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_priors_are_smoothed_frequencies() -> None:
    found = prior_logits(MULTICLASS, torch.tensor([0, 2, 2]))
    assert found.exp().tolist() == pytest.approx([2 / 6, 1 / 6, 3 / 6])
    several = prior_logits(MULTILABEL, TARGETS["multilabel"])
    assert several.sigmoid().tolist() == pytest.approx([3 / 6, 3 / 6, 4 / 6])


def setting(task: Task, seed: int = 0) -> tuple[PidRouter, View, Tensor, Tensor]:
    """A router's heads with the view, labels and weights of four samples."""
    lengths = [{"text": 1 + i % 3, "image": 1 + (i + 1) % 3} for i in range(4)]
    model, batch = tiny_model(), tiny_batch(lengths)
    target = TARGETS[task.kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = PidRouter(model.modalities, 8, task, prior_logits(task, target), hidden=5)
    view = View(model.project(batch), masks_of(batch))
    return heads.double(), view, target, model.fuse(view.projected, view.masks).weights


def plain_head(head: torch.nn.Module, view: View, row: int) -> Tensor:
    parts = []
    for m in head.modalities:
        tokens = view.projected[m][row][view.masks[m][row]]
        parts.append(torch.stack([F.gelu(head.tokens[m](t)) for t in tokens]).mean(0))
    return head.classifier(F.gelu(head.mix(torch.cat(parts))))


@pytest.mark.parametrize("task", [MULTICLASS, MULTILABEL], ids=["multiclass", "multilabel"])
def test_heads_learn_their_fold_and_speak_of_the_other(task: Task) -> None:
    heads, view, target, weights = setting(task)
    rows = torch.tensor([5, 2, 8, 3])  # odd, even, even, odd
    found = heads(view, target, rows, weights)
    sums, targets = torch.zeros(()).double(), []
    for b, row in enumerate(rows.tolist()):
        own = [plain_head(h, view, b) for h in heads.heads[3 * (row % 2) :][:3]]
        other = [plain_head(h, view, b) for h in heads.heads[3 * (1 - row % 2) :][:3]]
        label = target[[b]]
        sums = sums + sum(task.losses(z[None], label).mean() for z in own)
        base = -task.losses(prior_logits(task, target)[None].double(), label)
        gains = [-task.losses(z[None], label) - base for z in other]
        per_label = torch.stack([g.flatten() for g in gains], dim=-1).tolist()
        targets.append(np.sum([plain_targets(*nats) for nats in per_label], axis=0))
    torch.testing.assert_close(found.heads, sums / 4, rtol=0, atol=1e-6)
    expected = router_loss(torch.tensor(np.array(targets)), weights)
    torch.testing.assert_close(found.router, expected, rtol=0, atol=1e-6)


def test_the_heads_train_themselves_and_the_router_s_loss_the_router_alone() -> None:
    model = tiny_model()
    heads, view, target, _ = setting(MULTICLASS)
    projected = {m: x.detach().requires_grad_() for m, x in view.projected.items()}
    weights = torch.full((4, 4), 0.25, dtype=torch.float64, requires_grad=True)
    rows = torch.arange(4)
    losses = heads(View(projected, view.masks), target, rows, weights)
    losses.heads.backward(retain_graph=True)
    assert all(x.grad is None for x in projected.values())
    assert weights.grad is None
    assert all(p.grad is not None for p in heads.parameters())
    heads.zero_grad()
    losses.router.backward()
    assert all(p.grad is None for p in heads.parameters())
    assert weights.grad is not None
    assert model.modalities == tuple(WIDTHS)


def test_a_sample_s_label_never_reaches_the_heads_that_judge_it() -> None:
    heads, view, target, weights = setting(MULTICLASS)
    even = torch.tensor([0, 2, 4, 6])
    heads(view, target, even, weights).heads.backward()
    trained = [any(p.grad.any() for p in h.parameters()) for h in heads.heads]
    assert trained == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    ("mechanism", "expert"), [("first", 0), ("second", 1), ("xor", 2), ("copy", 3)]
)
def test_trained_heads_find_the_mechanism(mechanism: str, expert: int) -> None:
    """Two bits, one token each: the largest part of t is the planted one."""
    task, generator = Task("multiclass", ("no", "yes")), torch.Generator().manual_seed(0)
    bits = torch.randint(2, (256, 2), generator=generator)
    if mechanism == "copy":
        bits[:, 1] = bits[:, 0]
    labels = {"second": bits[:, 1], "xor": bits[:, 0] ^ bits[:, 1]}
    target = labels.get(mechanism, bits[:, 0])
    features = {m: F.one_hot(bits[:, i], 4).float()[:, None] for i, m in enumerate(WIDTHS)}
    view = View(features, {m: torch.ones(256, 1, dtype=torch.bool) for m in WIDTHS})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = PidRouter(tuple(WIDTHS), 4, task, prior_logits(task, target), hidden=16)
    logits = torch.zeros(256, 4, requires_grad=True)
    optimizer = torch.optim.Adam([*heads.parameters(), logits], lr=0.03)
    for _ in range(120):
        losses = heads(view, target, torch.arange(256), logits.softmax(-1))
        optimizer.zero_grad()
        (losses.heads + losses.router).backward()
        optimizer.step()
    weights = logits.softmax(-1).mean(0)
    assert weights.argmax() == expert
    assert weights[expert] > 0.5


@pytest.mark.parametrize("modalities", [("text",), ("text", "image", "audio")])
def test_other_than_two_modalities_are_one_line(modalities: tuple[str, ...]) -> None:
    named = rf"pid with {len(modalities)} modalities \({', '.join(modalities)}\)"
    with pytest.raises(InputError, match=f"losses.router: {named}; expected two modalities"):
        PidRouter(modalities, 8, MULTICLASS, torch.zeros(3))

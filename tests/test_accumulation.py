"""Micro-batches: the gradients of the whole batch, for every loss, with and without dropout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import FOUR, THREE, WIDTHS, gappy, tiny_batch, tiny_model
from torch import Tensor

from fli2moe import accumulation
from fli2moe.accumulation import Lesson, Outcome, accumulate
from fli2moe.config import Config, LossConfig
from fli2moe.data.sample import Dataset
from fli2moe.losses import Objective, Passes, Step, Supervision, View, run_views
from fli2moe.micro_batches import AUTO_TOKENS, micro_batch_size, plan_parts
from fli2moe.model import FusionTransformer, MoEOutput, masks_of
from fli2moe.task import Task
from fli2moe.trainee import Trainee
from fli2moe.training import fit

MakeConfig = Callable[..., Config]
SIZE = 7
GATE = 0.7085  # the smoothed loss of step 2 is the first below it
MULTICLASS = Task("multiclass", ("a", "b", "c"))
MULTILABEL = Task("multilabel", ("a", "b", "c"))
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"interaction": 0.0},
    {"noise_fraction": 0.6, "synergy_floor": 0.0},
    {"space": "logit"},
    {"replacement": "zero"},
    {"replacement": "mean", "noise_fraction": 0.4},
    {"variant": "swap"},
    {"variant": "swap", "space": "logit", "noise_fraction": 0.6},
    {"variant": "predictive"},
    {"variant": "residual", "noise_fraction": 0.6},
    {"decorrelation": "cos"},
    {"decorrelation": "cka"},
    {"decorrelation": "cka_debiased"},
    {"decorrelation": "barlow"},
    {"decorrelation": "barlow_full", "noise_fraction": 0.4},
    {"router": "pid"},
    {"router": "pid", "interaction": 0.0},
    {"variant": "residual", "router": "pid", "decorrelation": "cka", "noise_fraction": 0.6},
)
COUPLED = tuple(o for o in OPTIONS if "router" in o or o.get("decorrelation", "cos") != "cos")


def named(options: Mapping[str, Any]) -> str:
    return "-".join(map(str, options.values())) or "paper"


@dataclass
class Case:
    """One batch, its losses, and how to take the gradients of a step."""

    model: FusionTransformer
    objective: Objective
    task: Task
    target: Tensor
    batch: Any

    def lesson(self) -> Lesson:
        view = View(self.model.project(self.batch), masks_of(self.batch))
        others = self.objective.views(self.model, view, torch.Generator().manual_seed(3))
        return Lesson(view, others, self.supervision(), torch.arange(len(view)).flip(0), 6)

    def supervision(self) -> Supervision:
        weights = torch.tensor([1.0, 2.0, 0.5], dtype=self.dtype)

        def losses(logits: Tensor, target: Tensor) -> Tensor:
            return self.task.losses(logits, target, weights=weights, smoothing=0.1)

        return Supervision(self.task, self.target, losses)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def parameters(self) -> dict[str, Tensor]:
        return {
            **dict(self.model.named_parameters()),
            **{f"objective.{n}": p for n, p in self.objective.named_parameters()},
        }

    def learn(
        self, size: int | None, backward: Callable[[Tensor], None] = Tensor.backward
    ) -> tuple[Outcome, dict[str, Tensor]]:
        self.clear()
        torch.manual_seed(5)
        outcome = accumulate(self.model, self.objective, self.lesson(), size, backward)
        return outcome, self.gradients()

    def clear(self) -> None:
        for parameter in self.parameters().values():
            parameter.grad = None

    def gradients(self) -> dict[str, Tensor]:
        return {n: p.grad.clone() for n, p in self.parameters().items() if p.grad is not None}


def case(
    losses: Mapping[str, Any],
    widths: Mapping[str, int] = WIDTHS,
    *,
    task: Task = MULTICLASS,
    dtype: torch.dtype = torch.float64,
    name: str = "fli2moe",
    **options: Any,
) -> Case:
    """Seven samples of different lengths, of which some lack a modality."""
    batch = tiny_batch(gappy(widths, SIZE), widths=widths)
    model = tiny_model(name, widths, **options)
    draw = torch.Generator().manual_seed(1)
    target = torch.randint(3, (SIZE,), generator=draw)
    if task.multilabel:
        target = torch.randint(2, (SIZE, 3), generator=draw).to(dtype)
    means = {m: torch.linspace(-1, 1, d) for m, d in widths.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = Objective(LossConfig.model_validate(losses), model, task, target, means)
    cast = {m: t.with_features(t.features.to(dtype)) for m, t in batch.items()}
    return Case(model.to(dtype), objective.to(dtype), task, target, type(batch)(cast))


def close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        assert (found[name] - x).norm() <= tolerance * (1e-3 + x.norm()), name


def same_outcome(found: Outcome, expected: Outcome, tolerance: float) -> None:
    close(found.terms, expected.terms, tolerance)
    whole = {n: getattr(expected, n) for n in ("loss", "each", "latents")}
    close({n: getattr(found, n) for n in whole}, whole, tolerance)
    assert not any(x.requires_grad for x in (found.loss, found.each, found.latents))


@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("losses", OPTIONS, ids=named)
def test_the_gradients_are_those_of_the_whole_batch(losses: dict[str, Any], size: int) -> None:
    one = case(losses)
    expected, gradients = one.learn(None)
    found, in_parts = one.learn(size)
    assert len(gradients) == len(one.parameters())
    close(in_parts, gradients, 1e-10)
    same_outcome(found, expected, 1e-10)


@pytest.mark.parametrize("losses", [o for o in OPTIONS if o.get("router") != "pid"], ids=named)
@pytest.mark.parametrize("widths", [THREE, FOUR], ids=["three", "four"])
def test_with_more_modalities_and_several_labels_too(
    losses: dict[str, Any], widths: dict[str, int]
) -> None:
    one = case(losses, widths, task=MULTILABEL)
    expected, gradients = one.learn(None)
    found, in_parts = one.learn(2)
    close(in_parts, gradients, 1e-10)
    same_outcome(found, expected, 1e-10)


@pytest.mark.parametrize("losses", OPTIONS, ids=named)
def test_in_single_precision_they_differ_by_rounding(losses: dict[str, Any]) -> None:
    one = case(losses, dtype=torch.float32)
    _, gradients = one.learn(None)
    _, in_parts = one.learn(3)
    whole, parts = (torch.cat([g[n].flatten() for n in gradients]) for g in (gradients, in_parts))
    assert (parts - whole).norm() <= 1e-6 * whole.norm()


@pytest.mark.parametrize("losses", [o for o in OPTIONS if o.get("router") != "pid"], ids=named)
@pytest.mark.parametrize(
    "options",
    [
        {"isolated": True},
        {"experts": ["synergy", "redundancy"]},
        {"experts": ["synergy"]},
        {"router": {"kind": "uniform"}},
    ],
    ids=named,
)
def test_with_other_experts_too(losses: dict[str, Any], options: dict[str, Any]) -> None:
    one = case(losses, **options)
    expected, gradients = one.learn(None)
    found, in_parts = one.learn(2)
    close(in_parts, gradients, 1e-10)
    same_outcome(found, expected, 1e-10)
    interacting = losses.get("interaction", 1) > 0
    assert ({*one.model.experts} <= found.terms.keys()) == interacting


@pytest.mark.parametrize("variant", ["paper", "swap", "predictive", "residual"])
def test_a_part_without_a_pair_of_a_term_adds_nothing_to_it(variant: str) -> None:
    """One sample of seven has both modalities; parts of one sample each."""
    one = case({"variant": variant})
    lengths = [{"text": 2, "image": 0}, {"text": 0, "image": 3}] * 3 + [{"text": 2, "image": 2}]
    one.batch = tiny_batch(lengths)
    expected, gradients = one.learn(None)
    found, in_parts = one.learn(1)
    close(in_parts, gradients, 1e-10)
    same_outcome(found, expected, 1e-10)


@pytest.mark.parametrize("name", ["dense", "late_fusion", "early_fusion"])
def test_a_model_without_interaction_experts_is_asked_for_the_task_alone(name: str) -> None:
    one = case({"decorrelation": "cka", "router": "pid"}, name=name)
    assert not one.objective.couples
    _, gradients = one.learn(None)
    found, in_parts = one.learn(2)
    close(in_parts, gradients, 1e-10)
    assert found.terms == {}


@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("factor", [0.6, None])
def test_a_sparse_mixture_is_balanced_over_the_whole_batch(size: int, factor: float | None) -> None:
    """Room is counted in each sample, so that nothing but the loss couples samples."""
    options = {"sparse": {"capacity_factor": factor}}
    one = case({"decorrelation": "cka", "balance": 0.5}, name="sparse_moe", **options)
    one.model.train()
    assert one.objective.couples
    expected, gradients = one.learn(None)
    found, in_parts = one.learn(size)
    close(in_parts, gradients, 1e-10)
    same_outcome(found, expected, 1e-10)
    assert set(found.terms) == {"balance"}
    alone = case({"balance": 0.0}, name="sparse_moe", **options)
    alone.model.train()
    assert not alone.objective.couples
    task, plain = alone.learn(size)
    assert task.terms == {}
    torch.testing.assert_close(expected.loss - task.loss, 0.5 * expected.terms["balance"])
    assert (plain["bank.layers.0.gate.weight"] - gradients["bank.layers.0.gate.weight"]).any()


def plain_gradients(one: Case, size: int) -> dict[str, Tensor]:
    """Every part with its graph, in one sequence of draws; then the losses of all of them."""
    one.clear()
    torch.manual_seed(5)
    lesson = one.lesson()
    parts, order = plan_parts((lesson.view, *lesson.others), size), []
    outputs: list[MoEOutput] = []
    latents: list[tuple[Tensor, ...]] = []
    others_order: list[int] = []
    for part in parts:
        rows = part.rows.tolist()
        views = []
        for k, view in enumerate((lesson.view, *lesson.others)):
            chosen = rows if k == 0 else rows[: part.others]
            cut = {m: slice(n) for m, n in part.lengths.items()}
            projected = {m: x[chosen][:, cut[m]] for m, x in view.projected.items()}
            views.append(View(projected, {m: x[chosen][:, cut[m]] for m, x in view.masks.items()}))
        passes = run_views(one.model, views[0], views[1:] if part.others else ())
        order += rows
        others_order += rows[: part.others]
        outputs.append(passes.output)
        latents += [passes.latents] if passes.latents else []
    back = torch.tensor(order).argsort()
    fields = ("logits", "weights", "expert_logits", "latents")
    output = MoEOutput(*(torch.cat([getattr(o, f) for o in outputs])[back] for f in fields))
    back = torch.tensor(others_order).argsort()
    others = tuple(torch.cat(xs)[back] for xs in zip(*latents, strict=True))
    supervision = lesson.supervision
    presence = one.objective.presence(lesson.view, lesson.others)
    passes = Passes(output, others)
    step = Step(lesson.view, passes, supervision, lesson.rows, lesson.epoch, presence)
    task = supervision.losses(output.logits, supervision.target).mean()
    sum(one.objective(one.model, step).weighted, start=task).backward()
    return one.gradients()


DROPOUT = {
    "dropout": 0.3,
    "attention_dropout": 0.2,
    "input_dropout": 0.1,
    "router": {"hidden": 6, "dropout": 0.4},
}


@pytest.mark.parametrize("losses", OPTIONS, ids=named)
def test_with_dropout_each_sample_keeps_its_own_mask(losses: dict[str, Any]) -> None:
    """What the coupled losses saw in the first pass is what gradients flow through."""
    one = case(losses, **DROPOUT)
    one.model.train()
    expected = plain_gradients(one, 3)
    _, found = one.learn(3)
    close(found, expected, 1e-10)
    _, other = one.learn(2)  # another division draws other masks
    assert (other["classifier.weight"] - expected["classifier.weight"]).norm() > 1e-3


@pytest.mark.parametrize("losses", OPTIONS, ids=named)
def test_a_loss_scale_scales_every_gradient(losses: dict[str, Any]) -> None:
    one = case(losses)
    _, gradients = one.learn(3)
    outcome, scaled = one.learn(3, lambda loss: (1024 * loss).backward())
    close({n: g / 1024 for n, g in scaled.items()}, gradients, 1e-12)
    same_outcome(outcome, one.learn(3)[0], 1e-12)


@pytest.mark.parametrize("losses", OPTIONS, ids=named)
def test_under_autocast_nothing_gets_lost(losses: dict[str, Any]) -> None:
    one = case(losses, dtype=torch.float32)
    for model in (one.model, one.objective):  # so that rounding to bfloat16 decides nothing
        for parameter in model.parameters():
            parameter.data.mul_(0.5)
    with torch.autocast("cpu", torch.bfloat16):
        _, gradients = one.learn(None)
        outcome, in_parts = one.learn(3)
    assert in_parts.keys() == gradients.keys() == one.parameters().keys()
    assert torch.isfinite(outcome.loss)
    whole, parts = (torch.cat([g[n].flatten() for n in gradients]) for g in (gradients, in_parts))
    assert torch.cosine_similarity(whole, parts, dim=0) > 0.98


def test_parts_hold_every_sample_once_and_are_cut_to_their_longest() -> None:
    lesson = case({"variant": "swap", "noise_fraction": 0.6}).lesson()
    views = (lesson.view, *lesson.others)
    parts = plan_parts(views, 3)
    assert sorted(torch.cat([p.rows for p in parts]).tolist()) == list(range(SIZE))
    assert [len(p.rows) for p in parts] == [3, 3, 1]
    for part in parts:
        with_others = part.rows < 4  # 0.6 of 7
        assert with_others.tolist() == sorted(with_others.tolist(), reverse=True)
        assert part.others == int(with_others.sum())
        for m, length in part.lengths.items():
            masks = [lesson.view.masks[m][part.rows]]
            masks += [v.masks[m][part.rows[: part.others]] for v in lesson.others]
            assert length == max(int(mask.sum(1).max()) for mask in masks if len(mask))
    tokens = torch.stack([mask.sum(1) for mask in lesson.view.masks.values()]).sum(0)
    alone = [tokens[part.rows] for part in plan_parts(views[:1], 3)]
    assert all(a.max() <= b.min() for a, b in pairwise(alone))
    assert not any(part.others for part in plan_parts(views[:1], 3))


@pytest.mark.parametrize("losses", [{}, {"decorrelation": "cka"}], ids=named)
def test_no_more_samples_run_at_once_than_are_asked_for(
    losses: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(model: FusionTransformer, clean: View, others: Any) -> Passes:
        sizes.append(len(clean))
        return run_views(model, clean, others)

    monkeypatch.setattr(accumulation, "run_views", counted)
    case(losses).learn(3)
    assert sizes == [3, 3, 1] * (2 if losses else 1)


@pytest.mark.parametrize("variant", ["paper", "swap", "residual"])
def test_parts_go_on_sharing_what_views_share(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that work on shared tokens can be done once."""
    seen: list[bool] = []

    def watch(model: FusionTransformer, clean: View, others: Any) -> Passes:
        for other in others:
            same = [
                other.projected[m].data_ptr() == x.data_ptr() for m, x in clean.projected.items()
            ]
            seen.append(sum(same) >= 1)
        return run_views(model, clean, others)

    monkeypatch.setattr(accumulation, "run_views", watch)
    case({"variant": variant, "noise_fraction": 0.6}).learn(3)
    assert seen
    assert all(seen)


def test_auto_makes_even_parts_whose_tokens_come_nearest() -> None:
    def masks(tokens: int, device: str = "cpu") -> dict[str, Tensor]:
        half = torch.ones(32, tokens // 2, dtype=torch.bool, device=device)
        rest = torch.ones(32, tokens - tokens // 2, dtype=torch.bool, device=device)
        return {"text": half, "image": rest}

    assert [micro_batch_size(x, masks(324)) for x in (None, 5)] == [None, 5]
    assert micro_batch_size("auto", masks(324)) == 4
    assert micro_batch_size("auto", masks(516)) == 3  # 13 parts
    assert micro_batch_size("auto", masks(5000)) == 1
    assert micro_batch_size("auto", masks(AUTO_TOKENS // 32)) == 32  # one part
    assert micro_batch_size("auto", masks(AUTO_TOKENS // 20)) == 16  # two, not 20 and 12
    assert micro_batch_size("auto", masks(2)) == 32
    assert micro_batch_size("auto", masks(324, "meta")) is None
    assert micro_batch_size("auto", masks(324), couples=True) is None


def gradients_seen(
    monkeypatch: pytest.MonkeyPatch, config: Config, dataset: Dataset, cache: Path
) -> tuple[list[dict[str, Tensor]], list[dict[str, float]]]:
    """The gradients each step is taken with, and the history."""
    seen: list[dict[str, Tensor]] = []
    clip = Trainee.on_before_optimizer_step

    def watch(self: Trainee, optimizer: Any) -> None:
        clip(self, optimizer)
        seen.append({n: p.grad.clone() for n, p in self.model.named_parameters()})

    rows: list[dict[str, float]] = []
    with monkeypatch.context() as patch:
        patch.setattr(Trainee, "on_before_optimizer_step", watch)
        fit(config, dataset, cache=cache, progress_epoch=lambda row: rows.append(dict(row)))
    return seen, rows


@pytest.mark.parametrize(
    "losses",
    [
        {"variant": "swap", "decorrelation": "cka", "router": "pid"},
        {"interaction_schedule": "gated", "gate_loss": GATE},
    ],
    ids=["coupled", "gated"],
)
def test_training_in_parts_is_training(
    make_config: MakeConfig,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    losses: dict[str, Any],
) -> None:
    caplog.set_level("INFO", "fli2moe")
    constant = {"interaction_schedule": "constant"}
    found = {}
    for size in (None, 5):
        training = {"micro_batch": size, "clip": 0.05, "epochs": 2, "learning_rate": 1e-4}
        config = make_config(losses={**constant, **losses}, training=training)
        found[size] = gradients_seen(monkeypatch, config, dataset, tmp_path)
    (whole, rows), (parts, rows_parts) = found[None], found[5]
    assert len(whole) == len(parts) == 6
    for a, b in zip(whole, parts, strict=True):
        norm = torch.stack([x.norm() for x in b.values()]).norm()
        assert norm <= 0.05 * (1 + 1e-4)  # the sum is clipped, not its parts
        difference = torch.stack([(a[n] - b[n]).norm() for n in a]).norm()
        assert difference <= 1e-3 * norm
    for one, other in zip(rows, rows_parts, strict=True):
        assert one.keys() == other.keys()
        assert other == pytest.approx(one, rel=1e-3, abs=1e-5)
    opened = [r.getMessage() for r in caplog.records if "gate open" in r.getMessage()]
    assert opened == (["gate open at step 3"] * 2 if "gate_loss" in losses else [])


def test_the_same_micro_batch_gives_the_same_weights(
    make_config: MakeConfig, dataset: Dataset, tmp_path: Path
) -> None:
    def weights(size: int | str | None) -> dict[str, Tensor]:
        config = make_config(
            losses={"interaction_schedule": "constant", "decorrelation": "cka"},
            model={"dropout": 0.2},
            training={"micro_batch": size, "epochs": 1},
        )
        return fit(config, dataset, cache=tmp_path).model.state_dict()

    first, again, whole, larger = (weights(size) for size in (5, 5, None, 64))
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert all(torch.equal(whole[n], larger[n]) for n in whole)
    assert not all(torch.equal(first[n], whole[n]) for n in first)

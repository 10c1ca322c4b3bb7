"""The gradients of one training step, of the whole batch at once or summed over parts of it.

The sum over parts is exact. Losses that are means over samples are weighed by each part's share;
terms of a modality, by its share of the samples that have it (`losses.Presence`).
Losses that compare samples with each other (`Objective.couples`) get the latents and the router's
weights of the whole batch first, without a graph, and what they ask of each sample is then passed
back through its own part (gradient caching: Gao et al. 2021, arXiv 2101.06983). A part runs the
second time with the random numbers of the first.

Samples of similar length share a part, and each part is cut to its own longest sequences. Projected
tokens belong to the whole batch (a sample's other views take tokens from anywhere in it): their
gradients are collected from all parts and go through the projection once.

Dropout draws depend on how the batch is divided, as they depend on the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fli2moe.losses import Objective, Passes, Presence, Step, Supervision, View, run_views
from fli2moe.micro_batches import Part, Sources, plan_parts
from fli2moe.model import FusionModel, MoEOutput, Routing
from fli2moe.precision import at_least_float32


@dataclass(frozen=True, eq=False)
class Lesson:
    """A batch to learn from.

    Attributes:
        view: its projected tokens, with their graph, and masks.
        others: the other views that the interaction losses need, of its first samples.
        supervision: task, labels and CE.
        rows: (B,) positions of the samples in the training split.
        epoch: from 0.
    """

    view: View
    others: tuple[View, ...]
    supervision: Supervision
    rows: Tensor
    epoch: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one batch gave; gradients are where `backward` left them.

    Attributes:
        loss: everything that was minimised, a scalar.
        each: (B,) or (B, C) task losses, in the order of the batch.
        latents: (B, E, M * H), in the order of the batch.
        terms: each term of the loss beside the task's, without its weight.
    """

    loss: Tensor
    each: Tensor
    latents: Tensor
    terms: Mapping[str, Tensor]


def accumulate(
    model: FusionModel,
    objective: Objective,
    lesson: Lesson,
    size: int | None,
    backward: Callable[[Tensor], None],
) -> Outcome:
    """Adds the gradients of one batch to those of the parameters.

    Args:
        model: in training mode or not.
        objective: the losses beside the task's.
        lesson: the batch.
        size: samples that run at once; None, or as many as there are, for the whole batch.
        backward: what `Tensor.backward` does, times a loss scale if there is one. It is called
            outside of autocast.
    """
    if size is None or size >= len(lesson.view):
        return _whole(model, objective, lesson, backward)
    presence = objective.presence(lesson.view, lesson.others)
    return _Parts(model, objective, lesson, size, backward, presence).run()


def _whole(
    model: FusionModel,
    objective: Objective,
    lesson: Lesson,
    backward: Callable[[Tensor], None],
) -> Outcome:
    passes = run_views(model, lesson.view, lesson.others)
    each = lesson.supervision.losses(passes.output.logits, lesson.supervision.target)
    presence = objective.presence(lesson.view, lesson.others)
    step = Step(lesson.view, passes, lesson.supervision, lesson.rows, lesson.epoch, presence)
    demands = objective(model, step)
    loss = sum(demands.weighted, start=each.mean())
    with _full_precision(lesson.view):
        backward(loss)
    latents = passes.output.latents.detach()
    return Outcome(loss.detach(), each.detach(), latents, demands.terms)


@dataclass(eq=False)
class _Parts:
    """One batch on its way through the model in parts."""

    model: FusionModel
    objective: Objective
    lesson: Lesson
    size: int
    backward: Callable[[Tensor], None]
    presence: Presence | None = None
    total: Tensor | float = 0.0
    terms: dict[str, Tensor] = field(default_factory=dict)

    def run(self) -> Outcome:
        lesson = self.lesson
        parts = plan_parts((lesson.view, *lesson.others), self.size)
        sources = Sources((lesson.view, *lesson.others))
        order = torch.cat([part.rows for part in parts]).argsort()  # back to the batch's order
        cached = self._coupled(parts, sources, order) if self.objective.couples else None
        each, latents = [], []
        for i, part in enumerate(parts):
            if cached is not None:
                cached.states[i].restore()
            passes, losses, loss = self._learn(part, sources)
            if cached is not None:
                loss = loss + cached.asked(passes.output, part.rows)
            with _full_precision(lesson.view):
                self.backward(loss)
            sources.collect(part)
            each.append(losses.detach())
            latents.append(passes.output.latents.detach())
        with _full_precision(lesson.view):
            sources.backward()
        assert isinstance(self.total, Tensor)  # for the type checker: there is a part
        return Outcome(self.total, torch.cat(each)[order], torch.cat(latents)[order], self.terms)

    def _learn(self, part: Part, sources: Sources) -> tuple[Passes, Tensor, Tensor]:
        """Runs one part: its passes, task losses, and its share of the separable losses."""
        lesson = self.lesson
        view, *others = sources.take(part)
        passes = run_views(self.model, view, others if part.others else ())
        target = lesson.supervision.target[part.rows]
        supervision = replace(lesson.supervision, target=target)
        losses = supervision.losses(passes.output.logits, target)
        share = len(part.rows) / len(lesson.view)
        counted = part.rows[: part.others]
        presence = None if self.presence is None else self.presence.rows(counted)
        rows = lesson.rows[part.rows]
        step = Step(view, passes, supervision, rows, lesson.epoch, presence, share)
        demands = self.objective.separable(self.model, step)
        loss = sum(demands.weighted, start=share * losses.mean())
        self._count(loss, demands.terms)
        return passes, losses, loss

    def _coupled(self, parts: Sequence[Part], sources: Sources, order: Tensor) -> _Cached:
        """Runs every part without a graph; returns what the coupled losses ask of its outputs."""
        lesson, states, outputs = self.lesson, [], []
        with torch.no_grad():
            for part in parts:
                states.append(_Draws(self.model.device))
                view, *others = sources.take(part)
                outputs.append(run_views(self.model, view, others if part.others else ()).output)
        torch.clear_autocast_cache()  # it holds weights cast without a graph
        whole, leaves = _whole_output(outputs, order)
        step = Step(lesson.view, Passes(whole, ()), lesson.supervision, lesson.rows, lesson.epoch)
        demands = self.objective.coupled(step)
        loss = torch.stack(demands.weighted).sum()
        self._count(loss, demands.terms)
        own = any(p.requires_grad for p in self.objective.parameters())
        with _full_precision(lesson.view):
            asked = torch.autograd.grad(loss, leaves, retain_graph=own, allow_unused=True)
            if own:  # of the auxiliary heads, which have all samples already
                self.backward(loss)
        return _Cached(states, asked)

    def _count(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        self.total = self.total + loss.detach()
        for name, term in terms.items():
            self.terms[name] = self.terms[name] + term if name in self.terms else term


@dataclass(frozen=True, eq=False)
class _Cached:
    """What the coupled losses ask of every sample, and each part's random numbers.

    Attributes:
        states: one for each part.
        gradients: of `_coupling`'s tensors for the whole batch; None where nothing is asked.
    """

    states: list[_Draws]
    gradients: Sequence[Tensor | None]

    def asked(self, output: MoEOutput, rows: Tensor) -> Tensor:
        """Returns a scalar whose gradient passes on what is asked of a part's outputs."""
        found = output.latents.new_zeros((), dtype=at_least_float32(output.latents).dtype)
        for x, gradient in zip(_coupling(output), self.gradients, strict=True):
            if gradient is not None:
                found = found + (at_least_float32(x) * gradient[rows]).sum()
        return found


def _coupling(output: MoEOutput) -> list[Tensor]:
    """Returns what coupled losses read: latents, router weights, gates' probabilities."""
    gates = [layer.probabilities for layer in output.routing or ()]
    return [output.latents, output.weights, *gates]


def _whole_output(outputs: Sequence[MoEOutput], order: Tensor) -> tuple[MoEOutput, list[Tensor]]:
    """Returns the parts' outputs as one of the whole batch, and its `_coupling` as leaves."""
    pairs = zip(*(_coupling(output) for output in outputs), strict=True)
    leaves = [at_least_float32(torch.cat(parts)[order]).requires_grad_() for parts in pairs]
    logits, expert_logits = (
        torch.cat([getattr(output, name) for output in outputs])[order]
        for name in ("logits", "expert_logits")
    )
    routing = None
    if outputs[0].routing is not None:
        layers = zip(*(output.routing or () for output in outputs), strict=True)
        first = [torch.cat([part.first for part in parts])[order] for parts in layers]
        routing = tuple(Routing(p, f) for p, f in zip(leaves[2:], first, strict=True))
    return MoEOutput(logits, leaves[1], expert_logits, leaves[0], routing=routing), leaves


class _Draws:
    """The state of the global random generators, from which dropout draws."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Makes the next draws those that followed when the state was taken."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)


def _full_precision(view: View) -> torch.autocast:
    """Returns a context without autocast, in which gradients keep the types of the forward pass."""
    device = next(iter(view.masks.values())).device.type
    return torch.autocast(device, enabled=False)

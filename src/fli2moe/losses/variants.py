"""`predictive`, `residual` and `complete`: experts are asked to predict what their names say.

Ours (design 3.2, which writes two modalities out; `complete` came later). l_e are the class-centred
logits of expert e, CE the task loss, sg the stop-gradient, and per modality m three views of a
sample are made:

- only_m: every other modality absent (masked out);
- swap_m, swap'_m: m kept, all others from one other sample, by two independent derangements.

kappa = sg[s min_m |l_R(only_m)|] per class, where all l_R(only_m) have the sign s, else 0.

    redundancy  mean_m CE(l_R(only_m), y) + |l_R(x) - kappa|^2
    unique_m    CE(kappa + l_m(swap_m), y) + |l_m(x) - l_m(swap_m)|^2 + .05 |l_m(swap_m)|^2
    synergy     mean_m <l_S(swap_m), l_S(swap'_m)> + .05 |l_S(x)|^2

`predictive` is the same without kappa in `unique_m` and without the two shrinkage terms (.05).
`complete` is `residual`, and the synergy expert also predicts what all others leave:
+ CE(sg[kappa + sum_m l_m(x)] + l_S(x), y). Without it the synergy expert learns by its share of the
mixture alone, too little where one router weighs samples of several mechanisms. There l_e are the
logits of expert e divided by the number of experts: its part of the output of a mixture of equal
weights, which the parts add up to, so that these losses and the task's ask for the same scale.

A term of m is a mean over the samples that have m, mean_m one over the pairs of a sample and a
modality it has; |l_R(x) - kappa|^2 and |l_S(x)|^2 are means over all samples. kappa is 0 where a
modality is missing: then nothing is common to all. What an isolated expert l_m says of swap_m is
what it says of x.

For M = 2 this is the design, letter by letter. For M > 2: kappa is what *all* single modalities
say alike; a unique expert must not care about any other modality; and <l_S(swap_m), l_S(swap'_m)>
estimates |E[l_S | x_m]|^2 without bias, so that what one modality says alone is driven out of
`synergy` while interactions of two or more modalities may stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fli2moe.errors import InputError
from fli2moe.losses.interaction import InteractionLosses, check_experts
from fli2moe.losses.presence import Presence
from fli2moe.losses.views import derangement, expert_logits, only, swapped
from fli2moe.model import FusionModel, View
from fli2moe.precision import at_least_float32
from fli2moe.task import Task

SHRINKAGE = 0.05

TaskLosses = Callable[[Tensor, Tensor], Tensor]
"""Maps logits (B, C) and targets to (B,) or (B, C) as `Task.losses`, weights and smoothing set."""


@dataclass(frozen=True, eq=False)
class Supervision:
    """What the experts' predictions are compared with.

    Attributes:
        task: multi-class logits are centred over the classes, multi-label ones stay.
        target: (B,) or (B, C), as `Task.encode` returns it.
        losses: CE of each sample; the mean is taken.
    """

    task: Task
    target: Tensor
    losses: TaskLosses


def evidence_views(view: View, generator: torch.Generator) -> list[View]:
    """Returns the 3 M views that both losses need: only_m, swap_m and swap'_m for every m.

    Args:
        view: the clean batch, at least two samples; its modalities in the model's order.
        generator: source of the partners, on the CPU.

    Raises:
        InputError: when there is one sample only.
    """
    names = tuple(view.masks)
    views = [only(view, m) for m in names]
    for _ in range(2):
        partners = derangement(len(view), generator)
        views += [swapped(view, [n for n in names if n != m], partners) for m in names]
    return views


def predictive_losses(
    model: FusionModel,
    latents: Tensor,
    others: Sequence[Tensor],
    presence: Presence,
    supervision: Supervision,
) -> InteractionLosses:
    """Computes the terms of `predictive`, one per expert.

    Args:
        model: a mixture of some of the experts `unique_<modality>`, `synergy`, `redundancy`.
        latents: (B, E, M * H) of the clean batch.
        others: (B, E, M * H) of each of `evidence_views`.
        presence: which samples have which modality (`Presence.of`).
        supervision: task, labels and CE.

    Raises:
        InputError: when the model has other experts.
    """
    return _losses(model, latents, others, presence, supervision)


def residual_losses(
    model: FusionModel,
    latents: Tensor,
    others: Sequence[Tensor],
    presence: Presence,
    supervision: Supervision,
) -> InteractionLosses:
    """Computes the terms of `residual`; arguments and errors as `predictive_losses`.

    Raises:
        InputError: also when there are unique experts, but no redundancy expert to give kappa.
    """
    return _losses(model, latents, others, presence, supervision, explained=True)


def complete_losses(
    model: FusionModel,
    latents: Tensor,
    others: Sequence[Tensor],
    presence: Presence,
    supervision: Supervision,
) -> InteractionLosses:
    """Computes the terms of `complete`; arguments and errors as `residual_losses`."""
    return _losses(model, latents, others, presence, supervision, explained=True, complete=True)


def _losses(
    model: FusionModel,
    latents: Tensor,
    others: Sequence[Tensor],
    presence: Presence,
    supervision: Supervision,
    *,
    explained: bool = False,
    complete: bool = False,
) -> InteractionLosses:
    """The terms above.

    `explained`: kappa is taken off what `unique_m` has to predict, and squared logits shrink;
    `complete`: `synergy` predicts what all others leave, and logits are parts of the output.
    """
    check_experts(model)
    if explained:
        check_residual(model.experts)
    part = 1 / len(model.experts) if complete else 1.0
    logits = _logits_of_views(model, latents, others, presence, supervision, part)
    return _terms(model, logits, presence, supervision, explained=explained, complete=complete)


def check_residual(experts: Sequence[str]) -> None:
    """Raises InputError when `residual` lacks the expert that unique ones are residual to."""
    if "redundancy" not in experts and any(e.startswith("unique_") for e in experts):
        found = f"residual with the experts {', '.join(experts)}"
        remedy = "add redundancy to model.experts, or use variant: predictive"
        raise InputError("losses.variant", found, "redundancy beside unique experts", remedy)


def common_evidence(logits: Tensor) -> Tensor:
    """Returns kappa (B, C) of logits (M, B, C): the smallest where all have one sign, else 0.

    Two modalities: 1{ab > 0} sign(a) min(|a|, |b|).
    """
    low, high = logits.amin(0), logits.amax(0)
    return low.clamp_min(0) + high.clamp_max(0)


@dataclass(frozen=True, eq=False)
class _Logits:
    """Class-centred logits (B, E, C) of the clean batch, and {modality: (B, E, C)} of its views."""

    clean: Tensor
    only: dict[str, Tensor]
    swap: dict[str, Tensor]
    swap_again: dict[str, Tensor]
    kappa: Tensor  # (B, C)


def _logits_of_views(
    model: FusionModel,
    latents: Tensor,
    others: Sequence[Tensor],
    presence: Presence,
    supervision: Supervision,
    part: float,
) -> _Logits:
    """The class-centred logits, each times `part`."""
    names, task = model.modalities, supervision.task
    clean, *rest = (part * centred(task, expert_logits(model, z)) for z in (latents, *others))
    groups = [dict(zip(names, rest[i::], strict=False)) for i in range(0, len(rest), len(names))]
    alone, swap, swap_again = groups
    kappa = clean.new_zeros(len(clean), clean.shape[-1])
    if "redundancy" in model.experts:
        redundancy = model.experts.index("redundancy")
        common = common_evidence(torch.stack([alone[m][:, redundancy] for m in names]))
        kappa = torch.where(presence.all()[:, None], common.detach(), kappa)
    return _Logits(clean, alone, swap, swap_again, kappa)


def _terms(
    model: FusionModel,
    logits: _Logits,
    presence: Presence,
    supervision: Supervision,
    *,
    explained: bool,
    complete: bool,
) -> InteractionLosses:
    shrinkage = SHRINKAGE if explained else 0.0
    terms: dict[str, Tensor] = {}
    unique = [e for e, name in enumerate(model.experts) if name.startswith("unique_")]

    def loss(of: Tensor) -> Tensor:  # (B,)
        each = supervision.losses(of, supervision.target)
        return each.mean(-1) if each.ndim == 2 else each

    for e, expert in enumerate(model.experts):
        clean = logits.clean[:, e]  # (B, C)
        if expert == "redundancy":
            alone = presence.mean({(m,): loss(z[:, e]) for m, z in logits.only.items()})
            terms[expert] = alone + presence.mean({(): squared(clean - logits.kappa)})
        elif expert == "synergy":
            products = {m: z[:, e] * logits.swap_again[m][:, e] for m, z in logits.swap.items()}
            pure = presence.mean({(m,): x.sum(-1) for m, x in products.items()})
            terms[expert] = pure + shrinkage * presence.mean({(): squared(clean)})
            if complete:
                others = logits.kappa + logits.clean[:, unique].sum(dim=1).detach()
                terms[expert] = terms[expert] + presence.mean({(): loss(others + clean)})
        else:
            m = expert.removeprefix("unique_")
            own = clean if model.sees[expert] == (m,) else logits.swap[m][:, e]
            predicted = loss(logits.kappa + own if explained else own)
            each = predicted + squared(clean - own) + shrinkage * squared(own)
            terms[expert] = presence.mean({(m,): each})
    return InteractionLosses(terms)


def centred(task: Task, logits: Tensor) -> Tensor:
    """Returns logits (..., C) minus their mean over classes; multi-label logits as they are.

    A softmax ignores what is added to every class; a sigmoid does not. In float32 at least.
    """
    logits = at_least_float32(logits)
    return logits if task.multilabel else logits - logits.mean(-1, keepdim=True)


def squared(x: Tensor) -> Tensor:
    """Returns |x|^2 (B,) of x (B, C)."""
    return x.square().sum(-1)


VARIANTS = {
    "predictive": predictive_losses,
    "residual": residual_losses,
    "complete": complete_losses,
}
"""The variants that need labels; `paper` and `swap` are `interaction_losses`."""

RESIDUAL = ("residual", "complete")
"""Those whose unique experts predict what the redundancy expert leaves."""

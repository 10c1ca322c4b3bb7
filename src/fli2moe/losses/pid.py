"""The `pid` router: weights are asked to follow a partial information decomposition (design 3.2).

Ours, for two modalities. Auxiliary heads estimate, for the true label y of a sample,

    a = log p(y|x1) - log p(y),  b = log p(y|x2) - log p(y),  c = log p(y|x1,x2) - log p(y),

which are split into r = RG_S(a, b, c) of design 3.6 if a > 0 else 0, u1 = (a - r)+, u2 = (b - r)+
and s = (c - max(a, b, 0))+. With t = (u1, u2, s, r) the router's loss is
.5 CE(sg t / sum t, weights) over the samples where sum t > .1. Of several labels each is split by
itself and the parts are added: evidence for one must not cancel evidence against another.

Cross-fitting: the training samples fall into two folds by their position in the training split
(even, odd), each fold has heads of its own, and what a head says of a sample counts only where it
was not trained on it. Heads read the projected tokens behind a stop-gradient; the projection is
the model's and sees both folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fli2moe.errors import InputError
from fli2moe.model import View, expert_names
from fli2moe.model.inputs import masked_mean
from fli2moe.task import Task

WEIGHT = 0.5
LEAST = 0.1  # nats of evidence in all, below which a sample says nothing about the router
FOLDS = 2


@dataclass(frozen=True, eq=False)
class Evidence:
    """a, b, c, each (B,), or (B, C) for several labels, in nats."""

    first: Tensor
    second: Tensor
    both: Tensor


@dataclass(frozen=True, eq=False)
class PidLosses:
    """Two scalars.

    Attributes:
        heads: mean task loss of the auxiliary heads on their own folds; trains them alone.
        router: .5 CE(sg t / sum t, weights); trains the router (and the projection it reads).
    """

    heads: Tensor
    router: Tensor


def pid_targets(evidence: Evidence) -> Tensor:
    """Returns t = (u1, u2, s, r), (B, 4) in nats, none of them negative."""
    a, b, c = evidence.first, evidence.second, evidence.both
    gap = torch.minimum(a, b) - (c - torch.maximum(a, b)).abs()
    redundant = torch.where((a > 0) & (b > 0), gap.clamp_min(0), 0.0)
    synergy = (c - torch.maximum(a, b).clamp_min(0)).clamp_min(0)
    unique = [(x - redundant).clamp_min(0) for x in (a, b)]
    targets = torch.stack([*unique, synergy, redundant], dim=-1)  # (B, 4) or (B, C, 4)
    return targets.sum(1) if targets.ndim == 3 else targets


def router_loss(targets: Tensor, weights: Tensor) -> Tensor:
    """Returns .5 CE(sg t / sum t, weights), the mean over samples with sum t > .1; 0 without any.

    Args:
        targets: (B, 4) as `pid_targets` returns them.
        weights: (B, 4) of the experts unique 1, unique 2, synergy, redundancy.
    """
    total = targets.detach().sum(-1)  # (B,)
    shares = targets.detach() / total.clamp_min(LEAST)[:, None]
    tiny = torch.finfo(weights.dtype).tiny
    each = -(shares * weights.clamp_min(tiny).log()).sum(-1)  # (B,)
    counted = total > LEAST
    return WEIGHT * torch.where(counted, each, 0.0).sum() / counted.sum().clamp_min(1)


def check_two(modalities: Sequence[str]) -> None:
    """Raises InputError when there are other than two modalities."""
    if len(modalities) != 2:
        found = f"pid with {len(modalities)} modalities ({', '.join(modalities)})"
        raise InputError("losses.router", found, "two modalities", "use router: learned")


def check_pid(modalities: Sequence[str], experts: Sequence[str], *, learned: bool) -> None:
    """Raises InputError when there is no weight for one of u1, u2, s and r, or none is learned.

    Args:
        modalities: of the model.
        experts: of the model.
        learned: whether its router has anything to learn.
    """
    check_two(modalities)
    names = expert_names(modalities)
    if tuple(experts) != names:
        found, expected = f"pid with the experts {', '.join(experts)}", ", ".join(names)
        raise InputError("losses.router", found, expected, "use model.experts: all")
    if not learned:
        remedy = "use model.router.kind: learned"
        raise InputError("losses.router", "pid with a uniform router", "one that learns", remedy)


class PidRouter(nn.Module):
    """The auxiliary heads of both folds, and the losses they give.

    Args:
        modalities: two, in the model's order.
        width: H.
        task: what y is.
        prior: (C,) logits of the training labels alone, as `prior_logits` returns them.
        hidden: width of the heads.

    Raises:
        InputError: when there are other than two modalities.
    """

    prior: Tensor

    def __init__(
        self, modalities: Sequence[str], width: int, task: Task, prior: Tensor, *, hidden: int = 64
    ) -> None:
        super().__init__()
        check_two(modalities)
        self.task = task
        self.register_buffer("prior", prior)
        first, second = modalities
        sources = ((first,), (second,), (first, second))
        self.heads = nn.ModuleList(
            EvidenceHead(source, width, hidden, len(prior))
            for source in FOLDS * sources  # fold 0's three, then fold 1's
        )

    def forward(self, view: View, target: Tensor, positions: Tensor, weights: Tensor) -> PidLosses:
        """Returns the losses of one batch.

        Args:
            view: the clean batch.
            target: as `Task.encode` returns it.
            positions: (B,) rows of the samples in the training split.
            weights: (B, 4) of the router, in the model's order of experts.
        """
        detached = View({m: x.detach() for m, x in view.projected.items()}, view.masks)
        logits = torch.stack([head(detached) for head in self.heads])  # (2 * 3, B, C)
        logits = logits.view(FOLDS, 3, *logits.shape[1:])
        fold = (positions % FOLDS).to(target.device)
        row = torch.arange(len(fold), device=fold.device)
        own = logits[fold, :, row]  # (B, 3, C)
        other = logits[1 - fold, :, row].detach()
        heads = torch.stack([self.task.losses(z, target).mean() for z in own.unbind(1)]).sum()
        targets = pid_targets(self._evidence(other, target))
        return PidLosses(heads, router_loss(targets, weights))

    def _evidence(self, logits: Tensor, target: Tensor) -> Evidence:
        """Returns log p(y|.) - log p(y) of logits (B, 3, C)."""
        baseline = self.task.losses(self.prior.to(logits).expand_as(logits[:, 0]), target)
        gains = [baseline - self.task.losses(z, target) for z in logits.unbind(1)]
        return Evidence(*gains)


class EvidenceHead(nn.Module):
    """Logits from some modalities' tokens: each by itself, their mean, then one hidden layer.

    It sees which tokens there are, not their order.
    """

    def __init__(self, modalities: Sequence[str], width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.tokens = nn.ModuleDict({m: nn.Linear(width, hidden) for m in modalities})
        self.mix = nn.Linear(len(modalities) * hidden, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, view: View) -> Tensor:
        """Returns logits (B, C)."""
        pooled = [
            masked_mean(F.gelu(self.tokens[m](view.projected[m])), view.masks[m])
            for m in self.modalities
        ]
        logits: Tensor = self.classifier(F.gelu(self.mix(torch.cat(pooled, dim=-1))))
        return logits


def prior_logits(task: Task, target: Tensor) -> Tensor:
    """Returns the logits (C,) that say log p(y), from training labels, one of each kind added.

    Args:
        task: what y is.
        target: of the training split, as `Task.encode` returns it.
    """
    if task.multilabel:
        return ((target.sum(0) + 1) / (len(target) + 2)).logit()
    count = torch.bincount(target, minlength=len(task.classes)) + 1.0
    return (count / count.sum()).log()

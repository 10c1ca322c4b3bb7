"""What a configuration asks of the experts and the router beside the task (design 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fli2moe.config import Config, LossConfig
from fli2moe.errors import InputError
from fli2moe.losses.balance import load_balance
from fli2moe.losses.decorrelation import COUPLED, FEWEST, WEIGHTS, decorrelation
from fli2moe.losses.interaction import (
    InteractionLosses,
    interaction_losses,
    replaced_views,
)
from fli2moe.losses.pid import PidRouter, check_pid, prior_logits
from fli2moe.losses.presence import Presence
from fli2moe.losses.variants import (
    RESIDUAL,
    VARIANTS,
    Supervision,
    check_residual,
    evidence_views,
)
from fli2moe.losses.views import Passes
from fli2moe.model import FusionModel, View, expert_names
from fli2moe.model.models import chosen_experts
from fli2moe.model.router import Router
from fli2moe.task import Task


@dataclass(frozen=True, eq=False)
class Step:
    """A training batch, or a part of one, after the model has run on it and its other views.

    Attributes:
        view: projected tokens and masks.
        passes: of the model; without other views the interaction losses do not act.
        supervision: task, labels and CE.
        rows: (B,) positions of the samples in the training split.
        epoch: from 0.
        presence: of the samples that have other views; None where there are none.
        share: the part's share of the batch's samples.
    """

    view: View
    passes: Passes
    supervision: Supervision
    rows: Tensor
    epoch: int
    presence: Presence | None = None
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class Demands:
    """The losses of one step beside the task's.

    Attributes:
        weighted: what is added to the task loss, lambda included.
        terms: each term as it is defined, without lambda and without gradient.
    """

    weighted: tuple[Tensor, ...] = ()
    terms: Mapping[str, Tensor] = field(default_factory=dict)

    def __add__(self, other: Demands) -> Demands:
        return Demands(self.weighted + other.weighted, {**self.terms, **other.terms})


class Objective(nn.Module):
    """Interaction losses, decorrelation, the router's loss: for models with interaction experts.

    A sparse mixture is asked for balanced loads instead, other models for nothing.

    `separable` losses are means over samples, or over those that have a modality: those of a batch
    are the sums of its parts', each times its share of them. `coupled` ones compare samples with
    each other and need all of them at once.

    Its parameters are the auxiliary heads of `router: pid`; they are no part of the model.

    Args:
        config: which losses, and their weights.
        model: with the experts that the losses are named after.
        task: what the labels are.
        target: labels of the training split, for log p(y).
        means: {modality: (D,)} training means of the features, for `replacement: mean`.

    Raises:
        InputError: when `router: pid` meets other than two modalities, fewer experts or a router
            that does not learn, or `variant: residual` lacks an expert.
    """

    def __init__(
        self,
        config: LossConfig,
        model: FusionModel,
        task: Task,
        target: Tensor,
        means: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.config, self.means = config, dict(means)
        self.named = set(model.experts) <= set(expert_names(model.modalities))
        self.experts = len(model.experts) if self.named else 0
        self.balances = model.routes and config.balance > 0
        self.pid: PidRouter | None = None
        if self.named and config.interaction and config.variant in RESIDUAL:
            check_residual(model.experts)
        if config.router == "pid" and self.named:
            learned = isinstance(model.router, Router)
            check_pid(model.modalities, model.experts, learned=learned)
            prior = prior_logits(task, target)
            self.pid = PidRouter(model.modalities, model.hidden, task, prior)

    def views(self, model: FusionModel, view: View, generator: torch.Generator) -> tuple[View, ...]:
        """Returns the other views that the interaction losses need; none where they are off.

        They are of the first `noise_fraction` of the samples; noise and partners come from
        `generator`, for the whole batch at once.
        """
        config = self.config
        if not self.named or not config.interaction:
            return ()
        part = view[slice(max(2, round(config.noise_fraction * len(view))))]
        if config.variant in VARIANTS:
            return tuple(evidence_views(part, generator))
        replacement = "swap" if config.variant == "swap" else config.replacement
        replaced = replaced_views(model, part, generator, replacement=replacement, means=self.means)
        return tuple(replaced.values())

    def presence(self, view: View, others: Sequence[View]) -> Presence | None:
        """Returns who counts in the interaction losses of a whole batch; None without `others`.

        Args:
            view: the clean batch.
            others: as `views` returns them.
        """
        if not others:
            return None
        part = view[slice(len(others[0]))]
        if self.config.variant in VARIANTS:
            return Presence.of(part)
        return Presence.of_replaced(part, dict(zip(view.masks, others, strict=True)))

    @property
    def couples(self) -> bool:
        """Whether a loss compares samples with each other."""
        decorrelated = self.experts > 1 and self.config.decorrelation in COUPLED
        return decorrelated or self.balances or self.pid is not None

    def forward(self, model: FusionModel, step: Step) -> Demands:
        """Returns all losses of one whole batch."""
        return self.separable(model, step) + self.coupled(step)

    def separable(self, model: FusionModel, step: Step) -> Demands:
        """Returns the losses that are means over samples, times the part's share."""
        found = Demands()
        if step.passes.latents:
            losses = self._interaction(model, step)
            weighted = self.config.interaction * losses.total
            found += Demands((weighted,), _detached(losses.terms))
        if self.config.decorrelation not in COUPLED:
            found += self._decorrelation(step)
        return found

    def coupled(self, step: Step) -> Demands:
        """Returns the losses that need every sample of the batch at once."""
        found = Demands()
        if self.config.decorrelation in COUPLED:
            found += self._decorrelation(step)
        if self.pid is not None:
            weights = step.passes.output.weights
            pid = self.pid(step.view, step.supervision.target, step.rows, weights)
            terms = {"router_heads": pid.heads, "router": pid.router}
            found += Demands((pid.heads, pid.router), _detached(terms))
        if self.balances:
            balance = load_balance(step.passes.output.routing or ())
            found += Demands((self.config.balance * balance,), _detached({"balance": balance}))
        return found

    def _decorrelation(self, step: Step) -> Demands:
        if self.config.decorrelation == "none" or self.experts < 2:
            return Demands()
        alike = step.share * decorrelation(self.config.decorrelation, step.passes.output.latents)
        weight = decorrelation_weight(self.config, step.epoch)
        return Demands((weight * alike,), _detached({"decorrelation": alike}))

    def _interaction(self, model: FusionModel, step: Step) -> InteractionLosses:
        config, others, presence = self.config, step.passes.latents, step.presence
        assert presence is not None  # for the type checker: there are other views
        rows = slice(len(others[0]))
        latents = step.passes.output.latents[rows]
        if config.variant in VARIANTS:
            supervision = replace(step.supervision, target=step.supervision.target[rows])
            return VARIANTS[config.variant](model, latents, others, presence, supervision)
        return interaction_losses(
            model,
            latents,
            dict(zip(model.modalities, others, strict=True)),
            presence,
            synergy_floor=config.synergy_floor,
            space=config.space,
        )


def _detached(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.detach() for name, x in terms.items()}


def decorrelation_weight(config: LossConfig, epoch: int) -> float:
    """Returns lambda_dec in one epoch: `barlow` kinds rise linearly from 0 in the first."""
    given = config.decorrelation_weight
    weight = WEIGHTS[config.decorrelation] if given is None else given
    if config.decorrelation.startswith("barlow") and epoch < config.barlow_warmup_epochs:
        return weight * epoch / config.barlow_warmup_epochs
    return weight


def check_losses(config: Config) -> None:
    """Raises InputError when losses do not fit the data or the training, before anything is read.

    A model without interaction experts uses none of them, so nothing is asked of it.
    """
    if config.model.name != "fli2moe":
        return
    modalities, losses = tuple(config.data.modalities), config.losses
    experts = chosen_experts(config.model, modalities)
    if losses.variant in RESIDUAL and losses.interaction:
        check_residual(experts)
    if losses.router == "pid":
        learned = config.model.router.kind == "learned"
        check_pid(modalities, experts, learned=learned)
    kind, size = losses.decorrelation, config.training.batch_size
    fewest = FEWEST.get(kind, 1)
    if size < fewest:
        remedy = f"losses.decorrelation is {kind}"
        raise InputError("training.batch_size", str(size), f"at least {fewest}", remedy)

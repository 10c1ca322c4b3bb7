"""What a configuration asks of the experts and the router beside the task (design 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fli2moe.config import Config, LossConfig
from fli2moe.errors import InputError
from fli2moe.losses.decorrelation import FEWEST, WEIGHTS, decorrelation
from fli2moe.losses.interaction import InteractionLosses, check_experts, interaction_losses
from fli2moe.losses.pid import PidRouter, check_two, prior_logits
from fli2moe.losses.variants import VARIANTS, Supervision
from fli2moe.losses.views import View
from fli2moe.model import FusionTransformer, MoEOutput
from fli2moe.task import Task


@dataclass(frozen=True, eq=False)
class Step:
    """One training batch after the model's forward pass.

    Attributes:
        view: projected tokens and masks.
        output: of the model.
        supervision: task, labels and CE.
        rows: (B,) positions of the samples in the training split.
        epoch: from 0.
        interaction: whether the interaction losses act yet (the gate is open).
    """

    view: View
    output: MoEOutput
    supervision: Supervision
    rows: Tensor
    epoch: int
    interaction: bool


@dataclass(frozen=True, eq=False)
class Demands:
    """The losses of one step beside the task's.

    Attributes:
        weighted: what is added to the task loss, lambda included.
        terms: each term as it is defined, without lambda and without gradient.
    """

    weighted: tuple[Tensor, ...]
    terms: Mapping[str, Tensor]


class Objective(nn.Module):
    """Interaction losses, decorrelation and the router's loss; nothing for a single expert.

    Its parameters are the auxiliary heads of `router: pid`; they are no part of the model.

    Args:
        config: which losses, and their weights.
        model: with the experts that the losses are named after.
        task: what the labels are.
        target: labels of the training split, for log p(y).
        means: {modality: (D,)} training means of the features, for `replacement: mean`.

    Raises:
        InputError: when `router: pid` meets other than two modalities, or other experts.
    """

    def __init__(
        self,
        config: LossConfig,
        model: FusionTransformer,
        task: Task,
        target: Tensor,
        means: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.config, self.means = config, dict(means)
        self.pid: PidRouter | None = None
        if config.router == "pid" and len(model.experts) > 1:
            check_two(model.modalities)
            check_experts(model)
            prior = prior_logits(task, target)
            self.pid = PidRouter(model.modalities, model.hidden, task, prior)

    def forward(self, model: FusionTransformer, step: Step, generator: torch.Generator) -> Demands:
        """Returns the losses of one step; noise and partners come from `generator`."""
        weighted: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        if len(model.experts) < 2:
            return Demands((), terms)
        if self.config.interaction and step.interaction:
            interaction = self._interaction(model, step, generator)
            weighted.append(self.config.interaction * interaction.total)
            terms |= interaction.terms
        if self.config.decorrelation != "none":
            alike = decorrelation(self.config.decorrelation, step.output.latents)
            weighted.append(decorrelation_weight(self.config, step.epoch) * alike)
            terms["decorrelation"] = alike
        if self.pid is not None:
            pid = self.pid(step.view, step.supervision.target, step.rows, step.output.weights)
            weighted += [pid.heads, pid.router]
            terms |= {"router_heads": pid.heads, "router": pid.router}
        return Demands(tuple(weighted), {name: x.detach() for name, x in terms.items()})

    def _interaction(
        self, model: FusionTransformer, step: Step, generator: torch.Generator
    ) -> InteractionLosses:
        config = self.config
        rows = slice(max(2, round(config.noise_fraction * len(step.view))))
        view, latents = step.view[rows], step.output.latents[rows]
        if config.variant in VARIANTS:
            supervision = replace(step.supervision, target=step.supervision.target[rows])
            return VARIANTS[config.variant](model, view, latents, supervision, generator)
        return interaction_losses(
            model,
            view.projected,
            view.masks,
            latents,
            generator,
            synergy_floor=config.synergy_floor,
            space=config.space,
            replacement="swap" if config.variant == "swap" else config.replacement,
            means=self.means,
        )


def decorrelation_weight(config: LossConfig, epoch: int) -> float:
    """Returns lambda_dec in one epoch: `barlow` kinds rise linearly from 0 in the first."""
    given = config.decorrelation_weight
    weight = WEIGHTS[config.decorrelation] if given is None else given
    if config.decorrelation.startswith("barlow") and epoch < config.barlow_warmup_epochs:
        return weight * epoch / config.barlow_warmup_epochs
    return weight


def check_losses(config: Config) -> None:
    """Raises InputError when losses do not fit the data or the training, before anything is read.

    A model without experts uses none of them, so nothing is asked of it.
    """
    if config.model.name == "dense":
        return
    if config.losses.router == "pid":
        check_two(tuple(config.data.modalities))
    kind, size = config.losses.decorrelation, config.training.batch_size
    fewest = FEWEST.get(kind, 1)
    if size < fewest:
        remedy = f"losses.decorrelation is {kind}"
        raise InputError("training.batch_size", str(size), f"at least {fewest}", remedy)

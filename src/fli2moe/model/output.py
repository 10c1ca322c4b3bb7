"""What every model returns, so that one evaluator serves all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Routing:
    """How a sparse layer spread each sample's real tokens over its N experts.

    Attributes:
        probabilities: (B, N) sum over the tokens of the gate's probabilities.
        first: (B, N) int64: number of tokens whose first choice the expert is.
    """

    probabilities: Tensor
    first: Tensor

    def to(self, device: torch.device | str) -> Routing:
        """Returns the same routing on `device`."""
        return Routing(self.probabilities.to(device), self.first.to(device))


@dataclass(frozen=True)
class MoEOutput:
    """The output of a model with E experts; the baselines have E = 1.

    Attributes:
        logits: (B, C) of the mixture.
        weights: (B, E) router weights, summing to 1.
        expert_logits: (B, E, C).
        latents: (B, E, M * H).
        attention: one (E, B, heads, T, T) map per layer, over the concatenation of the modalities
            in the model's order; None unless asked for, and where the model has no attention.
        routing: one per sparse layer; None for a model without any.
    """

    logits: Tensor
    weights: Tensor
    expert_logits: Tensor
    latents: Tensor
    attention: tuple[Tensor, ...] | None = None
    routing: tuple[Routing, ...] | None = None

    def to(self, device: torch.device | str) -> MoEOutput:
        """Returns the same output on `device`."""
        return MoEOutput(
            self.logits.to(device),
            self.weights.to(device),
            self.expert_logits.to(device),
            self.latents.to(device),
            None if self.attention is None else tuple(a.to(device) for a in self.attention),
            None if self.routing is None else tuple(r.to(device) for r in self.routing),
        )

    @property
    def head_logits(self) -> Tensor:
        """(B, 1 + E, C): the mixture first, then the experts, as in `model.heads`."""
        return torch.cat([self.logits[:, None], self.expert_logits], dim=1)

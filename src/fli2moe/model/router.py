"""Routers: from the modalities' mean projected tokens to one weight per expert (design 3.1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fli2moe.config import RouterConfig
from fli2moe.errors import InputError, unknown_name
from fli2moe.model.inputs import masked_mean
from fli2moe.precision import at_least_float32

KINDS = ("learned", "uniform")
NORMALIZE = ("l2", "none")


class Router(nn.Module):
    """softmax(MLP(concatenated modality means) / temperature).

    A modality that a sample lacks has the mean 0.

    Args:
        inputs: M * H.
        experts: E.
        hidden, layers, dropout: of the MLP (ReLU).
        temperature: > 0; higher is flatter.
        normalize: `l2` scales each modality's mean to length 1, `none` leaves it.

    Raises:
        InputError: when the temperature is not positive or `normalize` is unknown.
    """

    def __init__(
        self,
        inputs: int,
        experts: int,
        *,
        hidden: int = 256,
        layers: int = 2,
        dropout: float = 0.5,
        temperature: float = 2.0,
        normalize: str = "l2",
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise InputError("model.router.temperature", str(temperature), "a positive number")
        if normalize not in NORMALIZE:
            raise unknown_name("model.router.normalize", "normalisation", normalize, NORMALIZE)
        self.temperature, self.normalize = temperature, normalize
        steps: list[nn.Module] = []
        width = inputs
        for _ in range(layers - 1):
            steps += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
            width = hidden
        self.mlp = nn.Sequential(*steps, nn.Linear(width, experts))

    def forward(self, projected: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """Returns weights (B, E) from projected tokens {(B, T, H)} and masks {(B, T)}.

        In float32 at least, also under mixed precision.
        """
        means = [masked_mean(x, masks[m]) for m, x in projected.items()]
        if self.normalize == "l2":
            means = [F.normalize(mean, dim=-1) for mean in means]
        logits: Tensor = self.mlp(torch.cat(means, dim=-1))
        return (at_least_float32(logits) / self.temperature).softmax(-1)


class UniformRouter(nn.Module):
    """The weight 1 / E for every expert and sample (I2MoE's ablation); it has no parameters.

    Args:
        experts: E.
    """

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.experts = experts

    def forward(self, projected: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """Returns weights (B, E) in float32 at least; arguments as those of `Router`."""
        first = at_least_float32(next(iter(projected.values())))
        return first.new_full((len(first), self.experts), 1 / self.experts)


def make_router(config: RouterConfig, inputs: int, experts: int) -> Router | UniformRouter | None:
    """Returns the router that a configuration names; None for a single expert, which needs none.

    Args:
        config: kind and options.
        inputs: M * H.
        experts: E.

    Raises:
        InputError: as `Router`, or when the kind is unknown.
    """
    if config.kind not in KINDS:
        raise unknown_name("model.router.kind", "router", config.kind, KINDS)
    if experts == 1:
        return None
    if config.kind == "uniform":
        return UniformRouter(experts)
    return Router(inputs, experts, **config.model_dump(exclude={"kind"}))

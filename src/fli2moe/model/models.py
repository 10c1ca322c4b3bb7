"""The models by name: FL-I2MoE and the dense baseline, built from a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from fli2moe.config import ModelConfig
from fli2moe.errors import unknown_name
from fli2moe.model.fusion import FusionTransformer, expert_names
from fli2moe.model.router import Router


class FLI2MoE(FusionTransformer):
    """The mixture of interaction experts: one unique expert per modality, synergy, redundancy.

    Args:
        widths: {modality: D}.
        classes: C.
        config: sizes and router options.
    """

    def __init__(self, widths: Mapping[str, int], classes: int, config: ModelConfig) -> None:
        experts = expert_names(tuple(widths))
        router = Router(len(widths) * config.hidden, len(experts), **config.router.model_dump())
        super().__init__(widths, classes, experts, config, router)


class DenseTransformer(FusionTransformer):
    """The paper's baseline: the same encoders and one transformer, no experts (E = 1)."""

    def __init__(self, widths: Mapping[str, int], classes: int, config: ModelConfig) -> None:
        super().__init__(widths, classes, ("dense",), config)


MODELS: dict[str, Callable[[Mapping[str, int], int, ModelConfig], FusionTransformer]] = {
    "fli2moe": FLI2MoE,
    "dense": DenseTransformer,
}


def build_model(config: ModelConfig, widths: Mapping[str, int], classes: int) -> FusionTransformer:
    """Returns the model that `config.name` names, freshly initialised.

    Raises:
        InputError: when the name is unknown.
    """
    if config.name not in MODELS:
        raise unknown_name("model.name", "model", config.name, MODELS)
    return MODELS[config.name](widths, classes, config)


def parameter_count(model: nn.Module) -> int:
    """Returns the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

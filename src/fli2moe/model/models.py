"""The models by name: FL-I2MoE and its baselines, built from a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from torch import nn

from fli2moe.config import ModelConfig
from fli2moe.errors import InputError, unknown_name
from fli2moe.model.base import FusionModel
from fli2moe.model.early import EarlyFusion
from fli2moe.model.fusion import FusionTransformer, expert_names
from fli2moe.model.router import UniformRouter, make_router
from fli2moe.model.sparse import SparseBank


class FLI2MoE(FusionTransformer):
    """The mixture of interaction experts: one unique expert per modality, synergy, redundancy.

    Args:
        widths: {modality: D}.
        classes: C.
        config: sizes, router, which experts, and whether unique ones see their modality only.

    Raises:
        InputError: as `FusionTransformer` and `chosen_experts`.
    """

    def __init__(self, widths: Mapping[str, int], classes: int, config: ModelConfig) -> None:
        experts = chosen_experts(config, tuple(widths))
        router = make_router(config.router, len(widths) * config.hidden, len(experts))
        own = {f"unique_{m}": [m] for m in widths} if config.isolated else None
        super().__init__(widths, classes, experts, config, router, own)


def chosen_experts(config: ModelConfig, modalities: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the mixture's experts, in the order of `expert_names`.

    Raises:
        InputError: when there is none, or a name is unknown (with the closest one).
    """
    names = expert_names(modalities)
    if config.experts == "all":
        return names
    for name in config.experts:
        if name not in names:
            raise unknown_name("model.experts", "expert", name, names)
    if not config.experts:
        raise InputError("model.experts", "no expert", f"some of {', '.join(names)}")
    return tuple(name for name in names if name in config.experts)


class DenseTransformer(FusionTransformer):
    """The paper's baseline: the same encoders and one transformer, no experts (E = 1)."""

    def __init__(self, widths: Mapping[str, int], classes: int, config: ModelConfig) -> None:
        super().__init__(widths, classes, ("dense",), config)


class SparseMoETransformer(FusionTransformer):
    """The general sparse mixture: the dense baseline with a sparse mixture as feed-forward (E = 1).

    Its N feed-forward experts are no interaction experts: tokens choose them, layer by layer.
    """

    routes: ClassVar[bool] = True

    def __init__(self, widths: Mapping[str, int], classes: int, config: ModelConfig) -> None:
        bank = SparseBank(len(widths), config)
        super().__init__(widths, classes, ("sparse_moe",), config, bank=bank)


class LateFusion(FusionTransformer):
    """One transformer per modality that sees nothing else, `only_<modality>`; their mean logits."""

    def __init__(self, widths: Mapping[str, int], classes: int, config: ModelConfig) -> None:
        sees = {f"only_{m}": [m] for m in widths}
        super().__init__(widths, classes, tuple(sees), config, UniformRouter(len(sees)), sees)


MODELS: dict[str, Callable[[Mapping[str, int], int, ModelConfig], FusionModel]] = {
    "fli2moe": FLI2MoE,
    "dense": DenseTransformer,
    "sparse_moe": SparseMoETransformer,
    "late_fusion": LateFusion,
    "early_fusion": EarlyFusion,
}


def build_model(config: ModelConfig, widths: Mapping[str, int], classes: int) -> FusionModel:
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

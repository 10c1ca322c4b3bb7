"""Models: the expert bank, the router, FL-I2MoE and its baselines."""

from fli2moe.model.base import MIXTURE, FusionModel, masks_of
from fli2moe.model.coalitions import TwoStates
from fli2moe.model.early import EarlyFusion
from fli2moe.model.fusion import FusionTransformer, expert_names
from fli2moe.model.inputs import check_baseline, check_batch
from fli2moe.model.models import (
    MODELS,
    DenseTransformer,
    FLI2MoE,
    LateFusion,
    SparseMoETransformer,
    build_model,
    parameter_count,
)
from fli2moe.model.modes import undisturbed
from fli2moe.model.output import MoEOutput, Routing
from fli2moe.model.pretrained import from_pretrained, save_pretrained
from fli2moe.model.views import View, shares_rows

__all__ = [
    "MIXTURE",
    "MODELS",
    "DenseTransformer",
    "EarlyFusion",
    "FLI2MoE",
    "FusionModel",
    "FusionTransformer",
    "LateFusion",
    "MoEOutput",
    "Routing",
    "SparseMoETransformer",
    "TwoStates",
    "View",
    "build_model",
    "check_baseline",
    "check_batch",
    "expert_names",
    "from_pretrained",
    "masks_of",
    "parameter_count",
    "save_pretrained",
    "shares_rows",
    "undisturbed",
]

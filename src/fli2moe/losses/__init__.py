"""Losses beside the task's: what makes an expert worth its name (design 3.2)."""

from fli2moe.losses.decorrelation import DECORRELATIONS, decorrelation, effective_rank
from fli2moe.losses.interaction import (
    REPLACEMENTS,
    SPACES,
    InteractionLosses,
    interaction_losses,
    noisy_latents,
    replaced_latents,
)
from fli2moe.losses.objective import Objective, Step, check_losses
from fli2moe.losses.pid import PidLosses, PidRouter
from fli2moe.losses.variants import VARIANTS, Supervision, predictive_losses, residual_losses
from fli2moe.losses.views import View, derangement, only, swapped

__all__ = [
    "DECORRELATIONS",
    "REPLACEMENTS",
    "SPACES",
    "VARIANTS",
    "InteractionLosses",
    "Objective",
    "PidLosses",
    "PidRouter",
    "Step",
    "Supervision",
    "View",
    "check_losses",
    "decorrelation",
    "derangement",
    "effective_rank",
    "interaction_losses",
    "noisy_latents",
    "only",
    "predictive_losses",
    "replaced_latents",
    "residual_losses",
    "swapped",
]

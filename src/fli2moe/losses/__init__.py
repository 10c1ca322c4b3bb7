"""Losses beside the task's: what makes an expert worth its name (design 3.2)."""

from fli2moe.losses.interaction import (
    REPLACEMENTS,
    SPACES,
    InteractionLosses,
    interaction_losses,
    noisy_latents,
    replaced_latents,
)
from fli2moe.losses.views import View, derangement, only, swapped

__all__ = [
    "REPLACEMENTS",
    "SPACES",
    "InteractionLosses",
    "View",
    "derangement",
    "interaction_losses",
    "noisy_latents",
    "only",
    "replaced_latents",
    "swapped",
]

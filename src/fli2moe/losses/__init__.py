"""Losses beside the task's: what makes an expert worth its name (design 3.2)."""

from fli2moe.losses.decorrelation import DECORRELATIONS, decorrelation, effective_rank
from fli2moe.losses.interaction import (
    REPLACEMENTS,
    SPACES,
    InteractionLosses,
    interaction_losses,
    replaced_views,
)
from fli2moe.losses.objective import Objective, Step, check_losses
from fli2moe.losses.pid import PidLosses, PidRouter
from fli2moe.losses.presence import Presence
from fli2moe.losses.variants import (
    VARIANTS,
    Supervision,
    complete_losses,
    evidence_views,
    predictive_losses,
    residual_losses,
)
from fli2moe.losses.views import (
    Passes,
    derangement,
    only,
    run_views,
    swapped,
)
from fli2moe.model import View

__all__ = [
    "DECORRELATIONS",
    "REPLACEMENTS",
    "SPACES",
    "VARIANTS",
    "InteractionLosses",
    "Objective",
    "Passes",
    "PidLosses",
    "PidRouter",
    "Presence",
    "Step",
    "Supervision",
    "View",
    "check_losses",
    "complete_losses",
    "decorrelation",
    "derangement",
    "effective_rank",
    "evidence_views",
    "interaction_losses",
    "only",
    "predictive_losses",
    "replaced_views",
    "residual_losses",
    "run_views",
    "swapped",
]

"""Pair probes: which pairs of players complement each other, and which are backups.

`game -> pairs -> (laws: contexts) -> corners -> terms -> mean and standard error`: an estimator
chooses the coalitions, `terms` says what they mean, `estimate` holds the public functions.
"""

from fli2moe.explain.probes.estimate import (
    METHODS,
    pair_interactions,
    redundancy_gaps,
    shapley_interactions,
)
from fli2moe.explain.probes.exact import exact_interactions
from fli2moe.explain.probes.laws import LAWS
from fli2moe.explain.probes.share import InteractionShare, interaction_share
from fli2moe.explain.scores import Interactions

__all__ = [
    "LAWS",
    "METHODS",
    "InteractionShare",
    "Interactions",
    "exact_interactions",
    "interaction_share",
    "pair_interactions",
    "redundancy_gaps",
    "shapley_interactions",
]

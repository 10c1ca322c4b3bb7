"""Explaining a trained model: attribution, faithfulness and pair probes."""

from fli2moe.explain.attribution import Attribution, attribute
from fli2moe.explain.coarse_to_fine import CoarseToFine, coarse_to_fine
from fli2moe.explain.explanation import Explanation, TokenScores
from fli2moe.explain.faithfulness import FaithfulnessCurve, top_k_curve
from fli2moe.explain.game import TokenGame
from fli2moe.explain.global_view import GlobalView, global_view
from fli2moe.explain.grouping import GroupedGame, blocks, group_to_budget
from fli2moe.explain.probes import (
    Interactions,
    InteractionShare,
    exact_interactions,
    interaction_share,
    pair_interactions,
    redundancy_gaps,
    shapley_interactions,
)
from fli2moe.explain.scores import Pair, PairScores

__all__ = [
    "Attribution",
    "CoarseToFine",
    "Explanation",
    "FaithfulnessCurve",
    "GlobalView",
    "GroupedGame",
    "InteractionShare",
    "Interactions",
    "Pair",
    "PairScores",
    "TokenGame",
    "TokenScores",
    "attribute",
    "blocks",
    "coarse_to_fine",
    "exact_interactions",
    "global_view",
    "group_to_budget",
    "interaction_share",
    "pair_interactions",
    "redundancy_gaps",
    "shapley_interactions",
    "top_k_curve",
]

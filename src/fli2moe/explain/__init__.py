"""Explaining a trained model: attribution, faithfulness and pair probes, all functions of a game."""

from fli2moe.explain.explanation import Explanation, TokenScores
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes import (
    Interactions,
    exact_interactions,
    redundancy_gaps,
    shapley_interactions,
)
from fli2moe.explain.scores import Pair, PairScores

__all__ = [
    "Explanation",
    "Interactions",
    "Pair",
    "PairScores",
    "TokenGame",
    "TokenScores",
    "exact_interactions",
    "redundancy_gaps",
    "shapley_interactions",
]

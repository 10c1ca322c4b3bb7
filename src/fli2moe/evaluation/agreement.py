"""How alike two explanations of one sample are: importances and rankings of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fli2moe.evaluation.importance import player_sums, served_methods
from fli2moe.evaluation.split import TestSplit
from fli2moe.evaluation.statistics import mean_and_error
from fli2moe.explain.attribution import attribute
from fli2moe.explain.concentration import rank_correlation, top_overlap
from fli2moe.explain.pieces import has_pairs
from fli2moe.explain.probes import pair_interactions
from fli2moe.explain.scores import PairScores
from fli2moe.model import FusionModel
from fli2moe.predictor import Predictor

TOP = 10  # pairs
PAIRS = {"SII": "sii", "redundancy gap": "redundancy"}
Agreement = dict[str, float]
"""{measure: value}; NaN where one is not defined."""


@dataclass(frozen=True, eq=False)
class Explained:
    """What is compared of one sample, target and model: of the mixture alone.

    Attributes:
        importance: {method: (P,)} of players.
        pairs: {`SII` or `redundancy gap`: scores of the mixture}.
    """

    importance: Mapping[str, NDArray[np.float64]]
    pairs: Mapping[str, PairScores]


def cheap_methods(predictor: Predictor) -> list[str]:
    """Returns the config's attribution methods but integrated gradients, which cost most."""
    served = served_methods(predictor)
    return [m for m in served if m not in ("integrated_gradients", "random")] or served


def importance_of(
    predictor: Predictor, model: FusionModel, test: TestSplit, i: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Returns {method: (P,)} importance of one sample's players under `model`'s mixture.

    The target is what the predictor itself predicts, whatever `model` says.
    """
    tokens, players = test.tokens(i), predictor.players(test.samples[i].inputs, test.tokens(i))
    weights = predictor.task.target_weights([test.targets[i]])
    found = {}
    for method in cheap_methods(predictor):
        scores = attribute(
            model,
            tokens,
            weights,
            method,
            baseline=predictor.attribution_baseline(),
            steps=predictor.config.explain.steps,
            seed=seed,
        ).scores
        found[method] = player_sums(players, scores[model.heads[0]])
    return found


def pairs_of(
    predictor: Predictor, test: TestSplit, i: int, seed: int, budget: int
) -> dict[str, PairScores]:
    """Returns {`SII`, `redundancy gap`: scores of the mixture} of one sample's first target."""
    inputs, tokens = test.samples[i].inputs, test.tokens(i)
    label = predictor.task.classes[test.targets[i][0]]
    head = predictor.model.heads[0]
    game = predictor.game(inputs, label, tokens=tokens).on(head)
    found = pair_interactions(game, budget, seed=seed, heads=[head])
    return {name: getattr(found, field) for name, field in PAIRS.items()}


def measurable(predictor: Predictor, test: TestSplit, chosen: Sequence[int]) -> list[int]:
    """Returns the chosen samples that have a cross-modal pair."""
    return [
        i for i in chosen if has_pairs(predictor.players(test.samples[i].inputs, test.tokens(i)))
    ]


def agree(first: Explained, second: Explained) -> Agreement:
    """Returns Spearman's correlation and the top overlap of importances and of pairs."""
    found: Agreement = {}
    for method, importance in first.importance.items():
        found[f"{method}: rank correlation"] = rank_correlation(
            importance, second.importance[method]
        )
        found[f"{method}: overlap of top 10%"] = top_overlap(importance, second.importance[method])
    for name, scores in first.pairs.items():
        found |= agree_on_pairs(name, scores, second.pairs[name])
    return found


def agree_on_pairs(name: str, first: PairScores, second: PairScores) -> Agreement:
    """Returns both measures over the pairs that both score; the top 10 are of each by itself."""
    values = [_by_pair(scores) for scores in (first, second)]
    both = [pair for pair in values[0] if pair in values[1]]
    a, b = (np.array([v[pair] for pair in both]) for v in values)
    tops = [set(_first(scores)) for scores in (first, second)]
    union = len(tops[0] | tops[1])
    return {
        f"{name}: rank correlation": rank_correlation(a, b) if len(both) > 1 else np.nan,
        f"{name}: overlap of top {TOP}": len(tops[0] & tops[1]) / union if union else np.nan,
    }


def means(found: Sequence[Agreement]) -> dict[str, dict[str, Any]]:
    """Returns {measure: mean and error over samples}."""
    names = dict.fromkeys(name for one in found for name in one)
    return {name: mean_and_error([one.get(name, np.nan) for one in found]) for name in names}


def _by_pair(scores: PairScores) -> dict[tuple[int, int], float]:
    rows = zip(scores.first.tolist(), scores.second.tolist(), scores.value.tolist(), strict=True)
    return {(i, j): value for i, j, value in rows}


def _first(scores: PairScores) -> list[tuple[int, int]]:
    best = scores.select(scores.order()[:TOP])
    return list(zip(best.first.tolist(), best.second.tolist(), strict=True))

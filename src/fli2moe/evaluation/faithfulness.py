"""Top-K% faithfulness of the mixture's attribution over the test samples (design 3.4)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.evaluation.split import TestSplit
from fli2moe.evaluation.statistics import mean_and_error
from fli2moe.explain.attribution import attribute, usable_methods
from fli2moe.explain.faithfulness import PERCENTS, FaithfulnessCurve, top_k_curve
from fli2moe.explain.players import sum_tokens
from fli2moe.features import Progress
from fli2moe.predictor import Predictor
from fli2moe.tokens import Player

logger = logging.getLogger(__name__)

_CURVES = (
    "comprehensiveness",
    "sufficiency",
    "random_comprehensiveness",
    "random_sufficiency",
)
_SUMMARIES = (
    "aopc_comprehensiveness",
    "aopc_sufficiency",
    "comprehensiveness_gap",
    "sufficiency_gap",
)


def faithfulness(
    predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> dict[str, Any]:
    """Returns {method: {modality: curves, AOPC and gaps with standard errors}}.

    Samples whose modality has no content token are left out of that modality: `n` says how many
    were measured, `left_out` how many were not. Methods that the model cannot serve are left out.
    """
    options, methods = predictor.config.evaluation, served_methods(predictor)
    chosen = test.choose(range(len(test.samples)), options.samples, seed)
    curves: dict[tuple[str, str], list[FaithfulnessCurve]] = {}
    for done, i in enumerate(chosen):
        sample, tokens = test.samples[i], test.tokens(i)
        names = [predictor.task.classes[c] for c in test.targets[i]]
        players = predictor.players(sample.inputs, tokens)
        if len(players) > 1:
            game = predictor.game(
                sample.inputs, names, tokens=tokens, score="probability", players=players
            )
            weights = predictor.task.target_weights([test.targets[i]])
            for method in methods:
                scores = attribute(
                    predictor.model,
                    tokens,
                    weights,
                    method,
                    baseline=predictor.attribution_baseline(),
                    steps=predictor.config.explain.steps,
                    reduction=predictor.config.explain.reduction,
                    seed=seed + i,  # else `random` would rank every sample's tokens alike
                ).scores[predictor.model.heads[0]]
                ranking = player_sums(players, scores)
                for m in {p.modality: None for p in players}:
                    curve = top_k_curve(game, ranking, m, draws=options.random_draws, seed=seed + i)
                    curves.setdefault((method, m), []).append(curve)
        if progress:
            progress("faithfulness", done + 1, len(chosen))
    result: dict[str, Any] = {"percents": list(PERCENTS)}
    for method in methods:
        result[method] = {
            m: _summary(curves[method, m], len(chosen))
            for m in predictor.model.modalities
            if (method, m) in curves
        }
    return result


def served_methods(predictor: Predictor) -> list[str]:
    """Returns the config's methods that the model can serve; one logged line names the others."""
    wanted, usable = predictor.config.evaluation.attributions, usable_methods(predictor.model)
    if missing := [method for method in wanted if method not in usable]:
        name = predictor.config.model.name
        logger.warning("%s has no attention maps: left out %s", name, ", ".join(missing))
    return [method for method in wanted if method in usable]


def player_sums(players: Sequence[Player], scores: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """Returns (P,) the sum of each player's token scores, from {modality: (1, T)}."""
    values = {(m, t): value for m, x in scores.items() for t, value in enumerate(x[0].tolist())}
    return np.array(sum_tokens(players, values))


def _summary(curves: Sequence[FaithfulnessCurve], chosen: int) -> dict[str, Any]:
    summary: dict[str, Any] = {
        name: np.mean([getattr(c, name) for c in curves], axis=0).tolist() for name in _CURVES
    }
    summary |= {"n": len(curves), "left_out": chosen - len(curves)}
    for name in _SUMMARIES:
        summary[name] = mean_and_error([getattr(c, name) for c in curves])
    return summary

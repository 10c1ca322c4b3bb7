"""Planted recovery: whether the top pair names the causes the data were made with (design 3.9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fli2moe.data.sample import Cause
from fli2moe.evaluation.statistics import mean_and_error
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes import redundancy_gaps, shapley_interactions
from fli2moe.explain.scores import PairScores
from fli2moe.features import Progress
from fli2moe.predictor import Predictor
from fli2moe.tokens import Player

if TYPE_CHECKING:
    from fli2moe.evaluation.evaluate import TestSplit

ESTIMATORS = {"synergy": shapley_interactions, "redundancy": redundancy_gaps}


def planted_recovery(
    predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> dict[str, Any]:
    """Returns precision@1 and average precision of the recovered pairs, per interaction and head.

    Only samples that carry the label and are predicted to carry it count: the truth is the pair of
    causes there, the target is that label. Synergy is ranked by SII, redundancy by the redundancy
    gap, among all cross-modal pairs. Empty for data without planted causes.
    """
    options = predictor.config.evaluation
    result: dict[str, Any] = {}
    for label in predictor.task.classes:
        column = predictor.task.index(label)
        found = [
            (i, cause)
            for i, sample in enumerate(test.samples)
            for cause in sample.causes
            if cause.label == label
            and cause.interaction in ESTIMATORS
            and label in sample.labels
            and column in test.targets[i]
        ]
        if not found:
            continue
        kind = found[0][1].interaction
        causes = dict(found)
        hits: dict[str, list[tuple[float, float]]] = {h: [] for h in predictor.model.heads}
        chosen = test.choose([i for i, _ in found], options.pair_samples, seed)
        for done, i in enumerate(chosen):
            game = predictor.game(test.samples[i].inputs, label, tokens=test.tokens(i))
            truth = true_pairs(game, causes[i])
            scores = ESTIMATORS[kind](game, options.budget, seed=seed + i)
            for head in hits:
                hits[head].append(_recovery(scores.for_head(head), truth))
            if progress:
                progress(f"planted {kind}", done + 1, len(chosen))
        figures = {head: _figures(values) for head, values in hits.items()}
        mixture = figures.pop(predictor.model.heads[0])
        result[kind] = {"label": label, **mixture, "experts": figures}
    return result


def true_pairs(game: TokenGame, cause: Cause) -> NDArray[np.bool_]:
    """Returns (P, P) bool: cross-modal pairs of players that both lie on the cause's spans."""
    on_cause = np.array([_lies_on(p, cause.spans) for p in game.players])
    modality = np.array([p.modality for p in game.players])
    across: NDArray[np.bool_] = modality[:, None] != modality[None]
    truth: NDArray[np.bool_] = across & on_cause[:, None] & on_cause[None]
    return truth


def _lies_on(player: Player, causes: Mapping[str, tuple[tuple[float, ...], ...]]) -> bool:
    """Whether a span of the player overlaps a cause of its modality."""
    return any(
        all(a < d and c < b for (a, b), (c, d) in zip(_axes(mine), _axes(theirs), strict=True))
        for mine in player.spans
        for theirs in causes.get(player.modality, ())
    )


def _axes(span: tuple[float, ...]) -> list[tuple[float, float]]:
    """(start, end) along each axis: one for characters, two for a pixel box."""
    half = len(span) // 2
    return list(zip(span[:half], span[half:], strict=True))


def _recovery(scores: PairScores, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """(precision@1, average precision) of the ranking of one sample's pairs."""
    order = scores.order()
    relevant = truth[scores.first[order], scores.second[order]]
    if not relevant.any():
        return 0.0, 0.0
    ranks = np.flatnonzero(relevant) + 1
    precision = np.arange(1, len(ranks) + 1) / ranks
    return float(relevant[0]), float(precision.sum() / truth[np.triu_indices(len(truth))].sum())


def _figures(values: list[tuple[float, float]]) -> dict[str, Any]:
    first = mean_and_error([v[0] for v in values])
    average = mean_and_error([v[1] for v in values])
    return {
        "precision_at_1": first["mean"],
        "precision_at_1_error": first["standard_error"],
        "average_precision": average["mean"],
        "average_precision_error": average["standard_error"],
        "n": first["n"],
    }

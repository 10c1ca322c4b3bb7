"""What every attribution method finds important in test samples, for all parts that ask."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.evaluation.split import TestSplit
from fli2moe.explain.attribution import attribute, usable_methods
from fli2moe.explain.players import sum_tokens
from fli2moe.features import Progress
from fli2moe.model import FusionModel
from fli2moe.predictor import Predictor
from fli2moe.tokens import Player

logger = logging.getLogger(__name__)

COSTLY = ("integrated_gradients",)
"""Methods of the detailed samples only: one costs as much as all of a sample's curves."""


@dataclass(frozen=True, eq=False)
class Importance:
    """The attributions of one test sample.

    Attributes:
        index: of the sample in the test split.
        detailed: whether it is one of the `evaluation.head_samples` samples on which every head,
            baseline and costly method is measured.
        players: the sample's words, patches and positions.
        content: {modality: (T,) bool} content tokens.
        scores: {method: {head: {modality: (1, T)}}}; costly methods only where `detailed`.
    """

    index: int
    detailed: bool
    players: tuple[Player, ...]
    content: Mapping[str, NDArray[np.bool_]]
    scores: Mapping[str, Mapping[str, Mapping[str, Tensor]]]


def importances(
    predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> list[Importance]:
    """Attributes each chosen sample's targets by the config's methods, as explanations do.

    There are `evaluation.samples` samples, a seeded choice, and among them `head_samples` detailed
    ones. Methods that the model cannot serve are left out. What was attributed last is kept as long
    as the split is, for the next part that asks for the same.
    """
    kept = _LATEST.get(test)
    if kept is None or kept[0] is not predictor or kept[1] != seed:
        _LATEST[test] = kept = (predictor, seed, _attributed(predictor, test, seed, progress))
    return kept[2]


_LATEST: WeakKeyDictionary[TestSplit, tuple[Predictor, int, list[Importance]]]
_LATEST = WeakKeyDictionary()


def _attributed(
    predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> list[Importance]:
    options, methods = predictor.config.evaluation, served_methods(predictor)
    chosen = test.choose(range(len(test.samples)), options.samples, seed)
    detailed = set(test.choose(chosen, options.head_samples, seed))
    found = []
    for done, i in enumerate(chosen):
        tokens, weights = test.tokens(i), predictor.task.target_weights([test.targets[i]])
        scores = {
            method: attribute(
                predictor.model,
                tokens,
                weights,
                method,
                baseline=predictor.attribution_baseline(),
                steps=predictor.config.explain.steps,
                reduction=predictor.config.explain.reduction,
                seed=seed + i,  # else `random` would rank every sample's tokens alike
            ).scores
            for method in methods
            if i in detailed or method not in COSTLY
        }
        content = {m: t.content[0].cpu().numpy() for m, t in tokens.items()}
        players = predictor.players(test.samples[i].inputs, tokens)
        found.append(Importance(i, i in detailed, players, content, scores))
        if progress:
            progress("attribution", done + 1, len(chosen))
    return found


def served_methods(predictor: Predictor) -> list[str]:
    """Returns the config's methods that the model can serve; one logged line names the others."""
    wanted, usable = predictor.config.evaluation.attributions, usable_methods(predictor.model)
    if missing := [method for method in wanted if method not in usable]:
        name = predictor.config.model.name
        logger.warning("%s has no attention maps: left out %s", name, ", ".join(missing))
    return [method for method in wanted if method in usable]


def seen_by(model: FusionModel, head: str) -> list[str]:
    """Returns the modalities that an expert, or any of the mixture's, sees, in their order."""
    experts = (head,) if head in model.experts else model.experts
    return [m for m in model.modalities if any(m in model.sees[e] for e in experts)]


def player_sums(players: Sequence[Player], scores: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """Returns (P,) the sum of each player's token scores, from {modality: (1, T)}."""
    values = {(m, t): value for m, x in scores.items() for t, value in enumerate(x[0].tolist())}
    return np.array(sum_tokens(players, values))

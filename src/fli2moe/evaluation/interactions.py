"""How much of each head's output interactions explain, over test samples and predicted labels."""

from __future__ import annotations

from typing import Any

from fli2moe.evaluation.part import Part
from fli2moe.evaluation.split import TestSplit
from fli2moe.evaluation.statistics import mean_and_error, mean_of
from fli2moe.explain.probes import interaction_share
from fli2moe.explain.probes.share import LEAST_MASKS
from fli2moe.features import Progress
from fli2moe.predictor import Predictor

LEAST_EVALUATIONS = 2 * LEAST_MASKS


def interaction_shares(
    predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> Part:
    """Returns {head: mean share of the variance of v(S) that interactions explain, with its error}.

    Coalitions hold each player with probability 1/2. Every target of a sample (see `TestSplit`) is
    measured by itself, with an equal part of the budget (16 evaluations at least); the mean over a
    sample's targets is its value, so that the error is over samples, which `n` counts. For
    multi-label, `per_label` holds {label: {head: the same over the samples with that target}}. Left
    out are a sample with fewer than two players and a target whose score never varies.
    """
    options, task, heads = predictor.config.evaluation, predictor.task, predictor.model.heads
    chosen = test.choose(range(len(test.samples)), options.pair_samples, seed)
    shares: dict[str, list[float]] = {head: [] for head in heads}
    by_label: dict[str, dict[str, list[float]]] = {
        label: {head: [] for head in heads} for label in task.classes
    }
    for done, i in enumerate(chosen):
        found = _of_sample(predictor, test, i, seed + i)
        for head in heads:
            shares[head].append(mean_of([of_target[head] for of_target in found.values()]))
            for label, of_target in found.items():
                by_label[label][head].append(of_target[head])
        if progress:
            progress("interaction share", done + 1, len(chosen))
    result: dict[str, Any] = {head: mean_and_error(values) for head, values in shares.items()}
    if task.multilabel:
        result["per_label"] = {
            label: {head: mean_and_error(values) for head, values in by_head.items()}
            for label, by_head in by_label.items()
        }
    return Part(result)


def _of_sample(
    predictor: Predictor, test: TestSplit, i: int, seed: int
) -> dict[str, dict[str, float]]:
    """Returns {label: {head: share}} of one sample's targets, each from the same coalitions."""
    inputs, tokens = test.samples[i].inputs, test.tokens(i)
    players = predictor.players(inputs, tokens)
    if len(players) < 2:
        return {}
    budget = max(predictor.config.evaluation.budget // len(test.targets[i]), LEAST_EVALUATIONS)
    found = {}
    for label in [predictor.task.classes[c] for c in test.targets[i]]:
        game = predictor.game(inputs, label, tokens=tokens, players=players)
        found[label] = {
            head: interaction_share(game.on(head), budget, seed).interactions
            for head in predictor.model.heads
        }
    return found

"""How much of each head's output interactions explain, over test samples."""

from __future__ import annotations

from typing import Any

from fli2moe.evaluation.split import TestSplit
from fli2moe.evaluation.statistics import mean_and_error
from fli2moe.explain.probes import interaction_share
from fli2moe.features import Progress
from fli2moe.predictor import Predictor


def interaction_shares(
    predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> dict[str, Any]:
    """Returns {head: mean share of the variance of v(S) that interactions explain, with its error}.

    Coalitions hold each player with probability 1/2; the share is of each sample's first target.
    The error is over samples, `n` counts them; a sample with fewer than two players, or whose
    score never varies, is left out.
    """
    options = predictor.config.evaluation
    chosen = test.choose(range(len(test.samples)), options.pair_samples, seed)
    shares: dict[str, list[float]] = {head: [] for head in predictor.model.heads}
    for done, i in enumerate(chosen):
        inputs, tokens = test.samples[i].inputs, test.tokens(i)
        target = predictor.task.classes[test.targets[i][0]]
        players = predictor.players(inputs, tokens)
        if len(players) > 1:
            game = predictor.game(inputs, target, tokens=tokens, players=players)
            for head, values in shares.items():
                share = interaction_share(game.on(head), options.budget, seed + i)
                values.append(share.interactions)
        if progress:
            progress("interaction share", done + 1, len(chosen))
    return {head: mean_and_error(values) for head, values in shares.items()}

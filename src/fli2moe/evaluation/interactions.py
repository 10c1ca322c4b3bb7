"""How much of each head's output interactions explain, over test samples and predicted labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fli2moe.evaluation.cells import with_error
from fli2moe.evaluation.part import Part, Table
from fli2moe.evaluation.split import TestSplit
from fli2moe.evaluation.statistics import mean_and_error, mean_of
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes import InteractionShare, interaction_share
from fli2moe.explain.probes.share import LEAST_MASKS
from fli2moe.features import Progress
from fli2moe.predictor import Predictor

LEAST_EVALUATIONS = 2 * LEAST_MASKS
ORDERS = ("main", "pairs", "higher")
OTHER_KEYS = ("per_label", "orders")
"""Keys of the summary that are no heads."""
ADDITIVE = 0.05
"""Below this share, with two standard errors, the report calls a model almost additive (ours)."""


def interaction_shares(
    predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> Part:
    """Returns {head: mean share of the variance of v(S) that interactions explain, with its error}.

    Coalitions hold each player with probability 1/2; `evaluation.budget` of them serve every head
    and every target of a sample (see `TestSplit`). The mean over a sample's targets is its value,
    so that the error is over samples, which `n` counts. `orders` holds {head: {`main`, `pairs`,
    `higher`: the same}}; for multi-label, `per_label` holds {label: {head: the same over the
    samples with that target}}. Left out are a sample with fewer than two players and a target whose
    score never varies.
    """
    options, task, heads = predictor.config.evaluation, predictor.task, predictor.model.heads
    chosen = test.choose(range(len(test.samples)), options.pair_samples, seed)
    shares: dict[str, list[float]] = {head: [] for head in heads}
    orders: dict[str, dict[str, list[float]]] = {h: {o: [] for o in ORDERS} for h in heads}
    by_label: dict[str, dict[str, list[float]]] = {
        label: {head: [] for head in heads} for label in task.classes
    }
    rows: dict[int, dict[str, float]] = {}
    for done, i in enumerate(chosen):
        found = _of_sample(predictor, test, i, seed + i)
        for head in heads:
            of_targets = [of_target[head] for of_target in found.values()]
            value = mean_of([share.interactions for share in of_targets])
            shares[head].append(value)
            if np.isfinite(value):
                rows.setdefault(i, {})[f"interaction_share.{head}"] = value
            for order in ORDERS:
                orders[head][order].append(mean_of([getattr(x, order) for x in of_targets]))
            for label, of_target in found.items():
                by_label[label][head].append(of_target[head].interactions)
        if progress:
            progress("interaction share", done + 1, len(chosen))
    result: dict[str, Any] = {head: mean_and_error(values) for head, values in shares.items()}
    result["orders"] = {
        head: {order: mean_and_error(values) for order, values in by_order.items()}
        for head, by_order in orders.items()
    }
    if task.multilabel:
        result["per_label"] = {
            label: {head: mean_and_error(values) for head, values in by_head.items()}
            for label, by_head in by_label.items()
        }
    return Part(result, rows)


def _of_sample(
    predictor: Predictor, test: TestSplit, i: int, seed: int
) -> dict[str, dict[str, InteractionShare]]:
    """Returns {label: {head: share}} of one sample's targets, all from the same coalitions."""
    inputs, tokens = test.samples[i].inputs, test.tokens(i)
    players = predictor.players(inputs, tokens)
    if len(players) < 2:
        return {}
    task, heads, targets = predictor.task, predictor.model.heads, test.targets[i]
    kind = predictor.config.explain.score

    def scores(logits: Tensor) -> Tensor:  # (N, heads, C) -> (N, targets * heads)
        return torch.cat([task.score(logits, t, kind) for t in targets], dim=1)

    names = [f"{t}/{head}" for t in targets for head in heads]
    game: TokenGame = predictor.game_of(scores, inputs, tokens, players, score_names=names)
    budget = max(predictor.config.evaluation.budget, LEAST_EVALUATIONS)
    return {
        task.classes[t]: {
            head: interaction_share(game.on(f"{t}/{head}"), budget, seed) for head in heads
        }
        for t in targets
    }


def interaction_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Returns the tables of a summary, the mixture first."""
    heads = [head for head in summary if head not in OTHER_KEYS]
    orders = summary.get("orders", {})
    rows = [
        [
            head,
            with_error(summary[head]),
            *(with_error(orders[head][o]) if head in orders else None for o in ORDERS),
            summary[head]["n"],
        ]
        for head in heads
    ]
    note = (
        "Shares of the variance of v(S), each player present with probability 1/2. Estimates may "
        "fall below 0 by their error."
    )
    if _almost_additive(summary[heads[0]]):
        note += " This model is almost additive here: there are hardly any pairs to find."
    tables: dict[str, Table] = {
        "Share of the output that interactions explain": {
            "columns": [
                "head",
                "interactions",
                "main effects",
                "pairs",
                "higher orders",
                "samples",
            ],
            "rows": rows,
            "note": note,
        }
    }
    if "per_label" in summary:
        tables["Share of the output that interactions explain, per label"] = {
            "columns": ["label", "share", "standard error", "samples"],
            "rows": [
                [label, *(of_label[heads[0]][key] for key in ("mean", "standard_error", "n"))]
                for label, of_label in summary["per_label"].items()
            ],
            "note": "Mixture; the samples for which the label is predicted.",
        }
    return tables


def _almost_additive(share: Mapping[str, Any]) -> bool:
    mean, error = share["mean"], share["standard_error"]
    return mean is not None and error is not None and mean + 2 * error < ADDITIVE

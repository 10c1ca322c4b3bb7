"""Planted recovery: whether the top pair names the causes the data were made with (design 3.9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional as F

from fli2moe.data.causes import lies_on
from fli2moe.data.sample import Cause
from fli2moe.evaluation.part import Part, Table
from fli2moe.evaluation.split import TestSplit
from fli2moe.evaluation.statistics import mean_and_error
from fli2moe.explain.probes import redundancy_gaps, shapley_interactions
from fli2moe.explain.probes.monte_carlo import MONTE_CARLO, shared_cost
from fli2moe.explain.scores import PairScores
from fli2moe.features import Progress
from fli2moe.predictor import Predictor
from fli2moe.tokens import Player

ESTIMATORS = {"synergy": shapley_interactions, "redundancy": redundancy_gaps}


COUNTS = ("players", "pairs", "contexts", "evaluations")


@dataclass(frozen=True)
class Recovery:
    """How well the ranking of one sample's pairs found the true ones.

    Attributes:
        precision_at_1: 1 if the first pair is a true one, else 0.
        precision_at_k: share of true pairs among the first k, k being how many there are.
        average_precision: mean over the true pairs of the precision at their ranks.
    """

    precision_at_1: float
    precision_at_k: float
    average_precision: float


@dataclass(frozen=True)
class Search:
    """The recovery on one sample, and what it was found among.

    Attributes:
        by_head: {head: recovery}.
        players: words and patches, never grouped.
        pairs: cross-modal pairs of them, all scored.
        contexts: that each pair was measured in.
        evaluations: of the model.
        chance: precision@1 of a random order, true pairs / pairs.
    """

    by_head: Mapping[str, Recovery]
    players: int
    pairs: int
    contexts: int
    evaluations: int
    chance: float


def planted_recovery(
    predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> Part:
    """Returns precision@1, precision@k and average precision of the recovered pairs, by head.

    Only samples that carry the label and are predicted to carry it count: the truth is the pair of
    causes there, the target is that label. Synergy is ranked by SII, redundancy by the redundancy
    gap, among all cross-modal pairs of words and patches, which are never grouped: precision@1
    among a few blocks would be another, easier measure. `evaluation.budget` is spent, or, where
    that cannot pay for two contexts of all pairs, exactly what they cost. Medians over the samples
    say what was searched, `chance_precision_at_1` what a random order would reach, `left_out` how
    many samples have no player on a cause. Several labels of one interaction count together; data
    without planted causes give an empty part.
    """
    options = predictor.config.evaluation
    result: dict[str, Any] = {}
    rows: dict[int, dict[str, float]] = {}
    for kind in ESTIMATORS:
        found = _positives(predictor, test, kind)
        if not found:
            continue
        chosen = test.choose(range(len(found)), options.pair_samples, seed)
        searches: list[Search] = []
        for done, position in enumerate(chosen):
            i, cause = found[position]
            search = _search(predictor, test, i, cause, seed + i)
            if search:
                searches.append(search)
                row = rows.setdefault(i, {})
                for head, recovered in search.by_head.items():
                    row[f"planted.{kind}.{head}.precision_at_1"] = recovered.precision_at_1
                    row[f"planted.{kind}.{head}.average_precision"] = recovered.average_precision
            if progress:
                progress(f"planted {kind}", done + 1, len(chosen))
        heads = predictor.model.heads
        figures = {head: _figures([s.by_head[head] for s in searches]) for head in heads}
        result[kind] = {
            "label": ", ".join(dict.fromkeys(found[p][1].label for p in chosen)),
            **figures.pop(heads[0]),
            "left_out": len(chosen) - len(searches),
            "chance_precision_at_1": mean_and_error([s.chance for s in searches])["mean"],
            **{count: _median([getattr(s, count) for s in searches]) for count in COUNTS},
            "experts": figures,
        }
    return Part(result, rows)


def _positives(predictor: Predictor, test: TestSplit, kind: str) -> list[tuple[int, Cause]]:
    """Returns (sample, cause) where the label of the cause holds and is predicted."""
    task = predictor.task
    predicted = task.predict(test.logits)
    if not task.multilabel:
        predicted = F.one_hot(predicted, len(task.classes)).bool()
    return [
        (i, cause)
        for i, sample in enumerate(test.samples)
        for cause in sample.causes
        if cause.interaction == kind
        and cause.label in sample.labels
        and bool(predicted[i, task.index(cause.label)])
    ]


def _search(
    predictor: Predictor, test: TestSplit, i: int, cause: Cause, seed: int
) -> Search | None:
    """Ranks one sample's pairs per head; None where the true pair is not among the players.

    That is so where the text was cut before the cause: nothing to recover is not a miss.
    """
    inputs, tokens = test.samples[i].inputs, test.tokens(i)
    players = predictor.players(inputs, tokens)
    truth = true_pairs(players, cause)
    if not truth.any():
        return None
    game = predictor.game(inputs, cause.label, tokens=tokens, players=players)
    pairs = game.cross_modal_pairs()
    budget = max(predictor.config.evaluation.budget, MONTE_CARLO.per_unit * shared_cost(pairs))
    scores = ESTIMATORS[cause.interaction](game, budget, "monte_carlo", seed=seed)
    return Search(
        {head: recovery(scores.for_head(head), truth) for head in predictor.model.heads},
        len(players),
        len(pairs),
        int(scores.n_contexts.min()),
        game.evaluations + game.repeats,
        float(np.triu(truth).sum() / len(pairs)),
    )


def true_pairs(players: Sequence[Player], cause: Cause) -> NDArray[np.bool_]:
    """Returns (P, P) bool: cross-modal pairs of players that both lie on the cause's spans."""
    on_cause = np.array([lies_on(p, cause.spans) for p in players], dtype=np.bool_)
    modality = np.array([p.modality for p in players])
    across: NDArray[np.bool_] = modality[:, None] != modality[None]
    truth: NDArray[np.bool_] = across & on_cause[:, None] & on_cause[None]
    return truth


def recovery(scores: PairScores, truth: NDArray[np.bool_]) -> Recovery:
    """Compares the ranking of one sample's pairs with the true ones.

    A true pair that has no score was not found; average precision counts it as missed.

    Args:
        scores: of one head.
        truth: (P, P) symmetric, at least one pair True.
    """
    order = scores.order()
    relevant = truth[scores.first[order], scores.second[order]]
    if not relevant.any():
        return Recovery(0.0, 0.0, 0.0)
    ranks = np.flatnonzero(relevant) + 1
    precision = np.arange(1, len(ranks) + 1) / ranks
    k = int(np.triu(truth).sum())
    return Recovery(float(relevant[0]), float(relevant[:k].sum() / k), float(precision.sum() / k))


def _figures(values: Sequence[Recovery]) -> dict[str, Any]:
    first = mean_and_error([v.precision_at_1 for v in values])
    several = mean_and_error([v.precision_at_k for v in values])
    average = mean_and_error([v.average_precision for v in values])
    return {
        "precision_at_1": first["mean"],
        "precision_at_1_error": _proportion_error([v.precision_at_1 for v in values]),
        "precision_at_k": several["mean"],
        "average_precision": average["mean"],
        "average_precision_error": average["standard_error"] or None,  # all alike tells no error
        "n": first["n"],
    }


def _proportion_error(hits: Sequence[float]) -> float | None:
    """Standard error of a share of hits (0 or 1), at the Jeffreys estimate (hits + 1/2) / (n + 1).

    All hits or none have no variance of their own, and yet are not certain.
    """
    if not hits:
        return None
    centre = (sum(hits) + 0.5) / (len(hits) + 1)
    return float(np.sqrt(centre * (1 - centre) / len(hits)))


def _median(values: Sequence[int]) -> float | None:
    return float(np.median(values)) if values else None


def planted_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Returns the table of a summary."""
    rows = []
    for kind, found in summary.items():
        for head, f in {"mixture": found, **found["experts"]}.items():
            name = f"{kind} ({found['label']})"
            rows.append([name, head, f["precision_at_1"], f["average_precision"], f["n"]])
    note = (
        "Top pair against the pair the data were made with, among all pairs across modalities, on "
        "correctly predicted positive test samples. Medians per sample: "
    )
    note += "; ".join(f"{kind}, {_searched(found)}" for kind, found in summary.items())
    columns = ["interaction", "head", "precision@1", "average precision", "samples"]
    return {"Planted pairs recovered": {"columns": columns, "rows": rows, "note": note}}


def _searched(found: Mapping[str, Any]) -> str:
    """What was searched for the planted pairs of one interaction, in words."""
    if not found["n"]:
        return "not measured"
    counts = [f"{found[name]:g} {name}" for name in COUNTS]
    return f"{', '.join(counts)}, precision@1 by chance {found['chance_precision_at_1']:.3f}"

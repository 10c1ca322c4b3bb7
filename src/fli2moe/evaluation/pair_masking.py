"""Pair masking over test samples: do the pairs that were ranked first matter as pairs?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.evaluation.importance import player_sums
from fli2moe.evaluation.pair_summary import (
    APART,
    CLASS,
    PROBABILITY,
    TOP,
    MaskedSample,
    Ranking,
    block_figures,
    drop_figures,
    primary_figures,
)
from fli2moe.evaluation.part import Part
from fli2moe.evaluation.split import TestSplit
from fli2moe.explain.attribution import FALLBACK, attribute, usable_methods
from fli2moe.explain.game import TokenGame
from fli2moe.explain.pair_masking import (
    COUNTS,
    PRIMARY,
    SWAPS,
    compare_pairs,
    disjoint_pairs,
    mask_pairs,
)
from fli2moe.explain.pieces import has_pairs
from fli2moe.explain.probes import pair_interactions
from fli2moe.explain.scores import PairScores
from fli2moe.features import Progress
from fli2moe.model import MIXTURE
from fli2moe.predictor import Predictor
from fli2moe.tokens import Player, TokenBatch

KINDS = {"synergy": "sii", "redundancy": "redundancy"}
"""{kind of pair: the reading that ranks it}; each is also the name of the expert it is read on."""


def pair_masking(
    predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> Part:
    """Ranks pairs, hides them, and compares them with edge-swapped ones (design 3.8).

    SII ranks on the synergy expert and the mixture, the redundancy gap on the redundancy expert and
    the mixture, with `evaluation.budget` evaluations; contexts of the comparison are fresh. The
    target is the first of `TestSplit.targets`. Left out are samples without a cross-modal pair.

    The summary holds `n` and `left_out`, `swaps` (sets of edge-swapped pairs, averaged) and three
    lists with an entry for each ranking and m: `primary`, `drops` and `blocks`. What could not be
    measured is None there, and `n` 0: fewer than m pairs, or none with other partners. As the top
    pairs are often a star around one player, whose partners cannot be exchanged, `primary` also has
    entries of the best pairs of which no two share a player (`pairs` is then `disjoint`; ours).
    """
    options = predictor.config.evaluation
    chosen = test.choose(range(len(test.samples)), options.pair_samples, seed)
    found: list[MaskedSample] = []
    for done, i in enumerate(chosen):
        tested = _sample(predictor, test, i, seed + i)
        found += [tested] if tested else []
        if progress:
            progress("pair masking", done + 1, len(chosen))
    if not found:
        return Part({})
    rankings = list(found[0].masking)
    summary: dict[str, Any] = {
        "n": len(found),
        "left_out": len(chosen) - len(found),
        "swaps": SWAPS,
        "primary": primary_figures(found, rankings, seed),
        "drops": [
            drop_figures(predictor.task, test, found, ranking, m)
            for ranking in rankings
            for m in COUNTS
        ],
        "blocks": [block_figures(found, ranking, m, seed) for ranking in rankings for m in COUNTS],
    }
    return Part(summary, {t.index: _row(t, rankings) for t in found})


def _row(tested: MaskedSample, rankings: Sequence[Ranking]) -> dict[str, float]:
    """One sample's primary statistic and drop of every ranking's top 10, where defined."""
    row = {}
    for ranking in rankings:
        kind, head = ranking
        name = f"pairs.{kind}.{head}.top{PRIMARY}"
        row[f"{name}_minus_swapped"] = tested.gained(ranking, PRIMARY)
        row[f"{name}_drop"] = tested.drop(ranking, PRIMARY, "ranked", head)
    return {name: value for name, value in row.items() if np.isfinite(value)}


def _sample(predictor: Predictor, test: TestSplit, i: int, seed: int) -> MaskedSample | None:
    inputs, tokens, options = test.samples[i].inputs, test.tokens(i), predictor.config.evaluation
    players, target = predictor.players(inputs, tokens), test.targets[i][0]
    if not has_pairs(players):
        return None
    game = _game(predictor, test, i, players, target)
    ranked = rank_pairs(game, predictor.model.heads, options.budget, seed)
    importance = _importance(predictor, tokens, players, target, seed)
    masking = {
        (kind, head): mask_pairs(
            game,
            of_head.pairs,
            importance[head],
            np.random.default_rng([seed, 2]),  # the same for all: random pairs are evaluated once
            draws=options.random_draws,
        )
        for (kind, head), of_head in ranked.items()
    }
    rankings = [of_head.pairs for of_head in ranked.values()]
    rankings += [of_head.disjoint for of_head in ranked.values()]
    generator = np.random.default_rng([seed, 3])  # not that of the ranking
    compared = compare_pairs(game, rankings, options.pair_contexts, generator)
    of_kind = {TOP: compared[: len(ranked)], APART: compared[len(ranked) :]}
    contrast = {kind: dict(zip(ranked, found, strict=True)) for kind, found in of_kind.items()}
    positive = {ranking: of_head.positive for ranking, of_head in ranked.items()}
    return MaskedSample(i, target, game.head_names, positive, masking, contrast)


def _game(
    predictor: Predictor, test: TestSplit, i: int, players: Sequence[Player], target: int
) -> TokenGame:
    """The game whose evaluations give every head's score, and what the mixture predicts."""
    task, kind = predictor.task, predictor.config.explain.score

    def readings(logits: Tensor) -> Tensor:  # (N, heads, C) -> (N, heads + 2)
        mixture = logits[:, 0]
        probability = task.target_probability(mixture, [target])
        predicted = task.predict(mixture)
        named = predicted[:, target] if task.multilabel else predicted
        score = task.score(logits, target, kind)
        extra = torch.stack([probability, named.to(score)], dim=1)
        return torch.cat([score, extra], dim=1)

    names = (*predictor.model.heads, PROBABILITY, CLASS)
    inputs, tokens = test.samples[i].inputs, test.tokens(i)
    return predictor.game_of(readings, inputs, tokens, players, score_names=names)


def _importance(
    predictor: Predictor, tokens: TokenBatch, players: Sequence[Player], target: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """{head: (P,) attribution of the target}, by the method of explanations."""
    options = predictor.config.explain
    usable = options.attribution in usable_methods(predictor.model)
    scores: Mapping[str, Mapping[str, Tensor]] = attribute(
        predictor.model,
        tokens,
        predictor.task.target_weights([[target]]),
        options.attribution if usable else FALLBACK,
        baseline=predictor.attribution_baseline(),
        steps=options.steps,
        reduction=options.reduction,
        seed=seed,
    ).scores
    return {head: player_sums(players, of_head) for head, of_head in scores.items()}


@dataclass(frozen=True, eq=False)
class Ranked:
    """The best pairs of a ranking.

    Attributes:
        pairs: (R, 2) best first, at most as many as are ever hidden.
        disjoint: (D, 2) the best of which no two share a player, a few of them.
        positive: how many of `pairs` have a value above 0: these come first.
    """

    pairs: NDArray[np.int64]
    disjoint: NDArray[np.int64]
    positive: int


def rank_pairs(
    game: TokenGame, heads: Sequence[str], budget: int, seed: int
) -> dict[Ranking, Ranked]:
    """Returns {(kind, head): the best pairs}, of the heads among `heads` that a kind is read on.

    A sparse surrogate may say 0 of nearly all pairs: these are in random order, not that of their
    places. Leaving them out would keep only the samples in which many pairs stand out.
    """
    read = {kind: [h for h in (kind, MIXTURE) if h in heads] for kind in KINDS}
    needed = [head for head in heads if any(head in of_kind for of_kind in read.values())]
    readings = {reading: read[kind] for kind, reading in KINDS.items()}
    found = pair_interactions(game, budget, seed=seed, heads=needed, readings=readings)
    generator = np.random.default_rng([seed, 1])
    ranked: dict[Ranking, Ranked] = {}
    for kind, reading in KINDS.items():
        table: PairScores = getattr(found, reading)
        for head in read[kind]:
            of_head = table.select(np.array([h == head for h in table.head], dtype=np.bool_))
            order = of_head.order()
            zero = of_head.value[order] == 0
            order[zero] = generator.permutation(order[zero])
            best = of_head.select(order)
            pairs = np.stack([best.first, best.second], axis=1).reshape(-1, 2)
            first = slice(max(COUNTS))
            positive = int((best.value[first] > 0).sum())
            ranked[kind, head] = Ranked(pairs[first], disjoint_pairs(pairs), positive)
    return ranked

"""How alike two explanations of one sample are: importances of its tokens, rankings of its pairs.

Spearman's correlation of everything that both score, and the Jaccard overlap of what comes first:
the top 10% of players, the top 10 pairs. Pairs are of the mixture, importances of experts too.
Where one of the two is equal everywhere it ranks nothing, and the measure is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fli2moe.evaluation.importance import COSTLY, player_sums, served_methods
from fli2moe.evaluation.split import TestSplit
from fli2moe.evaluation.statistics import mean_and_error, mean_of
from fli2moe.explain.attribution import attribute
from fli2moe.explain.concentration import chance_overlap, rank_correlation, top_overlap
from fli2moe.explain.game import TokenGame
from fli2moe.explain.pieces import has_pairs
from fli2moe.explain.players import cross_modal_pairs
from fli2moe.explain.probes import pair_interactions
from fli2moe.explain.probes.exact import MOST_PLAYERS
from fli2moe.explain.probes.monte_carlo import shared_cost
from fli2moe.explain.probes.screen import least_screening
from fli2moe.explain.scores import PairScores
from fli2moe.predictor import Predictor

TOP = 10  # pairs
MEASURES = {"spearman": "rank correlation", "jaccard": "overlap of the top"}
Agreement = dict[tuple[str, str], float]
"""{(what is explained: a method or `method.expert`, `SII`, `redundancy_gap`; one of `MEASURES`):
value}."""


@dataclass(frozen=True, eq=False)
class Explained:
    """What is compared of one sample, target and model.

    Attributes:
        importance: {method, or `method.expert`: (P,) of players}.
        pairs: {`SII` or `redundancy_gap`: scores}; empty where the budget serves no pair probe.
    """

    importance: Mapping[str, NDArray[np.float64]]
    pairs: Mapping[str, PairScores]


@dataclass(frozen=True)
class Chosen:
    """Which samples are checked.

    Attributes:
        kept: those with a cross-modal pair.
        left_out: how many have none.
    """

    kept: Sequence[int]
    left_out: int


def choose_checked(predictor: Predictor, test: TestSplit, seed: int) -> Chosen:
    """Returns a seeded choice of `evaluation.check_samples` samples."""
    size = predictor.config.evaluation.check_samples
    chosen = test.choose(range(len(test.samples)), size, seed)
    kept = [
        i for i in chosen if has_pairs(predictor.players(test.samples[i].inputs, test.tokens(i)))
    ]
    return Chosen(kept, len(chosen) - len(kept))


def compared_methods(predictor: Predictor) -> list[str]:
    """Returns the config's attribution methods that say something of the model, costly ones last.

    Costly ones only where there is no other; never `random`.
    """
    served = [method for method in served_methods(predictor) if method != "random"]
    return [method for method in served if method not in COSTLY] or served


def explained(predictor: Predictor, test: TestSplit, i: int, seed: int) -> Explained:
    """Explains one sample's targets, those of the split, by any model of the same data.

    Args:
        predictor: the model.
        test: with the targets.
        i: index of the sample.
        seed: of the pair probes, with `evaluation.budget`.
    """
    budget = predictor.config.evaluation.budget
    return Explained(importance_of(predictor, test, i), pairs_of(predictor, test, i, seed, budget))


def importance_of(predictor: Predictor, test: TestSplit, i: int) -> dict[str, NDArray[np.float64]]:
    """Returns {method: (P,) importance of one sample's players}; no method has a seed.

    That of the mixture; of the config's own method (the first compared one where it is none of
    them) that of every expert too, as `method.expert`.
    """
    tokens, options = test.tokens(i), predictor.config.explain
    players = predictor.players(test.samples[i].inputs, tokens)
    weights = predictor.task.target_weights([test.targets[i]])
    methods, heads = compared_methods(predictor), predictor.model.heads
    of_experts = [options.attribution] if options.attribution in methods else methods[:1]
    found: dict[str, NDArray[np.float64]] = {}
    for method in methods:
        scores = attribute(
            predictor.model,
            tokens,
            weights,
            method,
            baseline=predictor.attribution_baseline(),
            steps=options.steps,
            reduction=options.reduction,
        ).scores
        found[method] = player_sums(players, scores[heads[0]])
        if method in of_experts:
            for expert in heads[1:]:
                found[f"{method}.{expert}"] = player_sums(players, scores[expert])
    return found


def pairs_of(
    predictor: Predictor, test: TestSplit, i: int, seed: int, budget: int
) -> dict[str, PairScores]:
    """Returns {`SII`, `redundancy_gap`: scores} of one sample's first target.

    Empty where the budget is too small for all cross-modal pairs.
    """
    inputs, label = test.samples[i].inputs, predictor.task.classes[test.targets[i][0]]
    head = predictor.model.heads[0]
    game = predictor.game(inputs, label, tokens=test.tokens(i)).on(head)
    if budget < _least(game):
        return {}
    found = pair_interactions(game, budget, seed=seed, heads=[head])
    return {"SII": found.sii, "redundancy_gap": found.redundancy}


def kept_pairs(
    predictor: Predictor, test: TestSplit, i: int, seed: int, budget: int
) -> dict[str, PairScores]:
    """Returns `pairs_of`; kept as long as the split is, for the next one who asks for the same."""
    of_split = _KEPT.setdefault(test, {})
    key = (predictor, i, seed, budget)
    if key not in of_split:
        of_split[key] = pairs_of(predictor, test, i, seed, budget)
    return of_split[key]


_KEPT: WeakKeyDictionary[
    TestSplit, dict[tuple[Predictor, int, int, int], dict[str, PairScores]]
] = WeakKeyDictionary()


def agree(first: Explained, second: Explained) -> Agreement:
    """Returns both measures of each method and kind of pair that both have."""
    found: Agreement = {}
    for method, importance in first.importance.items():
        if method in second.importance:
            other = second.importance[method]
            found[method, "spearman"] = rank_correlation(importance, other)
            found[method, "jaccard"] = top_overlap(importance, other)
    return found | agree_on_pairs(first.pairs, second.pairs)


def agree_on_pairs(first: Mapping[str, PairScores], second: Mapping[str, PairScores]) -> Agreement:
    """Returns both measures of each kind of pair: correlation over the pairs that both score.

    The tops are each table's own. Where there are no more than 10 cross-modal pairs, all are on
    top, and their overlap is NaN (ours).
    """
    found: Agreement = {}
    for kind in first:
        if kind in second:
            found[kind, "spearman"] = rank_correlation(*common_values(first[kind], second[kind]))
            found[kind, "jaccard"] = _overlap(first[kind], second[kind])
    return found


def by_chance(one: Explained) -> Agreement:
    """Returns what independent rankings of the same players and pairs agree by, on average."""
    found: Agreement = {}
    for method, importance in one.importance.items():
        found[method, "spearman"] = 0.0
        found[method, "jaccard"] = chance_overlap(len(importance))
    for kind, scores in one.pairs.items():
        pairs = len(cross_modal_pairs(scores.players))
        found[kind, "spearman"] = 0.0
        # Half a pair less, as the share is rounded up again.
        share = 100 * (TOP - 0.5) / pairs
        found[kind, "jaccard"] = chance_overlap(pairs, share) if pairs > TOP else np.nan
    return found


def common_values(
    first: PairScores, second: PairScores
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the values (R,) of the pairs that two tables of one head both score."""
    one, other = (dict(zip(_pairs(s), s.value.tolist(), strict=True)) for s in (first, second))
    both = [pair for pair in one if pair in other]
    return np.array([one[pair] for pair in both]), np.array([other[pair] for pair in both])


def averaged(found: Sequence[Agreement]) -> Agreement:
    """Returns the mean of several agreements, of what is defined."""
    names = dict.fromkeys(name for one in found for name in one)
    return {name: mean_of([one.get(name, np.nan) for one in found]) for name in names}


def figures(found: Sequence[Agreement]) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns {what: {measure: mean and error over samples}}."""
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for what, measure in dict.fromkeys(name for one in found for name in one):
        values = [one.get((what, measure), np.nan) for one in found]
        summary.setdefault(what, {})[measure] = mean_and_error(values)
    return summary


def _least(game: TokenGame) -> int:
    """The smallest budget with which `auto` answers: all coalitions, a surrogate, one context."""
    ways = [least_screening(game, "auto"), shared_cost(game.cross_modal_pairs())]
    if game.n_players <= MOST_PLAYERS:
        ways.append(int(2**game.n_players))
    return min(ways)


def _overlap(first: PairScores, second: PairScores) -> float:
    """Jaccard of the tops; pairs that tie at an edge share its last places, as in `top_overlap`."""
    if len(cross_modal_pairs(first.players)) <= TOP:
        return np.nan
    one, other = _top(first), _top(second)
    if not one or not other:
        return np.nan
    both = sum(share * other.get(pair, 0.0) for pair, share in one.items())
    return both / (sum(one.values()) + sum(other.values()) - both)


def _top(scores: PairScores) -> dict[tuple[int, int], float]:
    """{pair: how much of a place among the first 10 it has}; empty where nothing is ranked."""
    if len(scores) < 2 or scores.value.min() == scores.value.max():
        return {}
    ranked = scores.select(scores.order())
    k = min(TOP, len(ranked))
    tied = ranked.value == ranked.value[k - 1]
    before = int(np.argmax(tied))  # the first of them
    places = tied * (k - before) / tied.sum()
    places[:before] = 1.0
    return {pair: p for pair, p in zip(_pairs(ranked), places.tolist(), strict=True) if p}


def _pairs(scores: PairScores) -> list[tuple[int, int]]:
    return list(zip(scores.first.tolist(), scores.second.tolist(), strict=True))

"""Pair masking over test samples: do the pairs that were ranked first matter as pairs?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor

from fli2moe.evaluation.importance import player_sums
from fli2moe.evaluation.part import Part
from fli2moe.evaluation.split import TestSplit
from fli2moe.evaluation.statistics import (
    bootstrap_interval,
    effect_size,
    holm,
    mean_and_error,
    share_above,
    wilcoxon,
)
from fli2moe.explain.attribution import FALLBACK, attribute, usable_methods
from fli2moe.explain.game import TokenGame
from fli2moe.explain.pair_masking import (
    CONTROLS,
    COUNTS,
    TESTED,
    Contrast,
    Hidden,
    Masking,
    compare_pairs,
    mask_pairs,
)
from fli2moe.explain.pieces import has_pairs
from fli2moe.explain.probes import pair_interactions
from fli2moe.features import Progress
from fli2moe.predictor import Predictor

KINDS = {"synergy": "sii", "redundancy": "redundancy"}
"""{kind of pair: the reading that ranks it}; each is also the name of the expert it is read on."""
PROBABILITY, CLASS = "probability of the mixture", "class of the mixture"
PRIMARY = 10


@dataclass(frozen=True, eq=False)
class Tested:
    """One sample: every ranking's masking and contrast, under every reading of the model.

    Attributes:
        index: of the sample in the test split.
        target: class whose score was explained.
        names: of the readings: the model's heads, `PROBABILITY` and `CLASS`.
        masking: {(kind, head that ranked): what hiding does}.
        contrast: {(kind, head that ranked): {m: ranked minus edge-swapped}}.
    """

    index: int
    target: int
    names: tuple[str, ...]
    masking: Mapping[tuple[str, str], Masking]
    contrast: Mapping[tuple[str, str], Mapping[int, Contrast]]

    def drop(self, ranking: tuple[str, str], m: int, control: str, reading: str) -> float:
        """Returns mean D(X) over the control's draws; NaN where the ranking is shorter than m."""
        masking, h = self.masking[ranking], self.names.index(reading)
        if m not in masking.hidden:
            return np.nan
        return float(masking.whole[h] - masking.hidden[m].values[control][:, h].mean())

    def gained(self, ranking: tuple[str, str], m: int) -> float:
        """Returns the primary statistic of a ranking under the head that ranked; NaN without."""
        found = self.contrast[ranking].get(m)
        if found is None:
            return np.nan
        values = found.interaction if ranking[0] == "synergy" else found.gap
        return float(values[self.names.index(ranking[1])])

    def block(self, ranking: tuple[str, str], m: int, top: bool = False) -> float:
        """Returns how complementary (synergy) or backing (redundancy) the two blocks are.

        -B for synergy, sign(D(T u I)) B for redundancy (design 3.8); of the top players if `top`.
        """
        hidden: Hidden | None = self.masking[ranking].hidden.get(m)
        if hidden is None:
            return np.nan
        h = self.names.index(ranking[1])
        value = float((hidden.top_block if top else hidden.block)[h])
        return -value if ranking[0] == "synergy" else float(np.sign(hidden.joint[h])) * value


def pair_masking(
    predictor: Predictor, test: TestSplit, seed: int, progress: Progress | None
) -> Part:
    """Ranks pairs, hides them, and compares them with edge-swapped ones (design 3.8).

    SII ranks on the synergy expert and the mixture, the redundancy gap on the redundancy expert and
    the mixture, with `evaluation.budget` evaluations; contexts of the comparison are fresh. The
    target is the first of `TestSplit.targets`. Left out are samples without a cross-modal pair.
    """
    options = predictor.config.evaluation
    chosen = test.choose(range(len(test.samples)), options.pair_samples, seed)
    found: list[Tested] = []
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
        "primary": _primary(found, rankings, seed),
        "drops": [
            _drops(predictor, test, found, ranking, m) for ranking in rankings for m in COUNTS
        ],
        "blocks": [_blocks(found, ranking, m, seed) for ranking in rankings for m in COUNTS],
    }
    rows = {
        t.index: {
            f"pairs.{kind}.{head}.{what}": value
            for kind, head in rankings
            for what, value in (
                (f"top{PRIMARY}_minus_swapped", t.gained((kind, head), PRIMARY)),
                (f"top{PRIMARY}_drop", t.drop((kind, head), PRIMARY, "ranked", head)),
            )
            if np.isfinite(value)
        }
        for t in found
    }
    return Part(summary, rows)


def _sample(predictor: Predictor, test: TestSplit, i: int, seed: int) -> Tested | None:
    inputs, tokens, task = test.samples[i].inputs, test.tokens(i), predictor.task
    players, target = predictor.players(inputs, tokens), test.targets[i][0]
    if not has_pairs(players):
        return None
    heads = predictor.model.heads
    names = (*heads, PROBABILITY, CLASS)

    def readings(logits: Tensor) -> Tensor:  # (N, heads, C) -> (N, heads + 2)
        mixture = logits[:, 0]
        probability = task.target_probability(mixture, [target])
        predicted = task.predict(mixture)
        named = predicted[:, target] if task.multilabel else predicted
        score = task.score(logits, target, predictor.config.explain.score)
        extra = torch.stack([probability, named.to(score)], dim=1)
        return torch.cat([score, extra], dim=1)

    game = predictor.game_of(readings, inputs, tokens, players, score_names=names)
    ranked = _rankings(game, heads, predictor.config.evaluation.budget, seed)
    wanted = predictor.config.explain.attribution
    method = wanted if wanted in usable_methods(predictor.model) else FALLBACK
    scores = attribute(
        predictor.model,
        tokens,
        task.target_weights([[target]]),
        method,
        baseline=predictor.attribution_baseline(),
        steps=predictor.config.explain.steps,
        seed=seed,
    ).scores
    generator = np.random.default_rng([seed, 2])  # not that of the ranking
    masking = {
        (kind, head): mask_pairs(game, pairs, player_sums(players, scores[head]), generator)
        for (kind, head), pairs in ranked.items()
    }
    contexts = predictor.config.evaluation.pair_contexts
    compared = compare_pairs(game, list(ranked.values()), contexts, generator)
    return Tested(i, target, names, masking, dict(zip(ranked, compared, strict=True)))


def _rankings(
    game: TokenGame, heads: Sequence[str], budget: int, seed: int
) -> dict[tuple[str, str], NDArray[np.int64]]:
    """{(kind, head): (R, 2) its best pairs, those of a positive value, best first}."""
    read = {kind: [h for h in (kind, heads[0]) if h in heads] for kind in KINDS}
    readings = {reading: read[kind] for kind, reading in KINDS.items()}
    found = pair_interactions(game, budget, seed=seed, heads=heads, readings=readings)
    ranked = {}
    for kind, reading in KINDS.items():
        table = getattr(found, reading)
        for head in read[kind]:
            wanted = np.array([h == head for h in table.head], dtype=np.bool_)
            of_head = table.select(wanted & (table.value > 0))
            best = of_head.select(of_head.order()[: max(COUNTS)])
            ranked[kind, head] = np.stack([best.first, best.second], axis=1).reshape(-1, 2)
    return ranked


def _primary(
    found: Sequence[Tested], rankings: Sequence[tuple[str, str]], seed: int
) -> list[dict[str, Any]]:
    """The comparison with edge-swapped pairs, Holm over kinds, heads and m."""
    entries: list[dict[str, Any]] = []
    for ranking in rankings:
        for m in TESTED:
            values = [t.gained(ranking, m) for t in found]
            interval = bootstrap_interval(values, seed)
            entries.append(
                {
                    "kind": ranking[0],
                    "head": ranking[1],
                    "m": m,
                    **mean_and_error(values),
                    "interval": None if interval is None else list(interval),
                    "p": wilcoxon(values),
                    "effect_size": effect_size(values),
                    "share_above": share_above(values),
                    "not_possible": int(np.isnan(values).sum()),
                }
            )
    for entry, p in zip(entries, holm([entry["p"] for entry in entries]), strict=True):
        entry["p_holm"] = p
    return entries


def _drops(
    predictor: Predictor,
    test: TestSplit,
    found: Sequence[Tested],
    ranking: tuple[str, str],
    m: int,
) -> dict[str, Any]:
    """What hiding the pairs and their controls takes from score, probability and accuracy."""
    entry: dict[str, Any] = {"kind": ranking[0], "head": ranking[1], "m": m}
    kept = [t for t in found if m in t.masking[ranking].hidden]
    entry["players"] = mean_and_error([t.masking[ranking].hidden[m].players for t in kept])["mean"]
    readings = {"score": ranking[1], "mixture_score": found[0].names[0]}
    readings["probability"] = PROBABILITY
    for control in ("ranked", *CONTROLS):
        of_control: dict[str, Any] = {
            name: mean_and_error([t.drop(ranking, m, control, reading) for t in kept])
            for name, reading in readings.items()
        }
        of_control |= _task_drops(predictor, test, kept, ranking, m, control)
        entry[control] = of_control
    for control in CONTROLS[:2]:
        for name, reading in (("score", ranking[1]), ("probability", PROBABILITY)):
            more = [
                t.drop(ranking, m, "ranked", reading) - t.drop(ranking, m, control, reading)
                for t in kept
            ]
            entry[f"{name}_more_than_{control}"] = {**mean_and_error(more), "p": wilcoxon(more)}
    return entry


def _task_drops(
    predictor: Predictor,
    test: TestSplit,
    kept: Sequence[Tested],
    ranking: tuple[str, str],
    m: int,
    control: str,
) -> dict[str, float | None]:
    """Falls of accuracy and macro F1 of the mixture, means over draws; None without samples.

    Multi-label: of whether the target label is predicted, whose F1 is that of the positive.
    """
    if not kept:
        return {"accuracy": None, "f1": None}
    task, column = predictor.task, kept[0].names.index(CLASS)
    truth = np.array(
        [float(test.target[t.index, t.target]) for t in kept]
        if task.multilabel
        else [float(test.target[t.index]) for t in kept]
    )
    hidden = [t.masking[ranking].hidden[m].values[control][:, column] for t in kept]
    draws = np.stack(hidden, axis=1).round()  # (draws, samples)
    whole = np.array([t.masking[ranking].whole[column] for t in kept]).round()
    average = "binary" if task.multilabel else "macro"

    def f1(predicted: NDArray[np.float64]) -> float:
        return float(f1_score(truth, predicted, average=average, zero_division=0.0))

    return {
        "accuracy": float((whole == truth).mean() - (draws == truth).mean()),
        "f1": f1(whole) - float(np.mean([f1(draw) for draw in draws])),
    }


def _blocks(found: Sequence[Tested], ranking: tuple[str, str], m: int, seed: int) -> dict[str, Any]:
    values = [t.block(ranking, m) for t in found]
    more = [t.block(ranking, m) - t.block(ranking, m, top=True) for t in found]
    interval = bootstrap_interval(values, seed)
    return {
        "kind": ranking[0],
        "head": ranking[1],
        "m": m,
        **mean_and_error(values),
        "interval": None if interval is None else list(interval),
        "top_players": mean_and_error([t.block(ranking, m, top=True) for t in found]),
        "p_more_than_top_players": wilcoxon(more),
    }

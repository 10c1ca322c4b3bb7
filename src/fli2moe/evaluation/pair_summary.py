"""Figures of pair masking over samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from fli2moe.evaluation.split import TestSplit
from fli2moe.evaluation.statistics import (
    bootstrap_interval,
    effect_size,
    holm,
    mean_and_error,
    rank_biserial,
    share_above,
    wilcoxon,
)
from fli2moe.explain.pair_masking import CONTROLS, DISJOINT, TESTED, Contrast, Hidden, Masking
from fli2moe.model import MIXTURE
from fli2moe.task import Task

TOP, APART = "top", "disjoint"
"""The first m pairs, and the first m of which no two share a player."""
Ranking = tuple[str, str]
"""(kind of pairs, head that ranked)."""
PROBABILITY, CLASS = "probability of the mixture", "class of the mixture"
"""Readings beside the heads' scores: of the target; the predicted class, or whether the target is
(multi-label)."""


@dataclass(frozen=True, eq=False)
class MaskedSample:
    """One sample: every ranking's masking and contrast, under every reading of the model.

    Attributes:
        index: of the sample in the test split.
        target: class whose score was explained.
        names: of the readings: the model's heads, `PROBABILITY` and `CLASS`.
        positive: {ranking: how many of its pairs have a value above 0}; these come first.
        masking: {ranking: what hiding does}.
        contrast: {`TOP` or `APART`: {ranking: {m: ranked minus edge-swapped}}}.
    """

    index: int
    target: int
    names: tuple[str, ...]
    positive: Mapping[Ranking, int]
    masking: Mapping[Ranking, Masking]
    contrast: Mapping[str, Mapping[Ranking, Mapping[int, Contrast]]]

    def drop(self, ranking: Ranking, m: int, control: str, reading: str) -> float:
        """Returns mean D(X) over the control's draws; NaN where the ranking is shorter than m."""
        masking, h = self.masking[ranking], self.names.index(reading)
        if m not in masking.hidden:
            return np.nan
        return float(masking.whole[h] - masking.hidden[m].values[control][:, h].mean())

    def flipped(self, ranking: Ranking, m: int, control: str) -> float:
        """Returns the share of the control's draws that change the prediction; NaN as in `drop`."""
        masking, h = self.masking[ranking], self.names.index(CLASS)
        if m not in masking.hidden:
            return np.nan
        left = masking.hidden[m].values[control][:, h]
        return float((left.round() != masking.whole[h].round()).mean())

    def gained(self, ranking: Ranking, m: int, pairs: str = TOP) -> float:
        """Returns the primary statistic of a ranking under the head that ranked; NaN without."""
        found, h = self.contrast[pairs][ranking].get(m), self.names.index(ranking[1])
        if found is None:
            return np.nan
        return float((found.interaction if ranking[0] == "synergy" else found.gap)[h])

    def level(self, ranking: Ranking, m: int, pairs: str = TOP) -> float:
        """Returns the mean term of the ranked pairs alone, where `gained` is defined."""
        found, h = self.contrast[pairs][ranking].get(m), self.names.index(ranking[1])
        if found is None:
            return np.nan
        synergy = ranking[0] == "synergy"
        return float((found.ranked_interaction if synergy else found.ranked_gap)[h])

    def block(self, ranking: Ranking, m: int, top: bool = False) -> float:
        """Returns how complementary (synergy) or backing (redundancy) the two blocks are.

        -B for synergy, sign(D(T u I)) B for redundancy (design 3.8); of the top players if `top`.
        """
        hidden: Hidden | None = self.masking[ranking].hidden.get(m)
        if hidden is None:
            return np.nan
        h = self.names.index(ranking[1])
        value = float((hidden.top_block if top else hidden.block)[h])
        joint = float((hidden.top_joint if top else hidden.joint)[h])
        return -value if ranking[0] == "synergy" else float(np.sign(joint)) * value


def primary_figures(
    found: Sequence[MaskedSample], rankings: Sequence[Ranking], seed: int
) -> list[dict[str, Any]]:
    """Returns the comparison with edge-swapped pairs; Holm over the heads, m and pairs of a kind.

    `pairs` is `TOP` or `APART`. `positive`: how many of the m top pairs were ranked for a value
    above 0, on average; None for disjoint ones.
    """
    entries: list[dict[str, Any]] = []
    for ranking in rankings:
        for pairs, m in [
            *((TOP, m) for m in TESTED),
            *((APART, m) for m in TESTED if m <= DISJOINT),
        ]:
            values = [t.gained(ranking, m, pairs) for t in found]
            measured = [t for t, v in zip(found, values, strict=True) if not np.isnan(v)]
            positive = [min(m, t.positive[ranking]) for t in measured]
            entries.append(
                {
                    "kind": ranking[0],
                    "head": ranking[1],
                    "pairs": pairs,
                    "m": m,
                    **mean_and_error(values),
                    "positive": mean_and_error(positive)["mean"] if pairs == TOP else None,
                    "ranked": mean_and_error([t.level(ranking, m, pairs) for t in found]),
                    "interval": _interval(values, seed),
                    "p": wilcoxon(values),
                    "effect_size": effect_size(values),
                    "rank_biserial": rank_biserial(values),
                    "share_above": share_above(values),
                    "not_possible": int(np.isnan(values).sum()),
                }
            )
    for kind in dict.fromkeys(entry["kind"] for entry in entries):
        family = [entry for entry in entries if entry["kind"] == kind]
        for entry, p in zip(family, holm([entry["p"] for entry in family]), strict=True):
            entry["p_holm"] = p
    return entries


def drop_figures(
    task: Task, test: TestSplit, found: Sequence[MaskedSample], ranking: Ranking, m: int
) -> dict[str, Any]:
    """Returns what hiding the pairs and their controls takes, and whether the pairs take more.

    `score` is that of the head that ranked, all else the mixture's. Tests are one-sided, over
    samples, and not adjusted: they describe.
    """
    entry: dict[str, Any] = {"kind": ranking[0], "head": ranking[1], "m": m}
    kept = [t for t in found if m in t.masking[ranking].hidden]
    entry["players"] = mean_and_error([t.masking[ranking].hidden[m].players for t in kept])["mean"]
    readings = {"score": ranking[1], "mixture_score": MIXTURE, "probability": PROBABILITY}
    for control in ("ranked", *CONTROLS):
        of_control: dict[str, Any] = {
            name: mean_and_error([t.drop(ranking, m, control, reading) for t in kept])
            for name, reading in readings.items()
        }
        of_control["flipped"] = mean_and_error([t.flipped(ranking, m, control) for t in kept])
        entry[control] = of_control | _task_drops(task, test, kept, ranking, m, control)
    for control in CONTROLS:
        for name, reading in readings.items():
            more = [
                t.drop(ranking, m, "ranked", reading) - t.drop(ranking, m, control, reading)
                for t in kept
            ]
            entry[f"{name}_more_than_{control}"] = {**mean_and_error(more), "p": wilcoxon(more)}
    return entry


def _task_drops(
    task: Task,
    test: TestSplit,
    kept: Sequence[MaskedSample],
    ranking: Ranking,
    m: int,
    control: str,
) -> dict[str, float | None]:
    """Falls of accuracy and macro F1 of the mixture, means over draws; None without samples.

    Macro F1 is over the classes that occur, as in `Task.metrics`. Multi-label: of whether the
    target label is predicted, with the F1 of the positive, None where no sample carries it.
    """
    if not kept:
        return {"accuracy": None, "f1": None}
    column = kept[0].names.index(CLASS)
    labels = [
        test.target[t.index, t.target] if task.multilabel else test.target[t.index] for t in kept
    ]
    truth = np.array([int(label) for label in labels])
    hidden = [t.masking[ranking].hidden[m].values[control][:, column] for t in kept]
    draws = np.stack(hidden, axis=1).round().astype(np.int64)  # (draws, samples)
    whole = np.array([t.masking[ranking].whole[column] for t in kept]).round().astype(np.int64)
    counted = [1] if task.multilabel else np.unique(truth).tolist()

    def f1(predicted: NDArray[np.int64]) -> float:
        return float(f1_score(truth, predicted, labels=counted, average="macro", zero_division=0.0))

    possible = bool(np.isin(truth, counted).any())
    return {
        "accuracy": float((whole == truth).mean() - (draws == truth).mean()),
        "f1": f1(whole) - float(np.mean([f1(draw) for draw in draws])) if possible else None,
    }


def block_figures(
    found: Sequence[MaskedSample], ranking: Ranking, m: int, seed: int
) -> dict[str, Any]:
    """Returns the block statistic of the pairs' members, and of as many top players."""
    values = [t.block(ranking, m) for t in found]
    top = [t.block(ranking, m, top=True) for t in found]
    more = [own - other for own, other in zip(values, top, strict=True)]
    return {
        "kind": ranking[0],
        "head": ranking[1],
        "m": m,
        **mean_and_error(values),
        "interval": _interval(values, seed),
        "top_players": mean_and_error(top),
        "p_more_than_top_players": wilcoxon(more),
    }


def _interval(values: Sequence[float], seed: int) -> list[float] | None:
    interval = bootstrap_interval(values, seed)
    return None if interval is None else list(interval)

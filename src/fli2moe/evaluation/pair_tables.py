"""Tables of pair masking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fli2moe.evaluation.cells import with_error
from fli2moe.evaluation.part import Table
from fli2moe.explain.pair_masking import CONTROLS

RANKING = ["pairs", "ranked on", "m"]
HIDDEN = {
    "ranked": "top pairs",
    "random_pairs": "random pairs",
    "same_players": "as many players",
    "top_players": "top players",
}
"""{what is hidden: as the tables call it}: the pairs, and controls (a) to (c)."""
READINGS = {
    "score": "score",
    "mixture_score": "mixture's score",
    "probability": "probability",
    "flipped": "same prediction",
    "accuracy": "accuracy",
    "f1": "F1",
}
NO_TEST = {"p": None}  # what is measured over all samples together


def pair_masking_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Returns the tables of a summary: the comparison that decides first."""
    counted = f"{summary['n']} samples, {summary['left_out']} left out for want of a pair."
    return {
        "Top pairs against the same players with other partners": _primary(summary, counted),
        "Hiding the top pairs": _drops(summary["drops"], counted),
        "Members of the top pairs as two blocks": _blocks(summary["blocks"], counted),
    }


def _primary(summary: Mapping[str, Any], counted: str) -> Table:
    columns = [
        "which",
        "of a value above 0",
        "top pairs",
        "above swapped",
        "95% interval",
        "p (Holm)",
    ]
    columns += ["d_z", "rank-biserial", "share above 0", "samples"]
    rows = [
        [
            *_ranking(e),
            e["pairs"],
            e["positive"],
            _small(e["ranked"]),
            _small(e),
            _interval(e["interval"], "+.2g"),
            e["p_holm"],
            e["effect_size"],
            e["rank_biserial"],
            e["share_above"],
            e["n"],
        ]
        for e in summary["primary"]
    ]
    note = (
        "Mean interaction (synergy) or redundancy gap of the top m pairs in fresh contexts, and "
        f"that minus the mean of {summary['swaps']} sets of edge-swapped pairs; one-sided "
        "Wilcoxon over samples, Holm over the heads and m of a kind. Pairs without a value above 0 "
        "are no better than random ones. Disjoint: the best pairs of which no two share a player; "
        "the top ones are often a star around one player, which has no other partners. n/a where "
        "there are too few pairs or no other partners. " + counted
    )
    return {"columns": [*RANKING, *columns], "rows": rows, "note": note}


def _drops(drops: Sequence[Mapping[str, Any]], counted: str) -> Table:
    columns = ["fall of", *HIDDEN.values(), "p (random)", "p (as many)", "p (top players)"]
    rows = [
        [
            *_ranking(e),
            shown,
            *(_fall(e[hidden][reading]) for hidden in HIDDEN),
            *(e.get(f"{reading}_more_than_{control}", NO_TEST)["p"] for control in CONTROLS),
            e["ranked"]["score"]["n"],
        ]
        for e in drops
        for reading, shown in READINGS.items()
    ]
    note = (
        "Score: of the head that ranked; all else is the mixture's, accuracy and F1 over the same "
        "samples. p of a larger fall, one-sided Wilcoxon, not adjusted. In a game without any pair "
        "structure the top pairs beat random ones too, because they hold the top players: "
        "descriptive. Edge-swapped pairs have the same players and so the same fall. " + counted
    )
    return {"columns": [*RANKING, *columns, "samples"], "rows": rows, "note": note}


def _blocks(blocks: Sequence[Mapping[str, Any]], counted: str) -> Table:
    columns = ["block statistic", "95% interval", "top players", "p (above top players)", "samples"]
    rows = [
        [
            *_ranking(e),
            with_error(e, "+"),
            _interval(e["interval"]),
            with_error(e["top_players"], "+"),
            e["p_more_than_top_players"],
            e["n"],
        ]
        for e in blocks
    ]
    note = (
        "Synergy: -B, redundancy: sign(D) B, with B = D(both) - D(one) - D(other): above 0 the two "
        "modalities' members complete or replace each other. n/a where the pairs are of three or "
        "more modalities. " + counted
    )
    return {"columns": [*RANKING, *columns], "rows": rows, "note": note}


def _ranking(entry: Mapping[str, Any]) -> list[Any]:
    return [entry["kind"], entry["head"], entry["m"]]


def _fall(value: Mapping[str, Any] | float | None) -> str:
    if isinstance(value, Mapping):
        return with_error(value, "+")
    return "n/a" if value is None else f"{value:+.3f}"  # of a whole split: no error


def _interval(interval: Sequence[float] | None, shown: str = "+.3f") -> str:
    return "n/a" if interval is None else f"{interval[0]:{shown}} to {interval[1]:{shown}}"


def _small(value: Mapping[str, Any]) -> str:
    """As `with_error`, to two digits: terms of single pairs may be far below a thousandth."""
    if value["mean"] is None:
        return "n/a"
    error = value["standard_error"]
    return f"{value['mean']:+.2g}" + ("" if error is None else f" ± {error:.2g}")

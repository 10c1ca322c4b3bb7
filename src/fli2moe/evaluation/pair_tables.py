"""Tables of pair masking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fli2moe.evaluation.cells import with_error
from fli2moe.evaluation.part import Table
from fli2moe.explain.pair_masking import CONTROLS


def pair_masking_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Returns the tables of a summary: the comparison that decides first."""
    counted = f"{summary['n']} samples, {summary['left_out']} left out for want of a pair."
    primary = [
        [
            e["kind"],
            e["head"],
            e["m"],
            with_error(e, "+"),
            _interval(e["interval"]),
            e["p_holm"],
            e["effect_size"],
            e["share_above"],
            e["n"],
        ]
        for e in summary["primary"]
    ]
    drops = [
        [
            e["kind"],
            e["head"],
            e["m"],
            *(with_error(e[control]["score"], "+") for control in ("ranked", *CONTROLS)),
            *(e[f"score_more_than_{control}"]["p"] for control in CONTROLS[:2]),
            *(e[control]["probability"]["mean"] for control in ("ranked", *CONTROLS[:2])),
            *(e[control]["accuracy"] for control in ("ranked", *CONTROLS[:2])),
        ]
        for e in summary["drops"]
    ]
    blocks = [
        [
            e["kind"],
            e["head"],
            e["m"],
            with_error(e, "+"),
            _interval(e["interval"]),
            with_error(e["top_players"], "+"),
            e["p_more_than_top_players"],
        ]
        for e in summary["blocks"]
    ]
    return {
        "Top pairs against the same players with other partners": {
            "columns": [
                "pairs",
                "ranked on",
                "m",
                "difference",
                "95% interval",
                "p (Holm)",
                "d_z",
                "share above 0",
                "samples",
            ],
            "rows": primary,
            "note": "Mean interaction (synergy) or redundancy gap of the top m pairs in fresh "
            "contexts, minus that of edge-swapped pairs; one-sided Wilcoxon over samples. "
            + counted,
        },
        "Hiding the top pairs": {
            "columns": [
                "pairs",
                "ranked on",
                "m",
                "score: pairs",
                "random pairs",
                "as many players",
                "top players",
                "p (random)",
                "p (as many)",
                "probability: pairs",
                "random pairs",
                "as many players",
                "accuracy: pairs",
                "random pairs",
                "as many players",
            ],
            "rows": drops,
            "note": "Falls of the score of the head that ranked, of the mixture's probability and "
            "of its accuracy. In a game without any pair structure the top pairs beat random ones "
            "too, because they hold the top players: descriptive. " + counted,
        },
        "Members of the top pairs as two blocks": {
            "columns": [
                "pairs",
                "ranked on",
                "m",
                "block statistic",
                "95% interval",
                "top players",
                "p (above top players)",
            ],
            "rows": blocks,
            "note": "Synergy: -B, redundancy: sign(D) B, with B = D(both) - D(one) - D(other): "
            "above 0 the two modalities' members complete or replace each other. " + counted,
        },
    }


def _interval(interval: Sequence[float] | None) -> str:
    return "n/a" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"

"""The words of the page: sentences per pair, names of heads, numbers, places in a picture."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

SENTENCES = {
    "synergy.clear": "{a} matters together with {b}: the pair says more than its two parts.",
    "synergy.maybe": "{a} may matter together with {b}; "
    "the first of many pairs can reach this value by luck.",
    "synergy.unsure": "{a} may matter together with {b}; the error of this value is not known.",
    "synergy.substitutes": "{a} and {b} replace each other: "
    "together they say less than their two parts added up.",
    "synergy.unclear": "No clear interaction between {a} and {b}: "
    "the value cannot be told apart from zero.",
    "redundancy.clear": "{a} and {b} say the same: each is a backup for the other.",
    "redundancy.against": "{a} and {b} say the same, as evidence against this answer: "
    "each is a backup for the other.",
    "redundancy.maybe": "{a} and {b} may say the same; "
    "the first of many pairs can reach this value by luck.",
    "redundancy.unsure": "{a} and {b} may say the same; the error of this value is not known.",
    "redundancy.unclear": "No clear overlap between {a} and {b}: "
    "the value cannot be told apart from zero.",
}
"""{kind.verdict: sentence}; the page puts the two players' names for {a} and {b}."""

POSSIBLE = 2.0  # standard errors from zero up to which a value says nothing
LEVEL = 0.05  # chance that the largest of all pairs' values is called clear without a cause
ZERO = 1e-5  # below this an exact value is rounding of 32-bit scores, not an interaction

HEADS = {
    "mixture": ("Mixture", "The whole model: all experts together, as the router weighs them."),
    "synergy": (
        "Synergy",
        "The expert meant for what appears only when the inputs are combined.",
    ),
    "redundancy": (
        "Redundancy",
        "The expert meant for what each input already tells by itself.",
    ),
}


def head_name(head: str) -> str:
    """Returns what a reader sees for a head or expert: `unique_text` becomes `Unique: text`."""
    if head in HEADS:
        return HEADS[head][0]
    if head.startswith("unique_"):
        return f"Unique: {head.removeprefix('unique_')}"
    if head.startswith("only_"):
        return f"Only: {head.removeprefix('only_')}"
    return head.replace("_", " ").capitalize()


def head_meaning(head: str) -> str:
    """Returns one sentence on what the head stands for."""
    if head in HEADS:
        return HEADS[head][1]
    if head.startswith("unique_"):
        return f"The expert meant for what only {head.removeprefix('unique_')} tells."
    if head.startswith("only_"):
        return f"The expert that sees {head.removeprefix('only_')} and nothing else."
    return "One head of the model."


def clear_errors(pairs: int) -> float:
    """Returns how many standard errors from zero make one of so many pairs clear (Bonferroni)."""
    return max(POSSIBLE, NormalDist().inv_cdf(1 - LEVEL / 2 / max(1, pairs)))


def verdicts(
    kind: str,
    value: NDArray[np.float64],
    error: NDArray[np.float64],
    pairs: NDArray[np.int64],
    against: NDArray[np.bool_],
) -> list[str]:
    """Returns the keys of `SENTENCES` that values (R,) and their standard errors deserve.

    Args:
        kind: `synergy` (values are SII) or `redundancy` (values are redundancy gaps).
        value: the scores.
        error: their standard errors; NaN where none is known, 0 where the value is exact.
        pairs: how many pairs each was picked from by these very measurements.
        against: the shared evidence speaks against the target.
    """
    needed = np.zeros(len(value))
    for count in np.unique(pairs):
        needed[pairs == count] = clear_errors(int(count))
    unknown, positive, size = np.isnan(error), value > 0, np.abs(value)
    clear = size > needed * error
    redundant, synergy = kind == "redundancy", kind == "synergy"
    chosen = np.select(
        [
            np.isnan(value) | (size <= ZERO),
            unknown & positive,
            unknown,
            ~positive & clear & synergy,
            ~positive,
            clear & against & redundant,
            clear,
            value > POSSIBLE * error,
        ],
        ["unclear", "unsure", "unclear", "substitutes", "unclear", "against", "clear", "maybe"],
        "unclear",
    )
    return [f"{kind}.{name}" for name in chosen.tolist()]


def is_clear(key: str) -> bool:
    """Returns whether a key of `SENTENCES` says that the pair's value is clearly positive."""
    return key.endswith((".clear", ".against"))


def doubt(key: str) -> str:
    """Returns what is said behind a value that is not clear; nothing where it is."""
    return "" if is_clear(key) else " (may be luck)"


def region(box: tuple[float, ...], size: tuple[int, int]) -> str:
    """Returns where a box lies in a picture, in words: `upper left`, `centre`, ..."""
    x, y = (box[0] + box[2]) / 2 / max(size[0], 1), (box[1] + box[3]) / 2 / max(size[1], 1)
    row = ("upper", "middle", "lower")[min(2, int(max(0.0, y) * 3))]
    column = ("left", "centre", "right")[min(2, int(max(0.0, x) * 3))]
    if row == "middle":
        return "centre" if column == "centre" else f"middle {column}"
    return f"{row} {column}"


def number(value: Any) -> str:
    """Returns a table cell: three digits after the point, `n/a` for what is missing."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        if value != 0 and not 1e-3 <= abs(value) < 1e6:
            return f"{value:.2e}".replace("-", "−")
        text = f"{value:,.3f}" if abs(value) < 100 else f"{value:,.1f}"
        return text.replace("-", "−")
    return str(value)

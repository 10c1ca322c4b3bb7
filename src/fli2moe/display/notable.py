"""Which pairs of a table deserve to be shown, and with which words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fli2moe.display.wording import verdicts
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.scores import Pair, PairScores


@dataclass(frozen=True, eq=False)
class Judged:
    """One head's pairs by rank; those whose value is not a number are left out.

    Attributes:
        scores: the rows.
        audited: (R,) which were measured in contexts that had no part in choosing them.
        keys: (R,) of `wording.SENTENCES`.
    """

    scores: PairScores
    audited: NDArray[np.bool_]
    keys: list[str]


def judged(kind: str, scores: PairScores) -> Judged:
    """Ranks and judges the pairs of one head.

    An audited pair was measured in contexts that had no part in choosing it: what it was picked
    from by luck are the audited pairs only.

    Args:
        kind: `synergy` or `redundancy`.
        scores: rows of one head.
    """
    scores = scores.select(~np.isnan(scores.value))
    scores = scores.select(scores.order())
    none = np.zeros(len(scores))
    audited = scores.columns.get("audited", none) == 1
    against = scores.columns.get("negative", none) > scores.columns.get("positive", none)
    counts = np.where(audited, audited.sum(), len(scores))
    keys = verdicts(kind, scores.value, scores.standard_error, counts, against)
    return Judged(scores, audited, keys)


def notable_pairs(
    explanation: Explanation, kind: str, k: int, head: str | None = None
) -> list[tuple[Pair, str]]:
    """Returns up to k of the strongest pairs that are not plainly nothing, with their keys.

    Args:
        explanation: of one sample.
        kind: `synergy` or `redundancy`; nothing is returned where it was not measured.
        k: at most so many.
        head: whose values; the mixture's by default.
    """
    scores = explanation.pairs.get(kind)
    head = head or explanation.heads[0]
    if scores is None or head not in scores.heads:
        return []
    found = judged(kind, scores.for_head(head))
    rows = zip(found.scores.pairs(), found.keys, strict=True)
    return [(pair, key) for pair, key in rows if not key.endswith(".unclear")][:k]

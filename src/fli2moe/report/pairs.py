"""The pairs that the page shows: the strongest of each head, and each player's own strongest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fli2moe.data.causes import lies_on
from fli2moe.data.sample import Cause
from fli2moe.display.notable import judged
from fli2moe.display.wording import is_clear
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.scores import PairScores

SHOWN = 20  # the slider's end
SUBSTITUTES = 3  # how many of the most negative SIIs are carried along


def pair_tables(explanation: Explanation, causes: Sequence[Cause]) -> dict[str, Any]:
    """Returns {kind: {head: table}} in JSON values, see `_table`."""
    return {
        kind: {
            head: _table(kind, scores.for_head(head), [c for c in causes if c.interaction == kind])
            for head in scores.heads
        }
        for kind, scores in explanation.pairs.items()
        if kind in ("synergy", "redundancy")
    }


def _table(kind: str, scores: PairScores, causes: Sequence[Cause]) -> dict[str, Any]:
    """Returns one head's pairs by rank.

    Returns:
        total: how many pairs were scored; audited: how many of them were measured again; exact:
        nothing was sampled; rows: [first, second, value, standard error or None, rank from 1,
        contexts, key of the sentence, 1 if planted, 1 if audited]; planted: the rank of the best
        planted pair, or None.
    """
    found = judged(kind, scores)
    scores, audited, keys = found.scores, found.audited, found.keys
    planted = [bool(causes) and _is_planted(scores, r, causes) for r in range(len(scores))]
    keep = _rows_to_keep(kind, scores, keys)
    if True in planted:
        keep.add(planted.index(True))
    exact = scores.settings.get("method") == "exact" and not scores.standard_error.any()
    rows = [[*_row(scores, r), keys[r], int(planted[r]), int(audited[r])] for r in sorted(keep)]
    return {
        "total": len(scores),
        "audited": int(audited.sum()),
        "exact": bool(exact),
        "rows": rows,
        "planted": planted.index(True) + 1 if True in planted else None,
    }


def _rows_to_keep(kind: str, scores: PairScores, verdicts: Sequence[str]) -> set[int]:
    keep = set(range(min(SHOWN, len(scores))))
    keep |= set([r for r, key in enumerate(verdicts) if is_clear(key)][:SHOWN])
    if kind == "synergy":
        keep |= {r for r in range(len(scores))[-SUBSTITUTES:] if scores.value[r] < 0}
    seen: set[int] = set()
    for r, players in enumerate(zip(scores.first.tolist(), scores.second.tolist(), strict=True)):
        if not seen.issuperset(players):
            keep.add(r)
            seen.update(players)
    return keep


def _row(scores: PairScores, r: int) -> list[Any]:
    value, error = float(scores.value[r]), float(scores.standard_error[r])
    return [
        int(scores.first[r]),
        int(scores.second[r]),
        rounded(value),
        None if np.isnan(error) else rounded(error),
        r + 1,
        int(scores.n_contexts[r]),
    ]


def _is_planted(scores: PairScores, r: int, causes: Sequence[Cause]) -> bool:
    pair = [scores.players[scores.first[r]], scores.players[scores.second[r]]]
    if pair[0].modality == pair[1].modality:
        return False
    return any(all(lies_on(player, cause.spans) for player in pair) for cause in causes)


def rounded(value: float) -> float:
    """Returns `value` with six significant digits: enough to show, and small in the file."""
    return float(f"{value:.6g}")

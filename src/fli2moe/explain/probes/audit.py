"""Screen all pairs with a part of the budget, then measure the best again in fresh contexts.

The best of thousands of noisy values is partly luck. Measured again in contexts that had no part in
choosing it, its value is unbiased, and with few pairs each evaluation goes further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.estimate import choose_method, pair_interactions
from fli2moe.explain.scores import Interactions, PairScores

CONTEXTS = 4  # fewest contexts that the screening aims for
SCREEN = 0.5  # share of the budget that screens
KEPT = 6  # pairs kept for each reading


def audited_interactions(
    game: TokenGame,
    budget: int,
    readings: Mapping[str, tuple[str, ...]],
    contexts: str = "shapley",
    seed: int = 0,
) -> Interactions:
    """Returns SII and redundancy gaps of all cross-modal pairs, the top ones measured afresh.

    Half of the budget screens all pairs; the top `KEPT` of each reading are measured again in fresh
    contexts with the rest, and their rows replaced (all heads); the column `audited` is 1 there.
    Where exact enumeration fits the budget there is nothing to audit. The scheme is ours, and so
    far without racing: the budget is spent whatever the first contexts show.

    Args:
        game: the game; all its heads are scored.
        budget: most new evaluations, never exceeded.
        readings: {`sii` or `redundancy`: heads whose top pairs are audited}.
        contexts: as in `shapley_interactions`.
        seed: of the screening; the audit uses another stream of it.

    Raises:
        InputError: as `shapley_interactions`; the budget must screen within its half.
    """
    if choose_method(game.n_players, budget, contexts)[0] == "exact" or contexts == "full":
        return pair_interactions(game, budget, contexts=contexts, seed=seed)
    screening = screening_budget(budget)
    screened = pair_interactions(game, screening, contexts=contexts, seed=seed)
    tables = {"sii": screened.sii, "redundancy": screened.redundancy}
    chosen = {
        (int(table.first[r]), int(table.second[r]))
        for kind, heads in readings.items()
        for head in heads
        for table in [tables[kind].for_head(head)]
        for r in table.order()[:KEPT]
    }
    again = np.array(sorted(chosen))
    fresh = pair_interactions(
        game, budget - screening, pairs=again, contexts=contexts, seed=seed + 1_000_003
    )
    note = {"audited_pairs": len(chosen), "budget": budget, "seed": seed}
    return Interactions(
        _replaced(screened.sii, fresh.sii, note),
        _replaced(screened.redundancy, fresh.redundancy, note),
    )


def screening_budget(budget: int) -> int:
    """Returns the part of a budget that screens all pairs; the rest audits the top ones."""
    return int(budget * SCREEN)


def _replaced(screened: PairScores, fresh: PairScores, note: Mapping[str, Any]) -> PairScores:
    """The screened rows, those of audited pairs taken from the fresh table."""
    row_of = {key: r for r, key in enumerate(_keys(fresh))}
    source = np.array([row_of.get(key, -1) for key in _keys(screened)])
    audited = source >= 0

    def merge(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
        return np.where(audited, new[source], old)

    settings = {**screened.settings, "audit": dict(fresh.settings), **note}
    return replace(
        screened,
        value=merge(screened.value, fresh.value),
        standard_error=merge(screened.standard_error, fresh.standard_error),
        n_contexts=merge(screened.n_contexts, fresh.n_contexts),
        columns={
            **{n: merge(column, fresh.columns[n]) for n, column in screened.columns.items()},
            "audited": audited.astype(np.float64),
        },
        settings=settings,
    )


def _keys(table: PairScores) -> list[tuple[int, int, str]]:
    return list(zip(table.first.tolist(), table.second.tolist(), table.head, strict=True))

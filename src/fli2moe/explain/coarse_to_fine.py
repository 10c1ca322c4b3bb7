"""Blocks first, then the players inside the strongest blocks, within one budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fli2moe.explain.game import TokenGame
from fli2moe.explain.grouping import Groups, group_to_budget, one_each, serves
from fli2moe.explain.probes.estimate import pair_interactions
from fli2moe.explain.probes.terms import Values
from fli2moe.explain.scores import Interactions, PairScores

COARSE = 0.4  # share of the budget for the blocks


@dataclass(frozen=True, eq=False)
class CoarseToFine:
    """Pair scores of players of two sizes.

    Attributes:
        game: single players where it matters, blocks elsewhere; the game itself where the budget
            serves all its players.
        scores: of its pairs.
        blocks: scores of the blocks that came first; None where none were needed.
        note: what was grouped and opened, for the reader of the result; empty where nothing was.
    """

    game: TokenGame
    scores: Interactions
    blocks: Interactions | None
    note: str


def coarse_to_fine(
    game: TokenGame,
    budget: int,
    method: str = "auto",
    contexts: str = "shapley",
    seed: int = 0,
    readings: Mapping[str, Sequence[str]] | None = None,
) -> CoarseToFine:
    """Scores all cross-modal pairs, of blocks where the budget cannot serve single players.

    Two fifths of the budget score blocks (`group_to_budget`). Blocks are then opened, those in the
    strongest pairs first, as many as the rest of the budget serves, and the pairs of what is now
    there are scored anew. The scheme is ours. A pair whose blocks cancel out inside can be missed.

    Args:
        game: with at least two modalities.
        budget: most new evaluations, never exceeded.
        method: as in `shapley_interactions`.
        contexts: as in `shapley_interactions`.
        seed: as in `shapley_interactions`.
        readings: as in `pair_interactions`; blocks are opened by these.

    Raises:
        InputError: as `group_to_budget` and `pair_interactions`.
    """
    singles: Groups = tuple((p,) for p in range(game.n_players))
    if serves(game, budget, method, contexts)(singles):
        scores = pair_interactions(
            game, budget, method, contexts=contexts, seed=seed, readings=readings
        )
        return CoarseToFine(game, scores, None, "")
    first = int(COARSE * budget)
    if not serves(game, first, method, contexts)(one_each(game.players)):
        first = budget  # too little to do anything twice
    coarse = group_to_budget(game, first, method, contexts)
    blocks = pair_interactions(
        coarse.game, first, method, contexts=contexts, seed=seed, readings=readings
    )
    if first == budget:
        return CoarseToFine(coarse.game, blocks, None, coarse.note)
    groups = _groups(game, coarse.game)
    strength = _strength(blocks, readings, len(groups))
    fits = serves(game, budget - first, method, contexts)
    chosen, opened = groups, 0
    for block in np.argsort(-strength, kind="stable").tolist():
        if len(groups[block]) == 1:
            continue
        finer = tuple(g for g in chosen if g != groups[block])
        finer = tuple(sorted((*finer, *((p,) for p in groups[block]))))
        if strength[block] <= 0 or not fits(finer):
            break
        chosen, opened = finer, opened + 1
    if not opened:
        return CoarseToFine(coarse.game, blocks, None, coarse.note)
    fine = game.grouped(chosen)
    scores = pair_interactions(
        fine, budget - first, method, contexts=contexts, seed=seed, readings=readings
    )
    note = (
        f"{game.n_players} players joined into {len(groups)} with the first {first} evaluations; "
        f"the {opened} strongest blocks opened with the other {budget - first}"
    )
    return CoarseToFine(fine, scores, blocks, note)


def _groups(game: TokenGame, coarse: TokenGame) -> Groups:
    """The players of the game inside each player of the coarse one."""
    holder = {
        (player.modality, token): number
        for number, player in enumerate(coarse.players)
        for token in player.tokens
    }
    inside: dict[int, list[int]] = {}
    for p, player in enumerate(game.players):
        inside.setdefault(holder[player.modality, player.tokens[0]], []).append(p)
    return tuple(tuple(inside[number]) for number in range(coarse.n_players))


def _strength(
    found: Interactions, readings: Mapping[str, Sequence[str]] | None, n_players: int
) -> Values:
    """(P,) the largest size of a score that each block takes part in, as read."""
    strength = np.zeros(n_players)
    tables: dict[str, PairScores] = {"sii": found.sii, "redundancy": found.redundancy}
    for kind, table in tables.items():
        heads = table.heads if readings is None else readings.get(kind, ())
        for head in heads:
            if head not in table.heads:
                continue
            rows = table.for_head(head)
            size = np.abs(rows.value)
            np.maximum.at(strength, rows.first, size)
            np.maximum.at(strength, rows.second, size)
    return strength

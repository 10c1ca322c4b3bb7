"""Which pairs of players a probe is asked for, and the table of scores it returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.game import TokenGame
from fli2moe.explain.scores import PairScores

Pairs = Iterable[tuple[int, int]] | NDArray[np.integer[Any]]


def asked_pairs(game: TokenGame, pairs: Pairs | None) -> NDArray[np.int64]:
    """Returns (m, 2) the pairs asked for, i < j, in the order given.

    Args:
        game: the players.
        pairs: player indices, of the same modality too; None for all cross-modal pairs.

    Raises:
        InputError: no pair at all, a player paired with itself, an index out of range, a pair
            given twice.
    """
    if pairs is None:
        found = game.cross_modal_pairs()
        if not len(found):
            remedy = "list the pairs within the modality"
            raise InputError("pairs", "players of one modality only", "two modalities", remedy)
        return found
    listed = np.asarray(pairs if isinstance(pairs, np.ndarray) else list(pairs))
    if listed.ndim != 2 or listed.shape[1] != 2 or not len(listed):
        raise InputError("pairs", f"shape {listed.shape}", "(m, 2) with m at least 1")
    if not np.issubdtype(listed.dtype, np.integer):
        raise InputError("pairs", f"values of type {listed.dtype}", "player indices")
    outside = (listed < 0) | (listed >= game.n_players)
    if outside.any():
        index = int(listed[outside][0])
        raise InputError("pairs", f"player {index}", f"0 to {game.n_players - 1}")
    ordered = np.sort(listed.astype(np.int64), axis=1)
    same = ordered[:, 0] == ordered[:, 1]
    if same.any():
        found_text = f"player {ordered[same][0, 0]} paired with itself"
        raise InputError("pairs", found_text, "two different players")
    unique, counts = np.unique(ordered, axis=0, return_counts=True)
    if len(unique) < len(ordered):
        first, second = unique[counts > 1][0]
        raise InputError("pairs", f"({first}, {second}) given twice", "each pair once")
    return ordered


def asked_heads(game: TokenGame, heads: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the heads asked for; None means all, the game's own first.

    Raises:
        InputError: an unknown head.
    """
    if heads is None:
        return (game.head, *(h for h in game.head_names if h != game.head))
    for head in heads:
        if head not in game.head_names:
            raise unknown_name("heads", "head", head, game.head_names)
    return tuple(dict.fromkeys(heads))


def with_heads(game: TokenGame, heads: Sequence[str]) -> TokenGame:
    """Returns the game with some of its heads, in that order; evaluations are the game's."""
    columns = [game.head_names.index(head) for head in heads]

    def evaluate(coalitions: Tensor) -> Tensor:
        return torch.from_numpy(game.heads(coalitions)[:, columns])

    return TokenGame(evaluate, game.players, tuple(heads), batch_size=game.batch_size)


def pair_scores(
    game: TokenGame,
    pairs: NDArray[np.int64],
    heads: tuple[str, ...],
    index: str,
    columns: Mapping[str, NDArray[np.float64]],
    n_contexts: int | NDArray[np.int64],
    settings: Mapping[str, Any],
) -> PairScores:
    """Returns the table, head by head, of columns (m, H) over all heads of the game.

    Args:
        game: whose players and heads.
        pairs: (m, 2).
        heads: those that get rows.
        index: `SII` or `redundancy_gap`.
        columns: {name: (m, H)}, at least `value` and `standard_error`.
        n_contexts: contexts behind every row, or (m,) behind each pair's.
        settings: JSON values.
    """
    chosen = [game.head_names.index(head) for head in heads]
    flat = {name: column[:, chosen].T.ravel() for name, column in columns.items()}
    return PairScores(
        index=index,
        players=game.players,
        first=np.tile(pairs[:, 0], len(heads)),
        second=np.tile(pairs[:, 1], len(heads)),
        head=tuple(head for head in heads for _ in pairs),
        value=flat.pop("value"),
        standard_error=flat.pop("standard_error"),
        n_contexts=np.tile(np.broadcast_to(np.int64(n_contexts), len(pairs)), len(heads)),
        columns=flat,
        settings=settings,
    )

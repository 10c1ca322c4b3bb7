"""Players of a game: joining several into one, and pairs of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import InputError
from fli2moe.tokens import Player

LONGEST_NAME = 60  # characters; a joined name beyond it keeps its first and its last words


def cross_modal_pairs(players: Sequence[Player]) -> NDArray[np.int64]:
    """Returns (K, 2) all pairs i < j of players of different modalities, in ascending order."""
    modalities = np.array([player.modality for player in players])
    first, second = np.triu_indices(len(players), k=1)
    cross = modalities[first] != modalities[second]
    return np.stack([first[cross], second[cross]], axis=1).astype(np.int64)


def sum_tokens(
    players: Sequence[Player], scores: Mapping[tuple[str, int], float]
) -> tuple[float, ...]:
    """Returns each player's sum over its tokens; NaN where one of them has no score.

    Args:
        players: the players.
        scores: {(modality, position of the token): score}.
    """
    return tuple(
        sum((scores.get((p.modality, token), math.nan) for token in p.tokens), 0.0) for p in players
    )


def join_players(players: Sequence[Player]) -> Player:
    """Returns one player that stands for all of `players`: present when they all are.

    Pixel boxes become their bounding box, named `patch (x0, y0)-(x1, y1)`. Character spans that
    touch are merged into one piece, the others stay separate pieces; names are joined with a space
    (nothing between spans that touch), the middle of a long name replaced by an ellipsis.

    Raises:
        InputError: when there is none, or they belong to different modalities.
    """
    modalities = sorted({player.modality for player in players})
    if len(modalities) != 1:
        found = f"players of {', '.join(modalities)}" if modalities else "no player"
        raise InputError("group of players", found, "players of one modality")
    if len(players) == 1:
        return players[0]
    ordered = sorted(players, key=lambda player: (player.spans[:1], player.tokens))
    tokens = tuple(sorted({token for player in players for token in player.tokens}))
    spans = [span for player in ordered for span in player.spans]
    if spans and all(len(span) == 4 for span in spans):
        corners = np.array(spans)
        x0, y0 = (float(x) for x in corners[:, :2].min(axis=0))
        x1, y1 = (float(x) for x in corners[:, 2:].max(axis=0))
        name = f"patch ({x0:g}, {y0:g})-({x1:g}, {y1:g})"
        return Player(modalities[0], tokens, ((x0, y0, x1, y1),), name)
    return Player(modalities[0], tokens, _merged(spans), _joined_name(ordered))


def _merged(spans: list[tuple[float, ...]]) -> tuple[tuple[float, ...], ...]:
    pieces: list[tuple[float, ...]] = []
    for span in sorted(spans):
        if pieces and pieces[-1][1] == span[0]:
            pieces[-1] = (pieces[-1][0], span[1])
        else:
            pieces.append(span)
    return tuple(pieces)


def _joined_name(players: Sequence[Player]) -> str:
    parts = [str(players[0])]
    for before, player in pairwise(players):
        touch = bool(before.spans and player.spans) and before.spans[-1][1] == player.spans[0][0]
        if touch:
            parts[-1] += str(player)
        else:
            parts.append(str(player))
    name = " ".join(parts)
    if len(name) <= LONGEST_NAME or len(parts) < 3:
        return name
    return f"{parts[0]} … {parts[-1]}"

"""Does hiding what an explanation calls important change the prediction? Top-K% masking curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.game import TokenGame

PERCENTS = (5.0, 10.0, 15.0, 20.0, 25.0)
DRAWS = 10


@dataclass(frozen=True)
class FaithfulnessCurve:
    """Comprehensiveness and sufficiency of one sample's ranking, at several K.

    Attributes:
        modality: whose players were ranked and hidden; the other modalities stayed whole.
        percents: the K, in percent of the modality's players.
        counts: k = max(1, ceil(K% of them)) for each K.
        full: p with everybody present.
        comprehensiveness: p(all) - p(top k hidden) for each K; higher is better.
        sufficiency: p(all) - p(only the top k of the modality kept); lower is better.
        random_comprehensiveness: the same for k players at random, mean over the draws.
        random_sufficiency: likewise.
    """

    modality: str
    percents: tuple[float, ...]
    counts: tuple[int, ...]
    full: float
    comprehensiveness: tuple[float, ...]
    sufficiency: tuple[float, ...]
    random_comprehensiveness: tuple[float, ...]
    random_sufficiency: tuple[float, ...]

    @property
    def aopc_comprehensiveness(self) -> float:
        """Mean comprehensiveness over the K."""
        return float(np.mean(self.comprehensiveness))

    @property
    def aopc_sufficiency(self) -> float:
        """Mean sufficiency over the K."""
        return float(np.mean(self.sufficiency))

    @property
    def comprehensiveness_gap(self) -> float:
        """Mean over the K of identified - random; above 0 is better than chance."""
        return self.aopc_comprehensiveness - float(np.mean(self.random_comprehensiveness))

    @property
    def sufficiency_gap(self) -> float:
        """Mean over the K of random - identified; above 0 is better than chance."""
        return float(np.mean(self.random_sufficiency)) - self.aopc_sufficiency


def top_k_curve(
    game: TokenGame,
    scores: Sequence[float] | NDArray[np.float64],
    modality: str,
    percents: Sequence[float] = PERCENTS,
    draws: int = DRAWS,
    seed: int = 0,
) -> FaithfulnessCurve:
    """Returns how p falls when the top K% of one modality are hidden, or only they are kept.

    Comprehensiveness and sufficiency after DeYoung et al. 2020 (ERASER); AOPC here is the mean over
    the K, not their sum over |B| + 1 (design 3.4). The players of a game are content tokens or
    groups of them. Equal scores rank in the order of the players.

    Args:
        game: whose score is the target's probability p.
        scores: (P,) importance of every player of the game; only the modality's are read.
        modality: whose players are hidden.
        percents: K, each above 0 and at most 100.
        draws: random rankings averaged for the control.
        seed: of the random rankings.

    Raises:
        InputError: an unknown modality, a K out of range, scores of another shape or not finite,
            fewer than one draw.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.shape != (game.n_players,):
        raise InputError("scores", f"shape {array.shape}", f"({game.n_players},)")
    return top_k_curves(game, array[None], modality, percents, draws, seed)[0][game.head]


def top_k_curves(
    game: TokenGame,
    scores: NDArray[np.float64],
    modality: str,
    percents: Sequence[float] = PERCENTS,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[dict[str, FaithfulnessCurve]]:
    """Returns, for each of R rankings, {head: the curve of that head's p}, as `top_k_curve`.

    All are read off the same evaluations: one coalition gives every head's p, and the random
    rankings are the same for all.

    Args:
        game: as in `top_k_curve`; every head is read.
        scores: (R, P) importance of every player, one row per ranking.
        modality: as in `top_k_curve`, like what follows.
        percents: K.
        draws: of the control.
        seed: of the control.

    Raises:
        InputError: as `top_k_curve`.
    """
    members = _members(game, modality)
    values = _values(game, scores, members)
    if draws < 1:
        raise InputError("draws", str(draws), "at least 1")
    counts = tuple(max(1, ceil(_percent(k) * len(members) / 100)) for k in percents)
    if not counts:
        raise InputError("percents", "none", "at least one K", f"the usual ones are {PERCENTS}")
    generator = np.random.default_rng(seed)
    rankings = [members[np.lexsort((members, -row))] for row in values]
    rankings += [generator.permutation(members) for _ in range(draws)]
    p = _masked(game, rankings, counts)
    chance = p.drops[len(values) :].mean(axis=0)  # (2, K, heads)

    def curve(ranking: int, head: int) -> FaithfulnessCurve:
        return FaithfulnessCurve(
            modality,
            tuple(float(k) for k in percents),
            counts,
            float(p.full[head]),
            *(_floats(drops) for drops in p.drops[ranking, :, :, head]),
            *(_floats(drops) for drops in chance[:, :, head]),
        )

    names = game.head_names
    return [{name: curve(r, h) for h, name in enumerate(names)} for r in range(len(values))]


@dataclass(frozen=True, eq=False)
class _Masked:
    full: NDArray[np.float64]  # (heads,) p with everybody present
    drops: NDArray[np.float64]  # (rankings, 2, K, heads): top k hidden, only top k kept


def _masked(
    game: TokenGame, rankings: Sequence[NDArray[np.int64]], counts: Sequence[int]
) -> _Masked:
    coalitions = np.ones((len(rankings), 2, len(counts), game.n_players), dtype=np.bool_)
    for r, ranking in enumerate(rankings):
        for c, k in enumerate(counts):
            coalitions[r, 0, c, ranking[:k]] = False
            coalitions[r, 1, c, ranking[k:]] = False
    everybody = np.ones((1, game.n_players), dtype=np.bool_)
    p = game.heads(np.concatenate([everybody, coalitions.reshape(-1, game.n_players)]))
    return _Masked(p[0], (p[0] - p[1:]).reshape(*coalitions.shape[:3], -1))


def _members(game: TokenGame, modality: str) -> NDArray[np.int64]:
    modalities = [player.modality for player in game.players]
    if modality not in modalities:
        raise unknown_name("top_k_curve", "modality", modality, dict.fromkeys(modalities))
    return np.flatnonzero(np.array(modalities) == modality)


def _values(
    game: TokenGame, scores: NDArray[np.float64], members: NDArray[np.int64]
) -> NDArray[np.float64]:
    if scores.ndim != 2 or scores.shape[1] != game.n_players:
        raise InputError("scores", f"shape {scores.shape}", f"(rankings, {game.n_players})")
    values: NDArray[np.float64] = scores[:, members]
    if not np.isfinite(values).all():
        raise InputError("scores", "NaN or infinite importance", "finite values")
    return values


def _percent(k: float) -> float:
    if not 0 < k <= 100:
        raise InputError("percents", f"K = {k}", "above 0 and at most 100")
    return k


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(x) for x in values)

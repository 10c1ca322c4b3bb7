"""To and from shapiq: pair scores as `InteractionValues`, games in both directions.

shapiq is optional (`pip install "fli2moe[shapiq]"`). Its results have no names of players, no
standard errors and no missing pairs: what it has no room for is said in each function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.errors import InputError, MachineError
from fli2moe.explain import PairScores, TokenGame
from fli2moe.tokens import Player

INDEX_OF_LAW = {"shapley": "SII", "banzhaf": "BII"}
"""Contexts' law -> what shapiq calls the average of pair interactions over it."""

ArrayGame = Callable[[NDArray[np.bool_]], NDArray[np.float64]]
"""shapiq's convention: bool (N, P) -> float (N,), NumPy on both sides."""


def to_shapiq(scores: PairScores, head: str | None = None, baseline_value: float = 0.0) -> Any:
    """Returns one head's pair interactions as `shapiq.InteractionValues` of order 2.

    Index `SII`, or `BII` where the contexts were those of Banzhaf. A pair without a row stays out
    of the lookup (shapiq then answers 0 for it). Standard errors and names have no room there;
    `estimated` is False only where every standard error is 0.

    Args:
        scores: Shapley interactions, not redundancy gaps.
        head: the head; None for the first.
        baseline_value: the game's value when nobody is present, which pair scores do not hold.

    Raises:
        InputError: an index or contexts that shapiq does not have, an unknown head.
        MachineError: when shapiq is not installed.
    """
    shapiq = _shapiq()
    law = str(scores.settings.get("contexts", "shapley"))
    if scores.index != "SII" or law not in INDEX_OF_LAW:
        found = f"index {scores.index} over {law} contexts, which shapiq does not have"
        expected = "SII over shapley or banzhaf contexts"
        remedy = "hand in the scores of shapley_interactions; save others by to_json"
        raise InputError("to_shapiq", found, expected, remedy)
    chosen = scores.for_head(head or scores.heads[0]) if len(scores) else scores
    pairs = zip(chosen.first.tolist(), chosen.second.tolist(), strict=True)
    evaluations = scores.settings.get("evaluations")
    return shapiq.InteractionValues(
        dict(zip(pairs, chosen.value.tolist(), strict=True)),
        index=INDEX_OF_LAW[law],
        min_order=2,
        max_order=2,
        n_players=len(scores.players),
        estimated=not bool((chosen.standard_error == 0).all()),
        estimation_budget=None if evaluations is None else int(evaluations),
        baseline_value=float(baseline_value),
    )


def from_shapiq(values: Any, players: Sequence[Player]) -> PairScores:
    """Returns the order-2 entries of `shapiq.InteractionValues` as pair scores of one head.

    Estimates get standard error NaN (unknown) and exact values 0; `n_contexts` is 0, since shapiq
    does not count them. An approximator's 0 may be a pair that it never saw.

    Args:
        values: interaction values of index `SII` or `BII`, of which only pairs are read.
        players: the players, in the order of shapiq's indices.

    Raises:
        InputError: another index (k-SII, STII, ... mix orders: they are other numbers), or
            another number of players.
    """
    laws = {index: law for law, index in INDEX_OF_LAW.items()}
    if values.index not in laws:
        remedy = "ask shapiq for index='SII' with max_order=2"
        raise InputError("from_shapiq", f"index {values.index}", "SII or BII", remedy)
    if len(players) != values.n_players:
        found = f"{len(players)} players for values of {values.n_players}"
        raise InputError("from_shapiq", found, "one player per index")
    pairs = {tuple(sorted(key)): value for key, value in values.dict_values.items()}
    pairs = {key: value for key, value in sorted(pairs.items()) if len(key) == 2}
    rows = len(pairs)
    budget = values.estimation_budget
    return PairScores(
        index="SII",
        players=tuple(players),
        first=np.array([first for first, _ in pairs], dtype=np.int64),
        second=np.array([second for _, second in pairs], dtype=np.int64),
        head=("score",) * rows,
        value=np.array(list(pairs.values()), dtype=np.float64),
        standard_error=np.full(rows, np.nan if values.estimated else 0.0),
        n_contexts=np.zeros(rows, dtype=np.int64),
        settings={
            "method": "shapiq",
            "contexts": laws[values.index],
            "evaluations": None if budget is None else int(budget),
            "standard_error": "unknown" if values.estimated else "exact",
        },
    )


def as_shapiq_game(game: TokenGame, *, normalize: bool = False) -> Any:
    """Returns a `shapiq.Game` of the game's head, for shapiq's approximators and `ExactComputer`.

    Evaluations are shared with `game`. `player_name_lookup` holds the players' names; one that
    occurs again gets its index behind it.

    Args:
        game: the game.
        normalize: subtract the value of the empty coalition, as some of shapiq's estimators want;
            without it the empty value is the game's own, v(nobody).

    Raises:
        MachineError: when shapiq is not installed.
    """
    base = _shapiq().Game

    class TokenGameForShapiq(base):  # type: ignore[misc, valid-type]
        """A token game under shapiq's base class."""

        def value_function(self, coalitions: NDArray[Any]) -> NDArray[np.float64]:
            """Maps (N, P) of 0 and 1 to values (N,)."""
            return game(np.asarray(coalitions).astype(np.bool_))

    empty = float(game(np.zeros(game.n_players, dtype=np.bool_))[0]) if normalize else None
    return TokenGameForShapiq(
        game.n_players,
        normalize=normalize,
        normalization_value=empty,
        player_names=_unique_names(game.players),
    )


def from_shapiq_game(game: ArrayGame, players: Mapping[str, int]) -> TokenGame:
    """Makes a game of a `shapiq.Game` or of any function in its convention.

    Values are those before normalisation: what a `shapiq.Game` subtracts is added again, so that
    v(nobody) stays visible. Players take the names of `player_name_lookup` where it has them all.

    Args:
        game: bool array (N, P) -> float array (N,).
        players: {modality: number of players}; columns in that order.

    Raises:
        InputError: when the numbers of players do not add up to those of a `shapiq.Game`; on
            evaluation NaN, infinite values or a wrong shape.
    """
    total = sum(players.values())
    expected = getattr(game, "n_players", total)
    if expected != total:
        raise InputError("players", f"{total} in all", f"{expected}, as many as the game has")
    subtracted = float(getattr(game, "normalization_value", 0.0))
    lookup = getattr(game, "player_name_lookup", None) or {}
    names = {column: name for name, column in lookup.items()}

    def evaluate(coalitions: Tensor) -> Tensor:  # (N, P) -> (N,)
        return torch.as_tensor(np.asarray(game(coalitions.numpy()), dtype=np.float64) + subtracted)

    columns = [(modality, i) for modality, count in players.items() for i in range(count)]
    named = tuple(
        Player(modality, (i,), name=names[c] if len(names) == total else f"{modality}[{i}]")
        for c, (modality, i) in enumerate(columns)
    )
    return TokenGame(evaluate, named, None)


def _unique_names(players: Sequence[Player]) -> list[str]:
    names: list[str] = []
    for index, player in enumerate(players):
        name = str(player)
        names.append(f"{name} ({index})" if name in names else name)
    return names


def _shapiq() -> Any:
    try:
        import shapiq
    except ImportError as error:
        remedy = 'pip install "fli2moe[shapiq]"'
        raise MachineError("package:shapiq", "is not installed", "", remedy) from error
    return shapiq

"""The narrow waist: a game maps coalitions of players to scores; every probe is a function of one.

A sample, a target, a baseline and a model become a `TokenGame`; so does any function. Masking
curves, interactions and redundancy gaps see nothing but the game.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.evaluations import Evaluate, Evaluations
from fli2moe.explain.players import cross_modal_pairs, join_players
from fli2moe.tokens import Player

DEFAULT_BATCH = 256

Coalitions = Tensor | NDArray[np.bool_]
"""bool (N, P), or (P,) for a single coalition; True where a player is present."""


class TokenGame:
    """A function from coalitions to one head's score, with every evaluation kept and shared.

    `game(coalitions)` is the signature that shapiq uses. Values are float64 on the CPU, without
    gradients. A value does not depend on `batch_size` as long as `evaluate` treats rows apart.

    Args:
        evaluate: bool (N, P) on the CPU -> float (N, H), or (N,) where there is one head; called
            with at most `batch_size` rows, in no particular order, never twice for a coalition
            (but for `check`).
        players: the P players, in the order of the columns.
        head_names: the H heads; None takes them from the first values (`score`, or `head 0`...).
        head: the head that `game(...)` scores; the first by default.
        batch_size: most rows in one call; halved, with the same result, when memory runs out.
        progress: called after each batch with the number of evaluations just made.

    Raises:
        InputError: fewer than two players, an unknown head; and on evaluation NaN or infinite
            values, a wrong shape.
        MachineError: when memory does not suffice for a single coalition.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        players: tuple[Player, ...],
        head_names: tuple[str, ...] | None,
        head: str | None = None,
        batch_size: int = DEFAULT_BATCH,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError("game", f"batch_size {batch_size}", "at least 1")
        if head_names is not None and (not head_names or len(set(head_names)) < len(head_names)):
            raise InputError("game", f"heads {head_names}", "at least one, each named once")
        self._group_of: NDArray[np.int64] = np.arange(len(players))  # (fine players,) -> player
        self._store = Evaluations(evaluate, len(players), head_names, batch_size, progress)
        self._set_players(players)
        self._head = head
        if head is not None:
            self._column(head)

    @staticmethod
    def from_callable(
        f: Evaluate,
        players: Mapping[str, int],
        head_names: tuple[str, ...] | None = None,
        *,
        batch_size: int = DEFAULT_BATCH,
        progress: Callable[[int], None] | None = None,
    ) -> TokenGame:
        """Makes a game of any function: `from_callable(f, {"text": 64, "image": 196})`.

        Args:
            f: bool tensor (N, P) -> float tensor (N,) or (N, heads).
            players: {modality: number of players}; columns in that order, named `text[0]`...
            head_names: names of f's heads.
            batch_size: as in `TokenGame`.
            progress: as in `TokenGame`.
        """
        named = tuple(
            Player(modality, (i,), name=f"{modality}[{i}]")
            for modality, count in players.items()
            for i in range(count)
        )
        return TokenGame(f, named, head_names, batch_size=batch_size, progress=progress)

    @staticmethod
    def from_model(
        model: Any,
        inputs: Mapping[str, Any],
        processor: Any,
        *,
        target: int | str | None = None,
        text: str | None = None,
        picture_size: tuple[int, int] | None = None,
        hide: str = "embedding",
        baseline: str | Mapping[str, Tensor] = "mean",
        score: str = "auto",
        batch_size: int = 64,
        progress: Callable[[int], None] | None = None,
    ) -> TokenGame:
        """Makes a game of words and patches under a CLIP-like or ViLT model; see `hf_game`."""
        from fli2moe.explain.hf_game import hf_game

        return hf_game(
            model,
            inputs,
            processor,
            target=target,
            text=text,
            picture_size=picture_size,
            hide=hide,
            baseline=baseline,
            score=score,
            batch_size=batch_size,
            progress=progress,
        )

    def __call__(self, coalitions: Coalitions) -> NDArray[np.float64]:
        """Returns (N,) the head's scores of coalitions bool (N, P); (1,) for one of shape (P,)."""
        return self.heads(coalitions)[:, self._column(self.head)]

    def heads(self, coalitions: Coalitions) -> NDArray[np.float64]:
        """Returns (N, H) every head's scores, from the same evaluations."""
        return self._store.values(self._rows(coalitions)[:, self._group_of])

    def on(self, head: str) -> TokenGame:
        """Returns the same game scored by another head; evaluations are shared.

        Raises:
            InputError: when there is no such head.
        """
        self._column(head)
        return self._view(self.players, self._group_of, head)

    def grouped(self, groups: Sequence[Sequence[int]]) -> TokenGame:
        """Returns the game whose players are unions of this game's; evaluations are shared.

        Args:
            groups: indices of this game's players, each in exactly one group; the groups'
                order is the order of the new players.

        Raises:
            InputError: when the groups are no partition, or one mixes modalities.
        """
        flat = sorted(int(p) for group in groups for p in group)
        if flat != list(range(self.n_players)):
            missing = sorted(set(range(self.n_players)) - set(flat))
            found = f"{len(flat)} members" + (f", player {missing[0]} missing" if missing else "")
            raise InputError(
                "groups", found, f"each of the players 0..{self.n_players - 1} exactly once"
            )
        group_of = np.empty(self.n_players, dtype=np.int64)
        for number, group in enumerate(groups):
            group_of[list(group)] = number
        joined = tuple(join_players([self.players[p] for p in group]) for group in groups)
        return self._view(joined, group_of[self._group_of], self._head)

    def check(self) -> None:
        """Checks once that the game is deterministic.

        Every second player present, evaluated twice: that differs both when hidden tokens are
        filled with fresh noise and when dropout is on. The first call costs one evaluation, counted
        in `repeats`, beside that of the coalition itself; later calls cost nothing. Probes call it
        when their budget has that to spare.

        Raises:
            InputError: when the two values differ.
        """
        alternating = np.arange(self.n_players) % 2 == 0
        self._store.check(alternating[self._group_of])

    @property
    def head(self) -> str:
        """Name of the head that `game(...)` scores."""
        return self.head_names[0] if self._head is None else self._head

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the heads; evaluates the empty coalition where they are not known yet."""
        return self._store.head_names

    @property
    def heads_known(self) -> bool:
        """Whether asking for `head_names` costs no evaluation."""
        return self._store.heads_known

    @property
    def n_players(self) -> int:
        """The number of players P."""
        return len(self.players)

    @property
    def evaluations(self) -> int:
        """Distinct coalitions evaluated so far, by this game and all that share with it."""
        return len(self._store)

    @property
    def repeats(self) -> int:
        """Evaluations beyond the distinct ones, made by `check`."""
        return self._store.repeats

    @property
    def batch_size(self) -> int:
        """Most rows in one call of the model; smaller than asked for after memory ran out."""
        return self._store.batch_size

    def cross_modal_pairs(self) -> NDArray[np.int64]:
        """Returns (K, 2) all pairs i < j of players of different modalities, ascending."""
        return cross_modal_pairs(self.players)

    def __repr__(self) -> str:
        return f"TokenGame({self.n_players} players, {self.evaluations} evaluations)"

    def _set_players(self, players: tuple[Player, ...]) -> None:
        if len(players) < 2:
            remedy = "interactions need two players"
            raise InputError("game", f"{len(players)} player(s)", "at least two", remedy)
        self.players = tuple(players)

    def _view(
        self, players: tuple[Player, ...], group_of: NDArray[np.int64], head: str | None
    ) -> TokenGame:
        view = object.__new__(TokenGame)
        view._store, view._group_of, view._head = self._store, group_of, head
        view._set_players(players)
        return view

    def _column(self, head: str) -> int:
        if head not in self.head_names:
            raise unknown_name("game", "head", head, self.head_names)
        return self.head_names.index(head)

    def _rows(self, coalitions: Coalitions) -> NDArray[np.bool_]:
        array = coalitions.cpu().numpy() if isinstance(coalitions, torch.Tensor) else coalitions
        rows = np.atleast_2d(array)
        if rows.dtype != np.bool_ or rows.ndim != 2 or rows.shape[1] != self.n_players:
            found = f"{rows.dtype} of shape {tuple(array.shape)}"
            raise InputError("coalitions", found, f"bool (N, {self.n_players})")
        return rows

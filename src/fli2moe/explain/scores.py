"""Pair scores: one row per pair of players and head, with its error and how often it was seen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import InputError, unknown_name
from fli2moe.tokens import Player

if TYPE_CHECKING:
    import pandas

INDICES = ("SII", "redundancy_gap")


@dataclass(frozen=True, repr=False)
class Pair:
    """One scored pair, with its players resolved; prints as `red × patch (96, 32)-...: +1.84`.

    `audited` says whether it was measured again in contexts that had no part in choosing it.
    """

    first: Player
    second: Player
    value: float
    standard_error: float
    n_contexts: int
    head: str
    rank: int
    audited: bool = False

    def __str__(self) -> str:
        return f"{self._names()}: {self.amount}"

    @property
    def amount(self) -> str:
        """The value with its error: `+3.44 ± 0.23`, `+2.00 (exact)`."""
        error = "" if np.isnan(self.standard_error) else f" ± {self.standard_error:.2g}"
        if self.standard_error == 0:
            error = " (exact)"
        return f"{_shown(self.value, self.standard_error)}{error}"

    def __repr__(self) -> str:
        return f"Pair({self})"

    def _names(self) -> str:
        players = (self.first, self.second)
        if all(len(p.spans[0]) == 4 if p.spans else False for p in players):
            return " × ".join(f"{p.modality} {p}" for p in players)  # two pictures: say which
        return f"{self.first} × {self.second}"


@dataclass(frozen=True, eq=False, repr=False)
class PairScores:
    """Scores of pairs under one or several heads. A pair that was never sampled has no row.

    Equal where players and `to_json` are.

    Attributes:
        index: `SII` (full, not half) or `redundancy_gap`.
        players: all players of the game, in the order of its coalitions' columns.
        first, second: (R,) player indices of each row's pair, first < second.
        head: (R,) head names.
        value: (R,) the score, in units of the game's score (logits for our models).
        standard_error: (R,) of the value; 0 only where the value is exact.
        n_contexts: (R,) contexts (or coalition pairs) the value was averaged over.
        columns: further (R,) columns by name (`positive`, `negative`, `overlap` for gaps).
        settings: method, contexts' law, budget, evaluations used, seed, grouping: JSON values.
    """

    index: str
    players: tuple[Player, ...]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    head: tuple[str, ...]
    value: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    n_contexts: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.head)
        columns = {"first": self.first, "second": self.second, "value": self.value}
        columns |= {"standard_error": self.standard_error, "n_contexts": self.n_contexts}
        for name, column in {**columns, **self.columns}.items():
            if column.shape != (rows,):
                raise InputError(f"PairScores.{name}", f"shape {column.shape}", f"({rows},)")

    def __len__(self) -> int:
        return len(self.head)

    def __repr__(self) -> str:
        method = self.settings.get("method", "unknown method")
        heads = ", ".join(self.heads) or "no head"
        size = f"{len(self)} rows of {len(self.players)} players"
        return f"PairScores({self.index}, {size}; {heads}; {method})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PairScores):
            return NotImplemented
        same = json.dumps(self.to_json()) == json.dumps(other.to_json())
        return same and self.players == other.players

    def __hash__(self) -> int:
        return hash((self.index, self.head, tuple(self.first.tolist())))

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that have rows, in order of first appearance."""
        return tuple(dict.fromkeys(self.head))

    def select(self, rows: NDArray[Any]) -> PairScores:
        """Returns the rows that a boolean mask or an index array selects, in that order."""
        index = np.arange(len(self))[rows]
        return replace(
            self,
            first=self.first[index],
            second=self.second[index],
            head=tuple(self.head[i] for i in index),
            value=self.value[index],
            standard_error=self.standard_error[index],
            n_contexts=self.n_contexts[index],
            columns={name: column[index] for name, column in self.columns.items()},
        )

    def for_head(self, head: str) -> PairScores:
        """Returns the rows of one head.

        Raises:
            InputError: when no row belongs to `head`; lists the heads.
        """
        if head not in self.heads:
            raise unknown_name("PairScores", "head", head, self.heads)
        return self.select(np.array([h == head for h in self.head]))

    def order(self, *, ascending: bool = False) -> NDArray[np.int64]:
        """Returns row numbers by value; ties go to the smaller player indices, so it is stable.

        Audited rows beyond zero come first: the value of a pair that was measured only while
        screening holds the luck of the best of many, and must not push aside one that was measured
        afresh. One that proved to be of the other sign, or nothing, has no such claim.
        """
        value = self.value if ascending else -self.value
        audited = self.columns.get("audited", np.zeros(len(self))) == 1
        behind = ~(audited & (value < 0))
        return np.lexsort((self.second, self.first, value, behind))

    def top(self, k: int, *, head: str | None = None, ascending: bool = False) -> list[Pair]:
        """Returns the k pairs with the largest value of one head (the first head by default)."""
        if not len(self):
            return []
        scores = self.for_head(head or self.heads[0])
        best = scores.select(scores.order(ascending=ascending)[:k])
        return list(best.pairs())

    def pairs(self) -> Iterator[Pair]:
        """Yields every row as a `Pair`, ranked in the order of the rows."""
        audited = self.columns.get("audited", np.zeros(len(self)))
        for r, head in enumerate(self.head):
            yield Pair(
                self.players[self.first[r]],
                self.players[self.second[r]],
                float(self.value[r]),
                float(self.standard_error[r]),
                int(self.n_contexts[r]),
                head,
                r + 1,
                bool(audited[r]),
            )

    def to_dataframe(self) -> pandas.DataFrame:
        """Returns a pandas frame: first, second, value, standard_error, n_contexts, ..., head.

        `first` and `second` are indices into `players`; the column `head` is present when there
        are several heads.
        """
        import pandas

        data: dict[str, Any] = {"first": self.first, "second": self.second, "value": self.value}
        data |= {"standard_error": self.standard_error, "n_contexts": self.n_contexts}
        data |= dict(self.columns)
        if len(self.heads) > 1:
            data["head"] = list(self.head)
        return pandas.DataFrame(data)

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values (players are left out: the explanation holds them)."""
        names = self.heads
        return {
            "index": self.index,
            "first": self.first.tolist(),
            "second": self.second.tolist(),
            "heads": list(names),
            "head": [names.index(h) for h in self.head],
            "value": _numbers(self.value),
            "standard_error": _numbers(self.standard_error),
            "n_contexts": self.n_contexts.tolist(),
            "columns": {name: _numbers(column) for name, column in self.columns.items()},
            "settings": dict(self.settings),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any], players: tuple[Player, ...]) -> PairScores:
        """Returns what `to_json` wrote."""
        return PairScores(
            index=data["index"],
            players=players,
            first=np.array(data["first"], dtype=np.int64),
            second=np.array(data["second"], dtype=np.int64),
            head=tuple(data["heads"][h] for h in data["head"]),
            value=_array(data["value"]),
            standard_error=_array(data["standard_error"]),
            n_contexts=np.array(data["n_contexts"], dtype=np.int64),
            columns={name: _array(column) for name, column in data["columns"].items()},
            settings=data["settings"],
        )


@dataclass(frozen=True, eq=False)
class Interactions:
    """Both scores of the same pairs from the same evaluations.

    Attributes:
        sii: Shapley interaction index.
        redundancy: redundancy gap, with columns `positive`, `negative` and `overlap`.
    """

    sii: PairScores
    redundancy: PairScores


def _shown(value: float, error: float) -> str:
    """Two decimals, or as many as the error has to say."""
    finest = min(abs(value) or 1.0, error if error > 0 else 1.0)
    decimals = 2 if finest >= 0.01 else min(6, 1 - int(np.floor(np.log10(finest))))
    return f"{value:+.{decimals}f}"


def _numbers(column: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(x) else float(x) for x in column]  # JSON has no NaN


def _array(column: list[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if x is None else x for x in column], dtype=np.float64)

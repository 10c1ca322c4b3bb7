"""Both tables of pairs of which some were measured in contexts and some only screened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.audit import Audit
from fli2moe.explain.probes.pairs import pair_scores
from fli2moe.explain.probes.race import Race
from fli2moe.explain.probes.sampling import Request
from fli2moe.explain.probes.terms import Values
from fli2moe.explain.scores import PairScores

DIGITS = 12


def race_of(request: Request, heads: Sequence[str]) -> Race | None:
    """Returns the race that a request asks for, on the first head of its first reading."""
    if request.top is None:
        return None
    kind, readers = next(iter(request.readings.items()))
    term = "interaction" if kind == "sii" else "gap"
    return Race(request.top, request.confidence, term, heads.index((readers or heads)[0]))


@dataclass(frozen=True, eq=False)
class Tables:
    """What the two tables of a request have in common.

    Attributes:
        game: all its heads have a place in the columns of `pair_scores`.
        request: its pairs (m, 2).
        heads: the H that were scored.
        rows: (r,) pairs that were audited.
        audited: what they turned out to be; None where nothing was.
        elsewhere: coalitions behind every other pair.
        settings: beside those of the request.
    """

    game: TokenGame
    request: Request
    heads: tuple[str, ...]
    rows: NDArray[np.int64]
    audited: Audit | None
    elsewhere: int
    settings: Mapping[str, Any]

    def make(
        self, index: str, columns: Mapping[str, Values], scored: NDArray[np.bool_] | None = None
    ) -> PairScores:
        """Returns a table: audited rows replaced, rows that nothing is known of left out.

        Args:
            index: `SII` or `redundancy_gap`.
            columns: {name: (m, H)} of all pairs.
            scored: (m, H) which of them hold something; None for all.
        """
        m = len(self.request.pairs)
        merged = {name: column.copy() for name, column in columns.items()}
        contexts = np.full(m, self.elsewhere, dtype=np.int64)
        merged["audited"] = np.zeros((m, len(self.heads)))
        if self.audited is not None:
            measured = self.audited.measured
            fresh = measured.interactions() if index == "SII" else measured.gaps()
            term = "interaction" if index == "SII" else "gap"
            for name, column in merged.items():
                if name.endswith("error"):
                    column *= measured.inflation.get(term, 1.0)
            for name, column in fresh.items():
                merged[name][self.rows] = column
            contexts[self.rows] = measured.n_contexts
            merged["audited"][self.rows] = 1.0
            merged |= self._ranks(index)
            if scored is not None:
                scored = scored | (merged["audited"] == 1)
        wide = {name: self._spread(_rounded(column)) for name, column in merged.items()}
        table = pair_scores(
            self.game, self.request.pairs, self.heads, index, wide, contexts, self._described()
        )
        return table if scored is None else table.select(scored.T.ravel())

    def _spread(self, column: Values) -> Values:
        """(m, all heads of the game) of a column (m, H)."""
        wide = np.full((len(column), len(self.game.head_names)), np.nan)
        wide[:, [self.game.head_names.index(head) for head in self.heads]] = column
        return wide

    def _ranks(self, index: str) -> dict[str, Values]:
        race = race_of(self.request, self.heads)
        if race is None or self.audited is None:
            return {}
        if (race.term == "interaction") != (index == "SII"):
            return {}
        columns = {}
        for name, ranks in zip(("rank_from", "rank_to"), self.audited.ranks(race.top), strict=True):
            columns[name] = np.full((len(self.request.pairs), len(self.heads)), np.nan)
            columns[name][self.rows, race.head] = ranks
        return columns

    def _described(self) -> dict[str, Any]:
        described = {**self.request.settings, **self.settings, "audited_pairs": len(self.rows)}
        if self.audited is not None:
            fit = [None if np.isnan(x) else round(float(x), 4) for x in self.audited.fit]
            if any(x is not None for x in fit):
                described["fit"] = dict(zip(self.heads, fit, strict=True))
            if self.request.top is not None:
                described["race"] = self.audited.verdict(self.request.top, self.request.confidence)
        return described


def _rounded(column: Values) -> Values:
    """To twelve decimals of the largest size: the last bits of a fit depend on where memory lay."""
    largest = float(np.nanmax(np.abs(column), initial=0.0))
    if largest == 0.0 or not np.isfinite(largest):
        return column
    return np.round(column, DIGITS - int(np.floor(np.log10(largest))))

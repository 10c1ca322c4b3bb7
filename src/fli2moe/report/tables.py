"""Tables of figures over the whole data set, from plain mappings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fli2moe.display.wording import number
from fli2moe.errors import InputError


@dataclass(frozen=True)
class Table:
    """One table, ready to print.

    Attributes:
        title: its caption.
        columns: column names.
        numeric: per column, whether it holds numbers (they are set to the right).
        rows: cells as text.
        note: what a reader must know, or empty.
    """

    title: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(metrics: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Returns one `Table` per entry of {title: {`columns`, `rows`, `note`}}.

    Raises:
        InputError: when an entry has no columns or a row has another length.
    """
    return [_table(title, entry) for title, entry in metrics.items()]


def _table(title: str, entry: Mapping[str, Any]) -> Table:
    where = f"report, table {title!r}"
    if "columns" not in entry or "rows" not in entry:
        raise InputError(where, f"keys {sorted(entry)}", "`columns` and `rows`")
    columns = tuple(str(c) for c in entry["columns"])
    rows = [tuple(row) for row in entry["rows"]]
    for i, row in enumerate(rows):
        if len(row) != len(columns):
            raise InputError(f"{where}, row {i + 1}", f"{len(row)} cells", f"{len(columns)}")
    numeric = tuple(
        any(isinstance(row[c], (int, float, np.number)) for row in rows)
        and not any(isinstance(row[c], str) for row in rows)
        for c in range(len(columns))
    )
    cells = tuple(tuple(number(cell) for cell in row) for row in rows)
    return Table(title, columns, numeric, cells, str(entry.get("note") or ""))

"""Rows of strings from CSV, JSONL and Parquet files, read as a stream.

Every value becomes a string and keeps its spelling: the id 001 stays 001 and the label NA stays
NA. In JSONL and Parquet, where values have types, null and NaN become the empty string, true and
false their lower-case names, numbers and dates their Python spelling, and lists and objects JSON
text; binary columns are refused. Memory is bounded by `LINE_LIMIT` (text) or one batch (Parquet).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fli2moe.data.parquet import parquet_records
from fli2moe.data.problems import RowFaults, Sink, shown
from fli2moe.data.text_files import FIELD_LIMIT, csv_records, jsonl_records
from fli2moe.errors import InputError, closest


@dataclass(frozen=True)
class Row:
    """One row: its line (text files) or row number (Parquet), and its values by column."""

    number: int
    values: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table that is being read.

    Attributes:
        path: the file.
        columns: column names in the order of the file.
        unit: what a row's number counts, `line` or `row`.
        rows: the rows, once; faulty ones go to the sink and are left out.
    """

    path: Path
    columns: tuple[str, ...]
    unit: str
    rows: Iterator[Row]


_ANEW = "write the file anew"

Record = tuple[int, Sequence[str]]
Reader = Callable[[Path, Sink, str], Iterator[Record]]


def open_table(path: str | Path, report: Sink, encoding: str = "utf-8") -> Table:
    """Opens a `.csv`, `.jsonl` / `.ndjson` or `.parquet` / `.pq` file and reads its header.

    Args:
        path: the file.
        report: where the faults of single rows go (ragged, unreadable, oversized).
        encoding: of a text file.

    Raises:
        InputError: when the file or its header cannot be used, here or while rows are read.
    """
    path = Path(path)
    _check_file(path)
    reader = _reader(path)
    records = reader(path, report, encoding)
    head = next(records, None)
    if head is None:
        raise InputError(str(path), "nothing but blank or faulty lines", "a header and rows", _ANEW)
    columns = tuple(head[1])
    _check_columns(path, columns)
    unit = "row" if reader is parquet_records else "line"
    return Table(path, columns, unit, _rows(path, columns, unit, records, report))


def _reader(path: Path) -> Reader:
    readers: dict[str, Reader] = {
        ".csv": csv_records,
        ".jsonl": jsonl_records,
        ".ndjson": jsonl_records,
        ".parquet": parquet_records,
        ".pq": parquet_records,
    }
    suffix = path.suffix.lower()
    if suffix in readers:
        return readers[suffix]
    raise InputError(
        str(path),
        f"file type {suffix or 'without a suffix'}",
        "one of .csv, .jsonl, .parquet",
        "save it as one of them (comma-separated, UTF-8, with a header)",
    )


def _check_file(path: Path) -> None:
    """Raises unless `path` is a readable, non-empty regular file."""
    where, expected = str(path), "a CSV, JSONL or Parquet file"
    try:
        if path.is_dir():
            raise InputError(where, "a folder", expected, "name the file inside it")
        if not path.exists():
            names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            match = closest(path.name, names)
            remedy = f"did you mean {str(path.with_name(match))!r}?" if match else "check the path"
            raise InputError(where, "no such file", expected, remedy)
        if not path.is_file():  # a pipe or a device would block or never end
            raise InputError(where, "not a regular file", expected, "name a file on disk")
        with path.open("rb") as file:
            empty = not file.read(1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        remedy = "check the path and its permissions"
        raise InputError(where, f"cannot be opened ({reason})", expected, remedy) from error
    if empty:
        raise InputError(where, "an empty file", "a header and rows", _ANEW)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    where = f"{path}, line 1" if path.suffix.lower() == ".csv" else str(path)
    if len(columns) == 1:
        for name, mark in (("';'", ";"), ("a tab", "\t")):
            if mark in columns[0]:
                found = f"one column found; looks like {name} separates the columns"
                raise InputError(where, found, "columns separated by ','", "save it with commas")
    for number, name in enumerate(columns, start=1):
        if not name.strip():
            found = f"column {number} has no name"
            remedy = "name it, or remove the trailing comma"
            raise InputError(where, found, "a name for each column", remedy)
        if name in columns[: number - 1]:
            found = f"column name {name!r} stands twice ({columns.index(name) + 1} and {number})"
            raise InputError(where, found, "distinct column names", "rename one of them")


def _rows(
    path: Path, columns: tuple[str, ...], unit: str, records: Iterator[Record], report: Sink
) -> Iterator[Row]:
    """Yields the records as rows; what is ragged or not clean text is reported and left out."""
    seen = False
    for number, fields in records:
        seen = True
        faults = RowFaults(report, str(path), unit, number)
        if len(fields) != len(columns):
            faults(
                None,
                f"{len(fields)} fields",
                f"{len(columns)} as in the header ({', '.join(map(shown, columns[:8]))})",
                "quote fields that hold a comma, or add the missing ones",
            )
            continue
        values = dict(zip(columns, fields, strict=True))
        if _clean(values, faults):
            yield Row(number, values)
    if not seen:
        raise InputError(str(path), "a header but no rows", "one row for each sample", "add rows")


def _clean(values: dict[str, str], faults: RowFaults) -> bool:
    clean = True
    for column, value in values.items():
        if len(value) > FIELD_LIMIT:
            found = f"{len(value):,} characters"
            faults(column, found, f"at most {FIELD_LIMIT:,}", "shorten the text")
        elif "\0" in value:
            faults(column, "a NUL character", "plain text", "remove it")
        elif not value.isascii() and not _encodable(value):
            faults(column, "half a surrogate pair", "valid Unicode", "write the character whole")
        else:
            continue
        clean = False
    return clean


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

"""Records of CSV and JSONL files, decoded strictly, line by line."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from fli2moe.data.problems import Problem, RowFaults, Sink
from fli2moe.data.values import FieldError, as_text
from fli2moe.errors import InputError, closest

FIELD_LIMIT = 1_000_000
"""Longest field in characters; a longer one is mostly a quote that was never closed."""

LINE_LIMIT = 10_000_000
"""Longest line of a text file in bytes."""


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Yields the lines of a file with their line ends; a byte order mark is dropped."""
    return _utf8_lines(path) if is_utf8(encoding) else _other_lines(path, encoding)


def is_utf8(encoding: str) -> bool:
    """Returns whether a name is UTF-8's.

    Raises:
        InputError: when it is no encoding of text that Python knows.
    """
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    except (LookupError, ValueError):
        found = f"unknown encoding {encoding!r}"
        expected = "a name such as utf-8, latin1, cp1252, utf-16"
        raise InputError("encoding", found, expected) from None


def _other_lines(path: Path, encoding: str) -> Iterator[str]:
    number = 0
    with path.open(encoding=encoding, newline="") as file:
        while True:
            number += 1
            where = f"{path}, line {number}"
            try:
                line = file.readline(LINE_LIMIT + 1)
            except UnicodeError as error:  # a decoder works ahead of the lines
                where = f"{path}, line {number} or after"
                remedy = "name the encoding that the file is in"
                raise InputError(where, f"not {encoding}: {error}", encoding, remedy) from None
            if not line:
                return
            if len(line) > LINE_LIMIT:
                raise _too_long(where)
            if "\0" in line:
                remedy = "name the encoding that the file is in"
                raise InputError(where, "a NUL character", f"text in {encoding}", remedy)
            yield line


def _utf8_lines(path: Path) -> Iterator[str]:
    offset, number = 0, 0
    with path.open("rb") as file:
        while raw := file.readline(LINE_LIMIT + 1):
            number += 1
            where = f"{path}, line {number}"
            if number == 1:
                if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise _encoding_error(where, "UTF-16 (byte order mark at byte offset 0)")
                if raw.startswith(b"\xef\xbb\xbf"):
                    raw, offset = raw[3:], 3
            if len(raw) > LINE_LIMIT:
                raise _too_long(where)
            if b"\0" in raw:
                found = f"a NUL byte at byte offset {offset + raw.index(0)}"
                remedy = "save the file as plain UTF-8 text"
                raise InputError(where, found, "UTF-8 text", remedy)
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = f"byte 0x{raw[error.start]:02x} at byte offset {offset + error.start}"
                raise _encoding_error(where, f"{byte} is not UTF-8") from error
            yield text
            offset += len(raw)


def _too_long(where: str) -> InputError:
    found = f"a line of more than {LINE_LIMIT:,} bytes"
    return InputError(where, found, "shorter lines", "check the line ends and quotes")


def _encoding_error(where: str, found: str) -> InputError:
    remedy = "name its encoding: data.encoding or --encoding (latin1, cp1252, utf-16, ...)"
    return InputError(where, found, "UTF-8 text", remedy)


def csv_records(
    path: Path, report: Sink, encoding: str = "utf-8"
) -> Iterator[tuple[int, Sequence[str]]]:
    """Yields (line, fields) for the header and each row of a CSV file; blank lines are skipped.

    Raises:
        InputError: when the text or the header cannot be read.
    """
    # The limit belongs to the csv module as a whole: only ever raised, since other readers rely
    # on it as well.
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
    reader = csv.reader(_lines(path, encoding), strict=True)
    header = True
    while True:
        start = reader.line_num + 1  # a quoted field may run over several lines
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = _csv_problem(path, start, str(error))
            if header:
                raise problem.error() from error
            report(problem)
            if "end of data" in str(error) or "field limit" in str(error):
                return  # nothing after an open quote can be trusted
            continue
        if fields:
            header = False
            yield start, fields


def _csv_problem(path: Path, line: int, message: str) -> Problem:
    quotes = 'close the quote, or double the quotes inside the field ("")'
    if "end of data" in message:
        found, expected, remedy = "a quote that is never closed", "a closing quote", quotes
    elif "field limit" in message:
        found, expected = f"a field of more than {FIELD_LIMIT:,} characters", "shorter fields"
        remedy = "a quote may be open: " + quotes
    elif "expected after" in message:
        found = "text after a closing quote"
        expected, remedy = "a comma or the end of the line after it", quotes
    elif "new-line" in message:
        found, expected = "a lone carriage return", "lines that end in LF or CRLF"
        remedy = "save the file with ordinary line ends, or quote the field"
    else:
        found, expected, remedy = f"not valid CSV ({message})", "comma-separated values", quotes
    return Problem(str(path), found, expected, remedy, row=line)


def jsonl_records(
    path: Path, report: Sink, encoding: str = "utf-8"
) -> Iterator[tuple[int, Sequence[str]]]:
    """Yields (line, keys) of the first object, then (line, values as strings) of each object.

    Raises:
        InputError: when the text cannot be read.
    """
    columns: tuple[str, ...] = ()
    for number, line in enumerate(_lines(path, encoding), start=1):
        if not line.strip():
            continue
        faults = RowFaults(report, str(path), "line", number)
        try:
            row = json.loads(line, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
        except FieldError as error:
            faults(None, str(error), "each key once, and JSON values", "mend the line")
            continue
        except (ValueError, RecursionError) as error:
            faults(
                None, f"not JSON ({_json_reason(error)})", "one JSON object a line", "mend the line"
            )
            continue
        if not isinstance(row, dict):
            kind = type(row).__name__
            remedy = 'write {"id": ..., "label": ...} on each line'
            faults(None, f"JSON of type {kind}", "one JSON object a line", remedy)
            continue
        if not columns:
            columns = tuple(row)
            yield number, columns
        if set(row) != set(columns):
            odd = sorted(set(row) ^ set(columns))[0]
            found = f"key {odd!r} is " + ("missing" if odd in columns else "new")
            match = closest(odd, [k for k in row if k not in columns]) if odd in columns else None
            remedy = f"did you mean {match!r}?" if match else "write null for an empty value"
            faults(None, found, "the keys of the first line", remedy)
            continue
        yield number, [as_text(row[column]) for column in columns]


def _json_reason(error: Exception) -> str:
    # Its own message counts lines within the one line it saw.
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "too deep" if isinstance(error, RecursionError) else str(error)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise FieldError(f"key {next(k for k in keys if keys.count(k) > 1)!r} stands twice")
    return row


def _no_constant(name: str) -> object:
    raise FieldError(f"{name} is not JSON")

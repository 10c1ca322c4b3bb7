"""Rows of a Parquet file as strings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fli2moe.data.problems import Sink
from fli2moe.data.values import as_text
from fli2moe.errors import InputError

BATCH_ROWS = 1024


def parquet_records(
    path: Path, report: Sink, encoding: str = "utf-8"
) -> Iterator[tuple[int, Sequence[str]]]:
    """Yields (0, column names), then (row number from 1, values as strings), batch by batch.

    `report` and `encoding` are there for the sake of the other readers' shape: a Parquet file is
    sound or not, and says itself how it is encoded.

    Raises:
        InputError: when the file is not Parquet, is cut short, or holds a binary column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            for name, kind in zip(schema.names, schema.types, strict=True):
                if _binary(kind):
                    found = f"column {name!r} of type {kind}"
                    remedy = "write text, or the path of a file"
                    raise InputError(str(path), found, "text, numbers or lists", remedy)
            yield 0, schema.names
            number = 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                columns = [column.to_pylist() for column in batch.columns]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield number, [as_text(value) for value in values]
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        found = f"not a whole Parquet file ({error})"
        remedy = "write or download it again"
        raise InputError(str(path), found, "a Parquet file", remedy) from error


def _binary(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _binary(kind.value_type)
    if types.is_nested(kind):
        return any(_binary(kind.field(i).type) for i in range(kind.num_fields))
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )

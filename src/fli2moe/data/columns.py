"""Which columns of a manifest are modalities, and of which kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from fli2moe.data.paths import PICTURE_SUFFIXES, VECTOR_SUFFIXES
from fli2moe.data.table import Row, Table
from fli2moe.errors import InputError, closest, unknown_name

KINDS = ("text", "image", "vector")
CAUSES_COLUMN = "causes"
PEEK_ROWS = 100
"""Rows looked at to find out the kind of a column."""


@dataclass(frozen=True)
class ManifestRules:
    """How a manifest is to be read; the fields are the arguments of `read_manifest`."""

    modalities: Mapping[str, str] | None = None
    kinds: Mapping[str, str] | None = None
    optional: Collection[str] = ()
    label_column: str = "label"
    id_column: str = "id"
    split_column: str = "split"
    label_separator: str = "|"
    multilabel: bool | None = None
    classes: Sequence[str] | None = None
    seed: int = 0
    image_root: str | Path | None = None
    allow_outside: bool = False
    encoding: str = "utf-8"


def modality_columns(table: Table, rules: ManifestRules) -> dict[str, str]:
    """Returns {modality: column}, after checking that each column asked for is there.

    Raises:
        InputError: when a column is missing (with the closest one), or no modality is left.
    """
    where = str(table.path)
    for column in (rules.id_column, rules.label_column):
        if column not in table.columns:
            raise unknown_column(where, column, table.columns)
    reserved = {rules.id_column, rules.label_column, rules.split_column, CAUSES_COLUMN}
    if rules.modalities is not None:
        for column in rules.modalities.values():
            if column not in table.columns:
                raise unknown_column(where, column, table.columns)
        columns = dict(rules.modalities)
    else:
        columns = {name: name for name in table.columns if name not in reserved}
    _check_optional(where, table.columns, rules)
    if not columns:
        expected = "a column for each modality beside id, label and split"
        raise InputError(where, "no modality", expected, "add a column of texts or picture paths")
    for name, kind in (rules.kinds or {}).items():
        if name not in columns:
            raise unknown_name("kinds", "modality", name, columns)
        if kind not in KINDS:
            raise unknown_name(f"kinds.{name}", "kind", kind, KINDS)
    for name in rules.optional:
        if name not in columns:
            raise unknown_name("optional", "modality", name, columns)
    return columns


def unknown_column(where: str, column: str, columns: Sequence[str]) -> InputError:
    """Returns the error for a column that is not there, with the closest one."""
    match = closest(column, columns)
    remedy = f"rename column {match!r}" if match else f"add column {column!r}"
    found = f"no column {column!r} among {', '.join(columns)}"
    return InputError(where, found, f"a column {column!r}", f"{remedy}, or say which column it is")


def _check_optional(where: str, columns: Sequence[str], rules: ManifestRules) -> None:
    """Raises when the split or causes column is missing, but another one seems to be meant.

    A misspelt column would else become a modality. `closest` is too generous for this: it takes
    `plot`, a modality of films, for `split`.
    """
    for name in (rules.split_column, CAUSES_COLUMN):
        if name in columns:
            continue
        asked_for = name == rules.split_column != ManifestRules.split_column
        near = get_close_matches(name, [c.strip().casefold() for c in columns], cutoff=0.79)
        if asked_for or near:
            raise unknown_column(where, name, columns)


def column_kinds(
    rows: Sequence[Row], columns: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, str]:
    """Returns {modality: kind}: as given, else by what most of its first values look like.

    Args:
        rows: the first rows.
        columns: {modality: column}.
        given: {modality: kind} where it is known.
    """
    return {
        name: given[name] if name in given else _kind([row.values[column] for row in rows])
        for name, column in columns.items()
    }


def _kind(values: Sequence[str]) -> str:
    suffixes = [PurePosixPath(v.strip()).suffix.lower() for v in values if v.strip()]
    for kind, known in (("image", PICTURE_SUFFIXES), ("vector", VECTOR_SUFFIXES)):
        if 2 * sum(suffix in known for suffix in suffixes) > len(suffixes):
            return kind
    return "text"

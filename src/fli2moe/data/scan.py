"""One pass over a manifest: what both its reader and its checker do with each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from fli2moe.data.causes import parse_causes
from fli2moe.data.columns import (
    CAUSES_COLUMN,
    PEEK_ROWS,
    ManifestRules,
    column_kinds,
    modality_columns,
)
from fli2moe.data.labels import LabelBook
from fli2moe.data.leakage import Leakage
from fli2moe.data.paths import VECTOR_SUFFIXES, PathRules
from fli2moe.data.picture_notes import PictureNotes
from fli2moe.data.problems import Problem, RowFaults, Sink, shown
from fli2moe.data.sample import SPLITS, Cause, Sample
from fli2moe.data.splits import parse_split, seeded_split
from fli2moe.data.table import Row, open_table
from fli2moe.errors import InputError
from fli2moe.files import file_digest

UNSPLIT = ""
"""Split of a sample until the seeded split is known."""

OpenPicture = Callable[[Path], object]


@dataclass(frozen=True)
class Summary:
    """What only the whole manifest tells.

    Attributes:
        classes: class names in the order of the model's outputs.
        multilabel: whether a row may carry any number of labels.
        splits: {id: split} where a seeded split was made, else None.
        notes: warnings.
    """

    classes: tuple[str, ...]
    multilabel: bool
    splits: dict[str, str] | None
    notes: tuple[str, ...]


class ManifestScan:
    """Reads a manifest row by row and reports each problem to a sink.

    Read `samples()` to its end, then call `finish()`.

    Args:
        path: the manifest.
        rules: how it is to be read.
        report: where problems go.
        open_picture: opens a picture to see whether it can be read; None leaves them closed.

    Raises:
        InputError: when the file or its header cannot be used, whatever the sink.
    """

    def __init__(
        self,
        path: str | Path,
        rules: ManifestRules,
        report: Sink,
        open_picture: OpenPicture | None = None,
    ) -> None:
        table = open_table(path, report, rules.encoding)
        self.source = str(table.path)
        self.columns = modality_columns(table, rules)
        self.labels = LabelBook(
            rules.label_column, rules.label_separator, rules.multilabel, rules.classes
        )
        self.split_counts: Counter[str] = Counter()
        self.rows_seen = 0
        self._paths = PathRules(image_root(table.path, rules), rules.allow_outside)
        self._rows = table.rows
        self.kinds = column_kinds(
            _first_rows(table.path, rules.encoding), self.columns, rules.kinds or {}
        )
        self._rules, self._report, self._unit = rules, report, table.unit
        self._open_picture = open_picture
        self._has_split = rules.split_column in table.columns
        self._has_causes = CAUSES_COLUMN in table.columns
        self._lines: dict[str, int] = {}  # id -> row
        self._splits: dict[str, str] = {}
        self._label_sets: dict[str, tuple[str, ...]] = {}  # of a manifest without a split column
        self._cause_labels: dict[str, RowFaults] = {}
        digest = lru_cache(maxsize=16)(file_digest)  # a row's files are read once for both
        self._leakage = Leakage(None if open_picture is None else digest)
        self._pictures = PictureNotes(digest)
        self._empty_texts: Counter[str] = Counter()
        self._lacking: Counter[str] = Counter()

    def samples(self) -> Iterator[Sample]:
        """Yields the sound rows, in order."""
        for row in self._rows:
            self.rows_seen += 1
            sample = self._sample(row)
            if sample is not None:
                yield sample

    def _sample(self, row: Row) -> Sample | None:
        id = row.values[self._rules.id_column]
        faults = RowFaults(self._report, self.source, self._unit, row.number, id)
        known_id = self._check_id(id, row.number, faults)
        split: str | None = UNSPLIT
        if self._has_split:
            split = parse_split(
                row.values[self._rules.split_column], self._rules.split_column, faults
            )
        labels = self.labels.parse(row.values[self._rules.label_column], faults)
        inputs, sound = self._inputs(row, faults)
        causes = self._causes(row, inputs, faults)
        if known_id and split is not None:
            self._remember(id, split, labels, faults)
        if not known_id or split is None or labels is None or not sound:
            return None
        self._leakage.add(id, inputs)
        return Sample(id, inputs, labels, split, causes)

    def _check_id(self, id: str, number: int, faults: RowFaults) -> bool:
        column = self._rules.id_column
        if not id.strip():
            faults(column, "an empty id", "a text that names the sample", "give each row an id")
            return False
        first = self._lines.setdefault(id, number)
        if first != number:
            where = f"{self._unit}s {first} and {number}"
            faults(column, f"id {shown(id)} stands twice ({where})", "an id once", "rename one")
            return False
        return True

    def _inputs(self, row: Row, faults: RowFaults) -> tuple[dict[str, str | Path], bool]:
        """Returns the inputs that can be used, and whether all that the row has are among them."""
        inputs: dict[str, str | Path] = {}
        missing = 0
        for name, column in self.columns.items():
            value = row.values[column]
            if name in self._rules.optional and not value.strip():
                self._lacking[name] += 1
                missing += 1
                continue
            if self.kinds[name] == "text":
                inputs[name] = value
                self._empty_texts[name] += not value.strip()
                continue
            path = self._paths.resolve(value, column, faults)
            if path is not None and self._opens(path, self.kinds[name], column, faults):
                inputs[name] = path
        if missing == len(self.columns):
            expected = f"at least one of {', '.join(self.columns.values())}"
            faults(None, "a sample without any modality", expected, "take the row out")
        return inputs, bool(inputs) and len(inputs) + missing == len(self.columns)

    def _opens(self, path: Path, kind: str, column: str, faults: RowFaults) -> bool:
        if kind == "vector" and path.suffix.lower() not in VECTOR_SUFFIXES:
            expected = "one of " + ", ".join(sorted(VECTOR_SUFFIXES))
            faults(column, f"a file of features named {shown(path.name)}", expected, "convert it")
            return False
        if kind == "image" and self._open_picture is not None:
            try:
                picture = self._open_picture(path)
                if hasattr(picture, "getextrema"):
                    self._pictures.add(faults.id or "", path, picture)
            except InputError as error:
                faults(column, f"{error.found} ({path.name})", error.expected, error.remedy)
                return False
            except OSError as error:
                reason = error.strerror or str(error)
                remedy = "replace the file or check its permissions"
                faults(column, f"cannot be read: {path} ({reason})", "a whole picture", remedy)
                return False
        return True

    def _causes(
        self, row: Row, inputs: dict[str, str | Path], faults: RowFaults
    ) -> tuple[Cause, ...]:
        if not self._has_causes:
            return ()
        texts = {name: value for name, value in inputs.items() if isinstance(value, str)}
        causes = parse_causes(row.values[CAUSES_COLUMN], CAUSES_COLUMN, self.kinds, texts, faults)
        for cause in causes:
            self._cause_labels.setdefault(cause.label, faults)
        return causes

    def _remember(
        self, id: str, split: str, labels: tuple[str, ...] | None, faults: RowFaults
    ) -> None:
        """Counts the row, whatever else is wrong with it, so that no problem causes another."""
        if self._has_split:
            self._splits[id] = split
            self.split_counts[split] += 1
            if labels is not None:
                self.labels.count(labels, split, faults)
        else:
            self._label_sets[id] = labels or ()

    def finish(self) -> Summary:
        """Returns what the whole manifest tells, after reporting the problems only it shows."""
        if not self._has_split:
            self._make_split()
        classes = self.labels.finish(self.source, self._report)
        for label, faults in self._cause_labels.items():
            if label not in classes:
                expected = "one of " + ", ".join(classes)
                found = f"a cause of unknown label {shown(label)}"
                faults(CAUSES_COLUMN, found, expected, "mend the cell or empty it")
        for split in SPLITS:
            if not self.split_counts[split]:
                column = self._rules.split_column if self._has_split else None
                remedy = "name the split in some rows" if self._has_split else "add rows"
                found = f"no row in split '{split}'"
                expected = "rows in each of " + ", ".join(SPLITS)
                self._report(Problem(self.source, found, expected, remedy, column=column))
        splits = None if self._has_split else self._splits
        return Summary(classes, self.labels.multilabel, splits, self._notes(classes))

    def _make_split(self) -> None:
        self._splits = seeded_split(self._label_sets, self._rules.seed)
        for id, split in self._splits.items():
            faults = RowFaults(self._report, self.source, self._unit, self._lines[id], id)
            self.labels.count(self._label_sets[id], split, faults)
        self.split_counts.update(self._splits.values())

    def _notes(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        notes = []
        if not self._has_split:
            counts = "/".join(str(self.split_counts[split]) for split in SPLITS)
            notes.append(
                f"no column {self._rules.split_column!r}: split by id with seed "
                f"{self._rules.seed} into {counts} train/val/test"
            )
        for name, count in self._empty_texts.items():
            if count:
                notes.append(f"{count} of {len(self._lines)} rows have an empty {name!r}")
        for name, count in self._lacking.items():
            notes.append(f"{count} of {len(self._lines)} rows have no {name!r}")
        notes += self._pictures.notes()
        notes += self._leakage.notes(lambda id: self._splits[id])
        notes += self.labels.notes(classes)
        return tuple(notes)


def _first_rows(path: Path, encoding: str) -> list[Row]:
    """Returns up to `PEEK_ROWS` sound rows, read apart so that problems come in order later."""
    rows: list[Row] = []
    with suppress(InputError):
        for row in islice(open_table(path, lambda _: None, encoding).rows, PEEK_ROWS):
            rows.append(row)
    return rows


def image_root(manifest: Path, rules: ManifestRules) -> Path:
    """Returns the folder that paths in the manifest start from.

    Raises:
        InputError: when `image_root` is not a folder.
    """
    root = manifest.parent if rules.image_root is None else Path(rules.image_root)
    if not root.is_dir():
        raise InputError("image_root", f"no such folder {str(root)!r}", "a folder", "correct it")
    return root

"""Labels of a manifest: what a cell holds, which classes there are, and what is odd about them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

from fli2moe.data.problems import Problem, RowFaults, Sink, shown
from fli2moe.data.sample import SPLITS
from fli2moe.errors import InputError, closest


class LabelBook:
    """Parses the label cells of one manifest and remembers what it saw.

    Args:
        column: name of the label column, for messages.
        separator: what stands between several labels of one row.
        multilabel: whether a row may carry any number of labels; None: if any row has several.
        classes: the classes in the model's order; None: the sorted labels of the training rows.

    Raises:
        InputError: for an empty separator, or classes that are fewer than two or repeat.
    """

    def __init__(
        self, column: str, separator: str, multilabel: bool | None, classes: Sequence[str] | None
    ) -> None:
        if not separator:
            raise InputError("label_separator", "an empty string", "a mark such as '|'")
        if classes is not None:
            _check_classes(classes, multilabel)
        self.column = column
        self.separator = separator
        self.counts: Counter[tuple[str, str]] = Counter()  # (label, split) -> rows
        self._given = multilabel
        self._classes = None if classes is None else tuple(classes)
        self._known = frozenset(classes or ())
        self._several = False
        self._unlabelled: list[RowFaults] = []  # rows whose verdict waits for `multilabel`
        self._first_seen: dict[str, RowFaults] = {}  # label -> its first row
        self._bare_train = False

    @property
    def multilabel(self) -> bool:
        """Whether rows may carry any number of labels, as far as the rows read so far tell."""
        return self._several if self._given is None else self._given

    def parse(self, cell: str, faults: RowFaults) -> tuple[str, ...] | None:
        """Returns the labels of a cell, or None after reporting what is wrong with it."""
        if not cell.strip():
            return self._no_label(faults)
        labels = (cell,) if cell in self._known else tuple(cell.split(self.separator))
        if self._classes is None and cell.startswith("[") and _is_json(cell):
            remedy = f"write the labels with {self.separator!r} between them"
            faults(self.column, f"a JSON list {shown(cell)}", "class names", remedy)
            return None
        if len(labels) > 1 and self._given is False:
            found = f"{len(labels)} labels {shown(cell)}"
            faults(self.column, found, "one label", "keep one, or set data.labels: multilabel")
            return None
        self._several |= len(labels) > 1
        for label in labels:
            if not self._accept(label, labels, faults):
                return None
        return labels

    def _no_label(self, faults: RowFaults) -> tuple[str, ...] | None:
        if self._given is False:
            self._report_unlabelled(faults)
            return None
        if self._given is None:
            self._unlabelled.append(faults)
        return ()

    def _report_unlabelled(self, faults: RowFaults) -> None:
        remedy = "add the label; only multi-label data (data.labels: multilabel) may go without"
        faults(self.column, "no label", "one label", remedy)

    def _accept(self, label: str, labels: tuple[str, ...], faults: RowFaults) -> bool:
        if not label.strip():
            found = f"an empty label in {shown(self.separator.join(labels))}"
            remedy = f"remove the extra {self.separator!r}"
            faults(self.column, found, "a name on each side of the separator", remedy)
        elif self._classes is not None and label not in self._known:
            faults(self.column, f"unknown label {shown(label)}", *self._hint(label))
        elif label != label.strip():
            faults(self.column, f"a space around label {shown(label)}", "no space", "remove it")
        elif labels.count(label) > 1:
            faults(self.column, f"label {shown(label)} stands twice", "each once", "remove one")
        else:
            return True
        return False

    def _hint(self, label: str) -> tuple[str, str]:
        """Returns what was expected in place of an unknown label, and the remedy."""
        known = self._classes or ()
        more = f", ... ({len(known)} in all)" if len(known) > 20 else ""
        expected = "one of " + ", ".join(known[:20]) + more
        parts = [part.strip() for part in re.split(r"[,;|/\t]", label)]
        if len(parts) > 1 and self._known.issuperset(parts):
            return expected, f"write {self.separator.join(parts)!r}"
        match = closest(label, known)
        return expected, f"did you mean {match!r}?" if match else "correct it, or add the class"

    def count(self, labels: tuple[str, ...], split: str, faults: RowFaults) -> None:
        """Remembers the labels of a row of `split`, whether or not the rest of the row is sound."""
        for label in labels:
            self.counts[label, split] += 1
            self._first_seen.setdefault(label, faults)
        self._bare_train |= split == "train" and not labels

    def finish(self, source: str, report: Sink) -> tuple[str, ...]:
        """Returns the classes, after reporting what only the whole manifest tells."""
        if self._given is None and not self._several:
            for faults in self._unlabelled:
                self._report_unlabelled(faults)
        if self._classes is not None:
            return self._classes
        trained = {label for label, split in self.counts if split == "train"}
        for label, faults in self._first_seen.items():
            if label not in trained:
                match = closest(label, sorted(trained))
                remedy = f"did you mean {match!r}?" if match else "add a training row with it"
                faults(
                    self.column,
                    f"label {shown(label)} has no training row",
                    "a label of the training split",
                    remedy,
                )
        # One class is enough for a multi-label task where some rows do not carry it.
        if len(trained) < 2 and not (self.multilabel and trained and self._bare_train):
            found = f"{len(trained)} class(es) in the training split ({', '.join(sorted(trained))})"
            remedy = "check the label column and the split"
            report(Problem(source, found, "at least two", remedy, column=self.column))
        return tuple(sorted(trained))

    def notes(self, classes: Sequence[str]) -> list[str]:
        """Returns warnings about classes that can be trained or judged badly."""
        notes = []
        for split in SPLITS:
            lacking = [name for name in classes if not self.counts[name, split]]
            if lacking:
                notes.append(f"no row of split '{split}' carries {_listed(lacking)}")
        single = [name for name in classes if self.counts[name, "train"] == 1]
        if single:
            notes.append(f"one training row only carries {_listed(single)}")
        folds = Counter(name.casefold() for name in classes)
        alike = [name for name in classes if folds[name.casefold()] > 1]
        if alike:
            notes.append(f"classes differ in case only: {_listed(alike)}")
        return notes


def _check_classes(classes: Sequence[str], multilabel: bool | None) -> None:
    if isinstance(classes, str) or len(classes) < (1 if multilabel else 2):
        raise InputError("classes", f"{classes!r}", "a list of at least two names")
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError("classes", f"{twice[0]!r} stands twice", "distinct names", "remove one")


def _is_json(cell: str) -> bool:
    try:
        return isinstance(json.loads(cell), list)
    except (ValueError, RecursionError):
        return False


def _listed(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(shown(name) for name in names[:limit]) + more

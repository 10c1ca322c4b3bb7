"""Every problem of a manifest at once, found by the code that reads it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fli2moe.data.columns import ManifestRules
from fli2moe.data.problems import Problem
from fli2moe.data.sample import SPLITS
from fli2moe.data.scan import ManifestScan, OpenPicture
from fli2moe.errors import InputError


@dataclass(frozen=True)
class Report:
    """What the check of a manifest found.

    Attributes:
        source: the manifest.
        problems: the first problems in the order of the rows, then those of the whole file.
        total: how many problems there are, shown or not.
        notes: warnings that stop nobody.
        rows: rows whose fields could be told apart.
        splits: {split: rows}.
        classes: {class: {split: rows}}.
        modalities: {name: kind}.
        complete: whether the file could be read to its end.
    """

    source: str
    problems: tuple[Problem, ...] = ()
    total: int = 0
    notes: tuple[str, ...] = ()
    rows: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    modalities: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True

    @property
    def ok(self) -> bool:
        """Whether `read_manifest` would accept the manifest and every picture opens."""
        return self.total == 0

    def lines(self) -> list[str]:
        """Returns the report as lines of plain text."""
        lines = [str(problem) for problem in self.problems]
        if self.total > len(self.problems):
            lines.append(f"... and {self.total - len(self.problems):,} more problems")
        lines += [f"note: {note}" for note in self.notes]
        kinds = ", ".join(f"{name} ({kind})" for name, kind in self.modalities.items())
        splits = ", ".join(f"{name} {count:,}" for name, count in self.splits.items())
        if kinds:
            lines.append(f"{self.rows:,} rows; modalities: {kinds}; splits: {splits or 'none'}")
        if not self.complete:
            lines.append("the rest of the file was not read")
        count = f"{self.total:,} problem{'' if self.total == 1 else 's'}"
        lines.append(f"{self.source}: {'no problems' if self.ok else count}")
        return lines


class _Collector:
    """A sink that keeps the first `limit` problems and counts the rest."""

    def __init__(self, limit: int) -> None:
        self.limit, self.total = limit, 0
        self.kept: list[Problem] = []

    def __call__(self, problem: Problem) -> None:
        self.total += 1
        if len(self.kept) < self.limit:
            self.kept.append(problem)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Those kept, by row; some of a row are known only when the whole file was read."""
        return tuple(sorted(self.kept, key=lambda p: (p.row is None, p.row or 0)))


def check_manifest(
    path: str | Path,
    *,
    open_picture: OpenPicture | None = None,
    max_errors: int = 50,
    modalities: Mapping[str, str] | None = None,
    kinds: Mapping[str, str] | None = None,
    optional: Collection[str] = (),
    label_column: str = "label",
    id_column: str = "id",
    split_column: str = "split",
    label_separator: str = "|",
    multilabel: bool | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    image_root: str | Path | None = None,
    allow_outside: bool = False,
    encoding: str = "utf-8",
) -> Report:
    """Reads a whole manifest and returns every problem, where `read_manifest` stops at the first.

    Rows are streamed: what is kept is their ids and one digest each.

    Args:
        path: the manifest.
        open_picture: called with each picture's path, raising `InputError` or `OSError` for one
            that cannot be read; None leaves pictures closed. With it, samples count as the same
            by the content of their pictures, without it by their paths.
        max_errors: most problems kept; the others are counted.
        modalities: this and all that follow as in `read_manifest`.
        kinds: as in `read_manifest`.
        optional: as in `read_manifest`.
        label_column: as in `read_manifest`.
        id_column: as in `read_manifest`.
        split_column: as in `read_manifest`.
        label_separator: as in `read_manifest`.
        multilabel: as in `read_manifest`.
        classes: as in `read_manifest`.
        seed: as in `read_manifest`.
        image_root: as in `read_manifest`.
        allow_outside: as in `read_manifest`.
        encoding: as in `read_manifest`.

    Raises:
        InputError: when `max_errors` is below 1.
    """
    if max_errors < 1:
        raise InputError("max_errors", str(max_errors), "at least 1")
    rules = ManifestRules(
        modalities=modalities,
        kinds=kinds,
        optional=optional,
        label_column=label_column,
        id_column=id_column,
        split_column=split_column,
        label_separator=label_separator,
        multilabel=multilabel,
        classes=classes,
        seed=seed,
        image_root=image_root,
        allow_outside=allow_outside,
        encoding=encoding,
    )
    collector = _Collector(max_errors)
    scan: ManifestScan | None = None
    try:
        scan = ManifestScan(path, rules, collector, open_picture)
        for _ in scan.samples():
            pass
        summary = scan.finish()
    except InputError as error:  # nothing after this fault can be read
        collector(Problem.of(error))
        return Report(
            source=str(path),
            problems=collector.problems,
            total=collector.total,
            rows=scan.rows_seen if scan else 0,
            modalities=scan.kinds if scan else {},
            complete=False,
        )
    return Report(
        source=scan.source,
        problems=collector.problems,
        total=collector.total,
        notes=summary.notes,
        rows=scan.rows_seen,
        splits={split: scan.split_counts[split] for split in SPLITS},
        classes={
            name: {split: scan.labels.counts[name, split] for split in SPLITS}
            for name in summary.classes
        },
        modalities=scan.kinds,
    )

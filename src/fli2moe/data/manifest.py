"""The manifest: one row per sample in a CSV, JSONL or Parquet file (design 6)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fli2moe.data.columns import ManifestRules
from fli2moe.data.problems import Problem, raise_first
from fli2moe.data.rejects import Rejected
from fli2moe.data.sample import Dataset
from fli2moe.data.scan import ManifestScan


def read_manifest(
    path: str | Path,
    *,
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
    skip_bad: bool = False,
) -> Dataset:
    """Reads a manifest and checks each row; pictures must exist but are not opened.

    Args:
        path: a `.csv`, `.jsonl` or `.parquet` file with a column for each modality.
        modalities: {modality: column}; None: every column other than id, label, split, causes.
        kinds: {modality: text, image or vector}; what is not named is told by its first values:
            paths of pictures, paths of `.npy` / `.safetensors`, else text.
        optional: modalities that a sample lacks where its cell is empty; it must have another one.
        label_column: column of the class names.
        id_column: column of the ids, which stay strings.
        split_column: column of train, val and test; without it the split is seeded (see
            `splits.seeded_split`).
        label_separator: what stands between several labels of a row.
        multilabel: whether a row may carry any number of labels; None: if any row has several.
        classes: class names in the model's order; None: the sorted labels of the training rows.
        seed: seed of the split where there is no split column.
        image_root: folder that paths start from; None: the manifest's own.
        allow_outside: accept absolute paths and paths that lead out of `image_root`.
        encoding: of a CSV or JSONL file.
        skip_bad: leave out rows with a problem; `Dataset.rejected` says which and why.

    Raises:
        InputError: at the first problem, with file, row, column, id and remedy; with `skip_bad` at
            the first that is not of a single row.
    """
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
    problems: list[Problem] = []

    def collect(problem: Problem) -> None:
        if problem.row is None:
            raise problem.error()
        problems.append(problem)

    scan = ManifestScan(path, rules, collect if skip_bad else raise_first)
    samples = list(scan.samples())
    before = len(problems)
    summary = scan.finish()
    late = {problem.id for problem in problems[before:]}  # known only when the whole was read
    samples = [sample for sample in samples if sample.id not in late]
    first = {problem.row: problem for problem in reversed(problems)}
    rejected = tuple(
        Rejected(problem.id or "", row, str(problem), scan.source)
        for row, problem in sorted(first.items())
    )
    if summary.splits is not None:
        samples = [replace(sample, split=summary.splits[sample.id]) for sample in samples]
    return Dataset(
        samples=tuple(samples),
        classes=summary.classes,
        modalities=scan.kinds,
        multilabel=summary.multilabel,
        source=scan.source,
        notes=summary.notes,
        rejected=rejected,
    )

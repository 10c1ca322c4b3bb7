"""From the `data` section of a configuration to a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fli2moe.config import DataConfig, ModalityConfig
from fli2moe.data.enrico import read_enrico
from fli2moe.data.manifest import read_manifest
from fli2moe.data.mmhs150k import NOTICE, read_mmhs150k
from fli2moe.data.mmimdb import read_mmimdb
from fli2moe.data.rejects import Rejected
from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError
from fli2moe.task import Task

NOTICES = {"mmhs150k": NOTICE}
"""{source: what a reader of anything that shows its content is told first}."""

_KINDS = {"builtin:words": "text", "builtin:patches": "image", "vector": "vector"}


def load_dataset(config: DataConfig) -> Dataset:
    """Reads the data set that a configuration's `data` section describes.

    Raises:
        InputError: when it cannot be read; names file, row, column and remedy. With
            `labels: binary` also when there are other than two classes.
    """
    dataset = _read(config)
    check_share(dataset.source, dataset.rejected, len(dataset.samples), config.max_bad_share)
    if config.labels == "binary":
        Task("binary", dataset.classes)  # refuses other than two
    return dataset


def check_share(source: str, rejected: Sequence[Rejected], kept: int, most: float) -> None:
    """Raises InputError when too many samples were left out; it names the first.

    Args:
        source: of the samples.
        rejected: those left out.
        kept: how many were not.
        most: the largest share that is borne.
    """
    total = len(rejected) + kept
    if len(rejected) > most * total:
        found = f"{len(rejected)} of {total} samples are bad (first: {rejected[0].reason})"
        remedy = "mend them, or raise --max-bad-share (data.max_bad_share)"
        raise InputError(source, found, f"at most {100 * most:g}%", remedy)


def _read(config: DataConfig) -> Dataset:
    columns = {name: m.column or name for name, m in config.modalities.items()}
    if config.source == "enrico":
        return read_enrico(config.path, modalities=tuple(columns))
    if config.source == "mmimdb":
        return read_mmimdb(config.path, modalities=tuple(columns))
    if config.source == "mmhs150k":
        labels: Literal["multiclass", "binary"]
        labels = "binary" if config.labels == "binary" else "multiclass"
        return read_mmhs150k(config.path, modalities=tuple(columns), labels=labels, ocr=config.ocr)
    return read_manifest(
        config.path,
        modalities=columns,
        kinds={name: kind for name, m in config.modalities.items() if (kind := _kind(m))},
        optional=[name for name, m in config.modalities.items() if m.optional],
        label_column=config.label_column,
        id_column=config.id_column,
        split_column=config.split_column,
        label_separator=config.label_separator,
        multilabel=config.labels == "multilabel",
        classes=config.classes,
        seed=config.split_seed,
        image_root=config.image_root,
        allow_outside=config.allow_outside,
        encoding=config.encoding,
        skip_bad=config.on_bad == "skip",
    )


def _kind(modality: ModalityConfig) -> str | None:
    return modality.kind or _KINDS.get(modality.encoder)

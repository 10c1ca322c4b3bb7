"""A sample, the planted causes it may carry, and a data set of samples in splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fli2moe.data.rejects import Rejected
from fli2moe.errors import InputError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Cause:
    """The planted truth of one label on one sample: where in the raw input it comes from.

    Attributes:
        label: class name.
        interaction: `synergy`, `redundancy`, or `unique_<modality>`.
        spans: {modality: spans that cause the label there}; characters (start, end) or pixel
            boxes (x0, y0, x1, y1).
    """

    label: str
    interaction: str
    spans: Mapping[str, tuple[tuple[float, ...], ...]]


@dataclass(frozen=True)
class Sample:
    """One row of a data set: raw inputs by modality name, and its labels.

    Attributes:
        id: unique within the data set, a string as it stands in the source.
        inputs: {modality: text, or path of a picture or of precomputed features}; a modality that
            the sample lacks is not named.
        labels: class names; one for multi-class, any number for multi-label.
        split: train, val or test.
        causes: planted truth, empty for ordinary data.
    """

    id: str
    inputs: Mapping[str, str | Path]
    labels: tuple[str, ...]
    split: str = "test"
    causes: tuple[Cause, ...] = ()


def content_of(samples: Sequence[Sample]) -> list[Any]:
    """Returns what tells samples from others, for a digest: ids, labels and inputs as given."""
    return [(s.id, s.labels, sorted(s.inputs.items())) for s in samples]


@dataclass(frozen=True)
class Dataset:
    """Samples with their classes; `train`, `val` and `test` are its splits.

    Attributes:
        samples: every sample, in the order of the source.
        classes: class names in the order of the model's outputs.
        modalities: {name: kind}, kind one of `text`, `image`, `vector`.
        multilabel: whether a sample may carry any number of labels.
        source: what it was read from, for messages and reports.
        notes: warnings found while reading (leakage between splits, ...).
        rejected: samples that were left out.
        notice: what a reader of its reports is to be told of its content; empty for most.
    """

    samples: Sequence[Sample]
    classes: tuple[str, ...]
    modalities: Mapping[str, str]
    multilabel: bool = False
    source: str = ""
    notes: tuple[str, ...] = field(default=())
    notice: str = ""
    rejected: tuple[Rejected, ...] = ()

    def split(self, name: str) -> tuple[Sample, ...]:
        """Returns the samples of one split, in order.

        Raises:
            InputError: when `name` is not train, val or test.
        """
        if name not in SPLITS:
            raise InputError("split", f"unknown split {name!r}", "one of " + ", ".join(SPLITS))
        return tuple(s for s in self.samples if s.split == name)

    @property
    def train(self) -> tuple[Sample, ...]:
        """The training samples."""
        return self.split("train")

    @property
    def val(self) -> tuple[Sample, ...]:
        """The validation samples."""
        return self.split("val")

    @property
    def test(self) -> tuple[Sample, ...]:
        """The test samples."""
        return self.split("test")

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(self.split(name))}" for name in SPLITS)
        kinds = ", ".join(f"{name} ({kind})" for name, kind in self.modalities.items())
        return f"Dataset({self.source}: {sizes}; {kinds}; {len(self.classes)} classes)"

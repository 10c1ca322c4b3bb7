"""The encoded samples of a split with their labels, served in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fli2moe import ranks
from fli2moe.data.paths import PICTURE_SUFFIXES
from fli2moe.data.sample import Dataset, Sample
from fli2moe.encoders import Encoder
from fli2moe.errors import InputError
from fli2moe.features import Features, Progress, encode_samples
from fli2moe.task import Task
from fli2moe.tokens import TokenBatch


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples of a split.

    Attributes:
        tokens: their features.
        target: their labels as `Task.encode` returns them, (B,) or (B, C).
        rows: (B,) their positions in the split.
    """

    tokens: TokenBatch
    target: Tensor
    rows: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Returns the same batch on `device`."""
        return Batch(self.tokens.to(device), self.target.to(device), self.rows.to(device))


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """The features and labels of one split.

    Attributes:
        features: of N samples.
        target: labels as `Task.encode` returns them, (N,) or (N, C).
    """

    features: Features
    target: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, index: Sequence[int]) -> Batch:
        """Returns the samples at `index`."""
        rows = torch.tensor(index, dtype=torch.int64)
        return Batch(self.features.batch(index), self.target[rows], rows)


class Batches:
    """An iterable over batches of a split; each epoch's order follows from (seed, epoch).

    One of several training processes gets its share of each batch: sample r, r + n, r + 2n, ... of
    it, for rank r of n. Together they see what one process sees.

    Args:
        split: the samples.
        size: of a batch; a smaller last one is left out in training, unless it is the only one.
        seed: of the order; None keeps the order and every sample.
    """

    def __init__(self, split: EncodedSplit, size: int, seed: int | None) -> None:
        self.split, self.size, self.seed, self.epoch = split, size, seed, 0

    def __len__(self) -> int:
        if self.seed is None:
            return -(-len(self.split) // self.size)
        return max(1, len(self.split) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.arange(len(self.split))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
            order = torch.randperm(len(self.split), generator=generator)
            self.epoch += 1
        for step in range(len(self)):
            index = order[step * self.size : (step + 1) * self.size][ranks.rank() :: ranks.world()]
            if len(index):  # the last one may have fewer samples than there are processes
                yield self.split.batch(index.tolist())


def encode_split(
    samples: Sequence[Sample],
    encoders: Mapping[str, Encoder],
    task: Task,
    cache: Path,
    progress: Progress | None = None,
) -> EncodedSplit:
    """Returns features (from the cache where they are there) and labels of some samples.

    Raises:
        InputError: when a sample cannot be encoded, or carries an unknown label.
    """
    features = encode_samples(samples, encoders, cache, progress)
    return EncodedSplit(features, task.encode([s.labels for s in samples]))


def check_kinds(dataset: Dataset, encoders: Mapping[str, Encoder]) -> None:
    """Refuses an encoder that does not read what a modality holds.

    A text encoder would read the names of picture files as text, and they often tell the class.

    Raises:
        InputError: naming the modality, what it holds and what its encoder reads.
    """
    for name, encoder in encoders.items():
        first = [s.inputs[name] for s in dataset.samples[:50] if name in s.inputs]
        values = [value for value in first if str(value).strip()]
        named = [Path(str(v)).suffix.lower() in PICTURE_SUFFIXES for v in values]
        if encoder.kind == "text" and values and all(named):
            found = f"paths of pictures (such as {str(values[0])!r}), and its encoder reads text"
            remedy = "give it a picture encoder, or name the column that holds the text"
            raise InputError(f"data.modalities.{name}", found, "text", remedy)

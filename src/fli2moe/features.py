"""Encode once: the features of samples, from the cache on disk, as token batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fli2moe.data.sample import Sample
from fli2moe.encoders import Encoder
from fli2moe.errors import InputError
from fli2moe.feature_cache import SHARD_ROWS, FeatureCache, content_key
from fli2moe.files import check_writable, locked
from fli2moe.tokens import TokenBatch

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation (D,) of a modality's content tokens over the training set."""

    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """The features of a list of samples, read from caches in batches.

    Attributes:
        caches: {modality: FeatureCache}.
        keys: {modality: key of each sample, None for one without the modality}.
    """

    caches: Mapping[str, FeatureCache]
    keys: Mapping[str, tuple[str | None, ...]]

    def __len__(self) -> int:
        return len(next(iter(self.keys.values())))

    def batch(self, index: Sequence[int]) -> TokenBatch:
        """Returns the tokens of the samples at `index`."""
        return TokenBatch(
            {m: c.read([self.keys[m][i] for i in index]) for m, c in self.caches.items()}
        )

    def select(self, index: Sequence[int]) -> Features:
        """Returns the features of a part of the samples."""
        return Features(self.caches, {m: tuple(k[i] for i in index) for m, k in self.keys.items()})

    def statistics(self, batch_rows: int = 256) -> dict[str, Statistics]:
        """Returns each modality's channel statistics over the content tokens of all samples.

        Raises:
            InputError: when a modality has no content token at all.
        """
        sums: dict[str, tuple[Tensor, Tensor, int]] = {}
        for start in range(0, len(self), batch_rows):
            batch = self.batch(range(start, min(start + batch_rows, len(self))))
            for m, tokens in batch.items():
                x = tokens.features[tokens.content].double()  # (N, D)
                total, squares, count = sums.get(m, (0.0, 0.0, 0))
                sums[m] = (total + x.sum(0), squares + (x * x).sum(0), count + len(x))
        result = {}
        for m, (total, squares, count) in sums.items():
            if not count:
                remedy = "take the modality out, or add samples that have it"
                found = "no content token in the training set"
                raise InputError(f"modality {m}", found, "some", remedy)
            mean = total / count
            variance = (squares / count - mean * mean).clamp_min(0)
            result[m] = Statistics(mean.float(), variance.sqrt().float())
        return result

    def pooled(self, batch_rows: int = 256) -> dict[str, np.ndarray]:
        """Returns each modality's mean content token per sample, {modality: (N, D)}; 0 of none."""
        parts: dict[str, list[Tensor]] = {m: [] for m in self.caches}
        for start in range(0, len(self), batch_rows):
            batch = self.batch(range(start, min(start + batch_rows, len(self))))
            for m, tokens in batch.items():
                kept = torch.where(tokens.content[..., None], tokens.features, 0.0)
                count = tokens.content.sum(1, keepdim=True).clamp_min(1)
                parts[m].append(kept.sum(1) / count)
        return {m: torch.cat(rows).numpy() for m, rows in parts.items()}


def encode_samples(
    samples: Sequence[Sample],
    encoders: Mapping[str, Encoder],
    folder: Path,
    progress: Progress | None = None,
) -> Features:
    """Encodes what is not cached yet and returns the features of all samples.

    Args:
        samples: in the order of the result.
        encoders: {modality: encoder}.
        folder: parent of the caches.
        progress: called with (modality, rows done, rows to do).

    Raises:
        InputError: when a sample cannot be encoded; rows before its shard stay cached.
    """
    caches, all_keys = {}, {}
    for modality, encoder in encoders.items():
        keys = keys_of(samples, modality, encoder.kind)
        cache = FeatureCache(folder, encoder)
        if missing_shards(cache, keys):
            with encoding_into(cache) as cache:  # with what another process has added meanwhile
                encode_missing(cache, samples, keys, modality, progress)
        caches[modality], all_keys[modality] = cache, tuple(keys)
    return Features(caches, all_keys)


@contextmanager
def encoding_into(cache: FeatureCache) -> Iterator[FeatureCache]:
    """Holds a cache so that nothing is encoded twice, and yields it as it then is.

    It waits for another process that encodes into it.

    Raises:
        MachineError: when the folder cannot be made.
    """
    check_writable(cache.folder)
    with locked(cache.folder, wait=True):
        yield FeatureCache(cache.folder.parent, cache.encoder)


def encode_missing(
    cache: FeatureCache,
    samples: Sequence[Sample],
    keys: Sequence[str | None],
    modality: str,
    progress: Progress | None = None,
) -> None:
    """Encodes what a cache lacks; the caller sees to it that nobody else does.

    Args:
        cache: of one encoder.
        samples: those that have the modality are encoded.
        keys: of the samples, see `keys_of`.
        modality: which input of the samples.
        progress: called with (modality, rows done, rows to do).

    Raises:
        InputError: when a sample cannot be encoded; rows before its shard stay cached.
    """
    shards = missing_shards(cache, keys)
    before, total = 0, sum(map(len, shards))
    for part in shards:
        names = [f"sample {samples[i].id}, modality {modality}" for i in part]
        report = partial(_after, progress, modality, before, total) if progress else None
        inputs = [samples[i].inputs[modality] for i in part]
        cache.add([str(keys[i]) for i in part], inputs, names, report)
        before += len(part)


def keys_of(samples: Sequence[Sample], modality: str, kind: str) -> list[str | None]:
    """Returns the key of each sample's input; None of one without the modality.

    Raises:
        InputError: when a file cannot be read.
    """
    return [
        content_key(s.inputs[modality], kind, s.id) if modality in s.inputs else None
        for s in samples
    ]


def missing_shards(
    cache: FeatureCache, keys: Sequence[str | None], known: Collection[str] = ()
) -> list[list[int]]:
    """Returns the positions that are to be encoded, in the shards that they make together.

    Args:
        cache: what is there.
        keys: of samples; None where there is nothing to encode.
        known: keys that somebody else sees to.
    """
    asked = [i for i, key in enumerate(keys) if key is not None and key not in known]
    todo = [asked[k] for k in cache.missing([str(keys[i]) for i in asked])]
    return [todo[start : start + SHARD_ROWS] for start in range(0, len(todo), SHARD_ROWS)]


def default_cache(out: str | Path | None) -> Path:
    """Returns the folder `features` beside a run folder, or in the working directory."""
    return (Path.cwd() if out is None else Path(out).resolve().parent) / "features"


def _after(progress: Progress, modality: str, before: int, total: int, rows: int) -> None:
    progress(modality, before + rows, total)

"""Encode once: a cache of encoder features on disk, read back as token batches.

One folder per encoder, named by the encoder's fingerprint, holds shards of up to 256 rows. A row's
key is the digest of its raw content, so a row that changed is encoded again and one that did not is
never, whatever its id. A shard counts only with its sidecar, which is written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fli2moe.data.sample import Sample
from fli2moe.encoders import Encoder
from fli2moe.errors import InputError
from fli2moe.files import complete_file, file_digest, read_json, write_json
from fli2moe.tokens import STRUCTURAL, TokenBatch, Tokens

SHARD_ROWS = 256
ENCODE_ROWS = 16

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation (D,) of a modality's content tokens over the training set."""

    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class _Row:
    shard: str
    start: int
    stop: int


class FeatureCache:
    """The cached features of one encoder.

    Args:
        folder: parent of all caches.
        encoder: whose features these are.

    Raises:
        InputError: when a shard's bytes do not match their checksum.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self.folder = folder / encoder.fingerprint[:32]
        self.encoder = encoder
        self._rows: dict[str, _Row] = {}
        self._shards: dict[str, dict[str, Tensor]] = {}
        for sidecar in sorted(self.folder.glob("*.json")):
            self._register(sidecar)

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Returns the positions of keys that are not cached, each key once."""
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        return sorted(i for key, i in first.items() if key not in self._rows)

    def add(self, keys: Sequence[str], inputs: Sequence[str | Path], names: Sequence[str]) -> None:
        """Encodes up to `SHARD_ROWS` inputs and writes them as one shard.

        Raises:
            InputError: when an input cannot be encoded or gives NaN or infinite features; the
                message names the sample.
        """
        rows: list[Tokens] = []
        for start in range(0, len(inputs), ENCODE_ROWS):
            part = slice(start, start + ENCODE_ROWS)
            tokens = self.encoder.encode(inputs[part])
            for r, name in enumerate(names[part]):
                rows.append(_checked(tokens[r : r + 1], name))
        lengths = [int(row.mask.sum()) for row in rows]
        tensors = {
            "features": torch.cat([row.features[row.mask] for row in rows]).contiguous(),
            "spans": torch.cat([row.spans[row.mask] for row in rows]).contiguous(),
        }
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:24]
        shard = self.folder / f"{name}.safetensors"
        with complete_file(shard) as temporary:
            save_file(tensors, temporary)
        sidecar = {"keys": list(keys), "lengths": lengths, "sha256": file_digest(shard)}
        write_json(shard.with_suffix(".json"), sidecar)
        self._register(shard.with_suffix(".json"))

    def read(self, keys: Sequence[str]) -> Tokens:
        """Returns the rows of `keys`, padded on the right to the longest (at least one token)."""
        rows = [self._rows[key] for key in keys]
        longest = max(1, *(row.stop - row.start for row in rows))
        sample = self._shard(rows[0].shard)
        width, places = sample["features"].shape[1], sample["spans"].shape[1]
        features = torch.zeros(len(rows), longest, width)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        spans = torch.full((len(rows), longest, places), STRUCTURAL, dtype=sample["spans"].dtype)
        for r, row in enumerate(rows):
            tensors, length = self._shard(row.shard), row.stop - row.start
            features[r, :length] = tensors["features"][row.start : row.stop]
            spans[r, :length] = tensors["spans"][row.start : row.stop]
            mask[r, :length] = True
        return Tokens(features, mask, spans)

    def _register(self, sidecar: Path) -> None:
        data = read_json(sidecar)
        shard = sidecar.with_suffix(".safetensors")
        start = 0
        for key, length in zip(data["keys"], data["lengths"], strict=True):
            self._rows[key] = _Row(shard.stem, start, start + length)
            start += length

    def _shard(self, name: str) -> dict[str, Tensor]:
        if name not in self._shards:
            path = self.folder / f"{name}.safetensors"
            expected = read_json(path.with_suffix(".json"))["sha256"]
            if not path.is_file() or file_digest(path) != expected:
                remedy = "delete this shard and its .json; it is encoded again"
                raise InputError(str(path), "missing or damaged", f"sha256 {expected[:12]}", remedy)
            self._shards[name] = load_file(path)
        return self._shards[name]


@dataclass(frozen=True, eq=False)
class Features:
    """The features of a list of samples, read from caches in batches.

    Attributes:
        caches: {modality: FeatureCache}.
        keys: {modality: key of each sample}.
    """

    caches: Mapping[str, FeatureCache]
    keys: Mapping[str, tuple[str, ...]]

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
                raise InputError(f"modality {m}", "no content token in the training set", "some")
            mean = total / count
            variance = (squares / count - mean * mean).clamp_min(0)
            result[m] = Statistics(mean.float(), variance.sqrt().float())
        return result

    def pooled(self, batch_rows: int = 256) -> dict[str, np.ndarray]:
        """Returns each modality's mean content token per sample, {modality: (N, D)}."""
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
        cache = FeatureCache(folder, encoder)
        inputs = [sample.inputs[modality] for sample in samples]
        keys = [
            content_key(raw, encoder.kind, s.id) for raw, s in zip(inputs, samples, strict=True)
        ]
        todo = cache.missing(keys)
        for start in range(0, len(todo), SHARD_ROWS):
            part = todo[start : start + SHARD_ROWS]
            names = [f"sample {samples[i].id}, modality {modality}" for i in part]
            cache.add([keys[i] for i in part], [inputs[i] for i in part], names)
            if progress:
                progress(modality, start + len(part), len(todo))
        caches[modality], all_keys[modality] = cache, tuple(keys)
    return Features(caches, all_keys)


def content_key(raw: str | Path, kind: str, sample_id: str) -> str:
    """Returns the digest of a raw input: of the text itself, or of the file's bytes."""
    if kind == "text":
        text = json.dumps(str(raw))  # JSON escapes lone surrogates, which UTF-8 cannot hold
        return hashlib.sha256(text.encode()).hexdigest()
    try:
        return file_digest(Path(raw))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"sample {sample_id}", f"cannot read {raw}: {reason}", "a file") from None


def _checked(row: Tokens, name: str) -> Tokens:
    finite = torch.isfinite(row.features).all(-1) | ~row.mask  # (1, T)
    if not bool(finite.all()):
        token = int((~finite[0]).nonzero()[0, 0])
        raise InputError(
            name,
            f"NaN or infinite feature at token {token}",
            "finite features",
            "run the encoder in float32 or bfloat16",
        )
    return row

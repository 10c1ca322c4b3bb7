"""A cache on disk of one encoder's features: sharded safetensors with checksums.

One folder per encoder, named by the encoder's fingerprint, holds shards of up to 256 rows. A row's
key is the digest of its raw content, so a row that changed is encoded again and one that did not is
never, whatever its id. A shard counts only with its sidecar, which is written last.

Shards are memory-mapped: the system drops their pages when memory is short, so features may be
larger than memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fli2moe.devices import in_memory
from fli2moe.encoders import Encoder, absent
from fli2moe.errors import InputError, MachineError
from fli2moe.files import file_digest, read_json, write_json, write_tensors
from fli2moe.tokens import STRUCTURAL, Tokens

SHARD_ROWS = 256
ENCODE_ROWS = 16
AGAIN = "delete this shard and its .json; its rows are encoded again"


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
        InputError: when a sidecar is no JSON; on reading, when a shard's bytes do not match their
            checksum.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self.folder = folder / encoder.fingerprint[:32]
        self.encoder = encoder
        self._at_once = ENCODE_ROWS
        self._rows: dict[str, _Row] = {}
        self._digests: dict[str, str] = {}  # {shard: sha256}
        self._shards: dict[str, dict[str, Tensor]] = {}
        for sidecar in sorted(self.folder.glob("*.json")):
            self._register(sidecar)

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Returns the positions of keys that are not cached, each key once."""
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        return sorted(i for key, i in first.items() if key not in self._rows)

    def add(
        self,
        keys: Sequence[str],
        inputs: Sequence[str | Path],
        names: Sequence[str],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Encodes up to `SHARD_ROWS` inputs and writes them as one shard.

        Args:
            keys: of the rows, none cached yet.
            inputs: raw inputs, same order.
            names: what messages call each input.
            progress: called with the number of rows encoded so far.

        Raises:
            InputError: when an input cannot be encoded or gives NaN or infinite features; the
                message names the sample.
            MachineError: when memory is too small for one input; the message names the sample.
        """
        rows: list[Tokens] = []
        while len(rows) < len(inputs):
            start = len(rows)

            def encode(size: int, start: int = start) -> Tokens:
                part = slice(start, start + size)
                return self._encode(inputs[part], names[part])

            found, remedy = "out of memory while it is encoded", "use another device or encoder"
            too_small = MachineError(names[start], found, "", remedy)
            most = min(self._at_once, len(inputs) - start)
            tokens, size = in_memory(encode, most, "inputs", too_small)
            if size < most:
                self._at_once = size
            for r, name in enumerate(names[start : start + size]):
                rows.append(_checked(tokens[r : r + 1], name))
            if progress:
                progress(len(rows))
        lengths = [int(row.mask.sum()) for row in rows]
        tensors = {
            "features": torch.cat([row.features[row.mask] for row in rows]),  # (all tokens, D)
            "spans": torch.cat([row.spans[row.mask] for row in rows]),
        }
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:24]
        shard = self.folder / f"{name}.safetensors"
        write_tensors(shard, tensors)
        sidecar = {"keys": list(keys), "lengths": lengths, "sha256": file_digest(shard)}
        write_json(shard.with_suffix(".json"), sidecar)
        self._register(shard.with_suffix(".json"))

    def read(self, keys: Sequence[str | None]) -> Tokens:
        """Returns the rows of `keys`, padded on the right to the longest (at least one token).

        None is a sample without the modality: padding alone.

        Raises:
            InputError: when `keys` is empty, or a shard is missing or damaged.
        """
        if not keys:
            raise InputError("features", "no sample", "at least one")
        rows = {r: self._rows[key] for r, key in enumerate(keys) if key is not None}
        if not rows:
            return absent(self.encoder, len(keys))
        longest = max(1, *(row.stop - row.start for row in rows.values()))
        sample = self._shard(next(iter(rows.values())).shard)
        width, places = sample["features"].shape[1], sample["spans"].shape[1]
        features = torch.zeros(len(keys), longest, width)
        mask = torch.zeros(len(keys), longest, dtype=torch.bool)
        spans = torch.full((len(keys), longest, places), STRUCTURAL, dtype=sample["spans"].dtype)
        for r, row in rows.items():
            tensors, length = self._shard(row.shard), row.stop - row.start
            features[r, :length] = tensors["features"][row.start : row.stop]
            spans[r, :length] = tensors["spans"][row.start : row.stop]
            mask[r, :length] = True
        return Tokens(features, mask, spans)

    def _register(self, sidecar: Path) -> None:
        shard = sidecar.with_suffix(".safetensors")
        if not shard.is_file():
            return  # deleted by hand: its rows are encoded again
        data = read_json(sidecar, AGAIN)
        try:
            rows = list(zip(data["keys"], data["lengths"], strict=True))
            self._digests[shard.stem] = data["sha256"]
        except (KeyError, TypeError, ValueError):
            raise InputError(str(sidecar), "damaged", "keys, lengths, sha256", AGAIN) from None
        start = 0
        for key, length in rows:
            self._rows[key] = _Row(shard.stem, start, start + length)
            start += length

    def _encode(self, inputs: Sequence[str | Path], names: Sequence[str]) -> Tokens:
        """Encodes; an error of the encoder, which knows no samples, gets the sample's name."""
        try:
            return self.encoder.encode(inputs)
        except InputError as error:
            if len(inputs) == 1:
                where = f"{names[0]}: {error.where}"
                raise type(error)(where, error.found, error.expected, error.remedy) from None
            for raw, name in zip(inputs, names, strict=True):
                self._encode([raw], [name])
            raise

    def _shard(self, name: str) -> dict[str, Tensor]:
        if name not in self._shards:
            path = self.folder / f"{name}.safetensors"
            expected = self._digests[name]
            if not path.is_file() or file_digest(path) != expected:
                raise InputError(str(path), "missing or damaged", f"sha256 {expected[:12]}", AGAIN)
            self._shards[name] = load_file(path)  # a map of the file, not a copy of it
        return self._shards[name]


def content_key(raw: str | Path, kind: str, sample_id: str) -> str:
    """Returns the digest of a raw input: of the text itself, or of the file's bytes.

    Raises:
        InputError: when the file cannot be read; the message names the sample.
    """
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

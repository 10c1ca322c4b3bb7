"""Samples that share all their inputs across splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path


class Leakage:
    """Remembers a digest of each sample's inputs, and the samples that repeat an earlier one.

    Args:
        digest: of a file's bytes, as hex; None: files count by their path, not by what they hold.
    """

    def __init__(self, digest: Callable[[Path], str] | None) -> None:
        self._digest = digest
        self._first: dict[bytes, str] = {}  # digest -> first id
        self._repeats: list[tuple[str, str]] = []  # (first id, id)

    def add(self, id: str, inputs: Mapping[str, str | Path]) -> None:
        """Takes note of one sample."""
        digest = hashlib.blake2b(digest_size=16)
        for modality, value in sorted(inputs.items()):
            content = self._content(value)
            digest.update(f"{modality}:{len(content)}:".encode())
            digest.update(content)
        first = self._first.setdefault(digest.digest(), id)
        if first != id:
            self._repeats.append((first, id))

    def _content(self, value: str | Path) -> bytes:
        if isinstance(value, str):
            return value.encode()
        if self._digest is None:
            return str(value).encode()
        return bytes.fromhex(self._digest(value))

    def notes(self, split_of: Callable[[str], str]) -> list[str]:
        """Returns a warning if samples of different splits have the same inputs."""
        across = [(a, b) for a, b in self._repeats if split_of(a) != split_of(b)]
        if not across:
            return []
        a, b = across[0]
        return [
            f"leakage: {len(across)} sample(s) have the same inputs as one of another split "
            f"(first: {b!r} of {split_of(b)} and {a!r} of {split_of(a)}); keep them in one split"
        ]

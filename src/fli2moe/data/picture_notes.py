"""What `data check` notes of pictures that open, but may not be what they should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONG = 8
"""A picture is long from this ratio of its sides on: a square encoder sees little of it."""


class PictureNotes:
    """Counts pictures of one colour, long ones, and such as stand in several rows.

    Args:
        digest: of a file's bytes, as hex.
    """

    def __init__(self, digest: Callable[[Path], str]) -> None:
        self._digest = digest
        self._seen = 0
        self._plain: list[str] = []  # ids
        self._long: list[str] = []
        self._first: dict[bytes, str] = {}  # digest -> first id
        self._again: Counter[bytes] = Counter()

    def add(self, id: str, path: Path, picture: Any) -> None:
        """Takes note of one picture.

        Args:
            id: of its sample.
            path: of its file.
            picture: as Pillow opened it, decoded.
        """
        self._seen += 1
        extrema = picture.getextrema()
        bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
        if all(low == high for low, high in bands):
            self._plain.append(id)
        width, height = picture.size
        if max(width, height) > LONG * min(width, height):
            self._long.append(id)
        digest = bytes.fromhex(self._digest(path)[:32])  # a million of them are kept
        if self._first.setdefault(digest, id) != id:
            self._again[digest] += 1

    def notes(self) -> list[str]:
        """Returns a warning for each kind that was seen, with counts."""
        of = f"of {self._seen:,} pictures"
        notes = []
        if self._plain:
            notes.append(
                f"{len(self._plain):,} {of} are of one colour throughout "
                f"(first: id {self._plain[0]!r})"
            )
        if self._long:
            notes.append(
                f"{len(self._long):,} {of} have a side more than {LONG} times as long as the other "
                f"(first: id {self._long[0]!r}); most encoders see a square"
            )
        if self._again:
            digest, most = self._again.most_common(1)[0]
            notes.append(
                f"{self._again.total():,} {of} are the same as one of another row (most often "
                f"that of id {self._first[digest]!r}: {most + 1:,} times)"
            )
        return notes

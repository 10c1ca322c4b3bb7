"""Samples that were left out, and the file that tells which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fli2moe.files import write_text

REJECTS = "rejects.jsonl"


@dataclass(frozen=True)
class Rejected:
    """A sample that was left out (`data.on_bad: skip`, `explain --on-bad skip`).

    Attributes:
        id: as it stands in the data; may be empty.
        row: of the manifest, where it is known.
        reason: one line.
    """

    id: str
    row: int | None
    reason: str


def write_rejects(rejected: Sequence[Rejected], folder: Path) -> None:
    """Writes `rejects.jsonl`, a line for each with id, row and reason; none, no file."""
    path = folder / REJECTS
    if rejected:
        lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in rejected]
        write_text(path, "".join(lines))
    else:
        path.unlink(missing_ok=True)

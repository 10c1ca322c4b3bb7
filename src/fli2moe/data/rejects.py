"""Samples that were left out, and the file that tells which."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fli2moe.errors import one_line
from fli2moe.files import write_text

REJECTS = "rejects.jsonl"


@dataclass(frozen=True)
class Rejected:
    """A sample that was left out (`data.on_bad: skip`, `explain --on-bad skip`).

    Attributes:
        id: as it stands in the data; may be empty.
        row: of the manifest, where it is known.
        reason: one line.
        path: the file at fault, where it is known: the manifest, or a picture.
    """

    id: str
    row: int | None
    reason: str
    path: str | None = None


def rejected(id: str, inputs: Mapping[str, str | Path], error: Exception) -> Rejected:
    """Returns a sample that was left out because of an error, which may name a file of it."""
    reason = one_line(str(error))
    files = [str(value) for value in inputs.values() if isinstance(value, Path)]
    return Rejected(id, None, reason, next((name for name in files if name in reason), None))


def count_rejects(path: Path) -> int:
    """Returns how many samples a `rejects.jsonl` names; 0 where there is none."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def write_rejects(rejected: Sequence[Rejected], folder: Path) -> None:
    """Writes `rejects.jsonl`, a line for each with id, row, reason and path; none, no file."""
    path = folder / REJECTS
    if rejected:
        lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in rejected]
        write_text(path, "".join(lines))
    else:
        path.unlink(missing_ok=True)

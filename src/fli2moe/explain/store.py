"""Explanations on disk: Parquet parts with a manifest, each part complete or not there at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fli2moe.errors import InputError
from fli2moe.explain.explanation import Explanation
from fli2moe.files import complete_file, file_digest, read_json, write_json

PART_ROWS = 64
MANIFEST = "manifest.json"
FORMAT = "fli2moe/explanations/1"
AGAIN = "run `fli2moe explain` again"


def write_explanations(explanations: Iterable[Explanation], folder: Path) -> int:
    """Writes explanations in parts of `PART_ROWS`, then the manifest; returns how many.

    Columns: `id`, `target`, `probability`, `labels`, `explanation` (the JSON of
    `Explanation.to_json`). Parts of an earlier call in the same folder are replaced.

    Raises:
        MachineError: when the folder cannot be written.
    """
    parts: list[dict[str, object]] = []
    rows: list[Explanation] = []
    for explanation in explanations:
        rows.append(explanation)
        if len(rows) == PART_ROWS:
            parts.append(_write_part(rows, folder, len(parts)))
            rows = []
    if rows:
        parts.append(_write_part(rows, folder, len(parts)))
    write_json(folder / MANIFEST, {"format": FORMAT, "parts": parts})
    known = {part["file"] for part in parts}
    for stale in folder.glob("part-*.parquet"):
        if stale.name not in known:
            stale.unlink()
    return sum(int(str(part["rows"])) for part in parts)


def read_explanations(folder: Path) -> Iterator[Explanation]:
    """Yields the explanations that the manifest lists, in order.

    Raises:
        InputError: when there is no manifest, it is damaged, or a part does not match its checksum.
    """
    import pyarrow.parquet

    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise InputError(str(folder), "no explanations", "", "run `fli2moe explain` first")
    data = read_json(manifest, AGAIN)
    try:
        parts = [(folder / part["file"], part["sha256"]) for part in data["parts"]]
    except (KeyError, TypeError):
        raise InputError(str(manifest), "damaged", FORMAT, AGAIN) from None
    for path, digest in parts:
        if not path.is_file() or file_digest(path) != digest:
            raise InputError(str(path), "missing or damaged", f"sha256 {digest[:12]}", AGAIN)
        for text in pyarrow.parquet.read_table(path, columns=["explanation"])[0].to_pylist():
            yield Explanation.from_json(text)


def _write_part(rows: list[Explanation], folder: Path, number: int) -> dict[str, object]:
    import pyarrow
    import pyarrow.parquet

    path = folder / f"part-{number:05d}.parquet"
    table = pyarrow.table(
        {
            "id": [e.sample_id for e in rows],
            "target": [e.target for e in rows],
            "probability": [e.probabilities[e.class_index] for e in rows],
            "labels": [list(e.labels) for e in rows],
            "explanation": [e.to_json() for e in rows],
        }
    )
    with complete_file(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")
    return {"file": path.name, "rows": len(rows), "sha256": file_digest(path)}

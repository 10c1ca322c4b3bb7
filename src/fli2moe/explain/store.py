"""Explanations on disk: Parquet parts with a manifest, each part complete or not there at all.

A part holds the explanations of a few samples and says, in its header, of which job it is: a job
that was killed finds its parts again and does only the others. The manifest comes last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fli2moe.data.rejects import Rejected, write_rejects
from fli2moe.errors import InputError
from fli2moe.explain.explanation import Explanation
from fli2moe.files import complete_file, file_digest, read_json, write_json

PART_ROWS = 64
MANIFEST = "manifest.json"
FORMAT = "fli2moe/explanations/1"
AGAIN = "run `fli2moe explain` again"


@dataclass(frozen=True)
class ExplanationStore:
    """The folder of one job.

    Attributes:
        folder: where the parts are.
        job: digest of all that the explanations follow from; parts of another job do not count.
    """

    folder: Path
    job: str

    def open(self) -> int | None:
        """Takes away what is of another job or damaged.

        Returns:
            the number of explanations where the whole job is there and sound, else None.
        """
        manifest = self.folder / MANIFEST
        if not manifest.is_file():
            return None
        try:
            data = read_json(manifest)
            parts, rows = _listed(data, self.folder), sum(int(p["rows"]) for p in data["parts"])
            own = bool(data["job"] == self.job)
        except (InputError, KeyError, TypeError, ValueError):
            own, parts, rows = False, [], 0
        bad = [path for path, digest in parts if not _is_sound(path, digest)]
        if own and not bad:
            return rows
        manifest.unlink()
        for path in bad:
            path.unlink(missing_ok=True)
        return None

    def has(self, number: int) -> bool:
        """Whether a part of this job is there, whole."""
        return self._about(number) is not None

    def write(self, number: int, rows: Sequence[Explanation], rejects: Sequence[Rejected]) -> None:
        """Writes one part.

        Raises:
            MachineError: when the folder cannot be written.
        """
        _write_part(rows, self._path(number), self.job, rejects)

    def finish(self, parts: int) -> int:
        """Writes the manifest over all parts, and `rejects.jsonl` where samples were left out.

        Returns:
            the number of explanations.

        Raises:
            InputError: when a part is missing.
        """
        import pyarrow.parquet

        entries, rejects = [], []
        for number in range(parts):
            about, path = self._about(number), self._path(number)
            if about is None:
                raise InputError(str(path), "missing", "", AGAIN)
            rejects += about
            rows = pyarrow.parquet.read_metadata(path).num_rows
            entries.append({"file": path.name, "rows": rows, "sha256": file_digest(path)})
        known = {entry["file"] for entry in entries}
        for stale in self.folder.glob("part-*.parquet"):
            if stale.name not in known:
                stale.unlink()
        write_rejects(rejects, self.folder)
        about_job = {"job": self.job, "parts": entries, "rejects": len(rejects)}
        write_json(self.folder / MANIFEST, {"format": FORMAT, **about_job})
        return sum(int(str(entry["rows"])) for entry in entries)

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"

    def _about(self, number: int) -> list[Rejected] | None:
        """The rejects of a part of this job, None where there is no such part."""
        import pyarrow
        import pyarrow.parquet

        path = self._path(number)
        if not path.is_file():
            return None
        try:
            about = pyarrow.parquet.read_metadata(path).metadata or {}
            if about.get(b"job", b"").decode() != self.job:
                return None
            return [Rejected(**r) for r in json.loads(about[b"rejects"])]
        except (OSError, pyarrow.ArrowException, KeyError, TypeError, ValueError):
            return None  # damaged: it is made again


def write_explanations(explanations: Iterable[Explanation], folder: Path) -> int:
    """Writes explanations in parts of `PART_ROWS`, then the manifest; returns how many.

    Columns: `id`, `target`, `probability`, `labels`, `explanation` (the JSON of
    `Explanation.to_json`). Parts of an earlier call in the same folder are replaced.

    Raises:
        MachineError: when the folder cannot be written.
    """
    store = ExplanationStore(folder, "")
    (folder / MANIFEST).unlink(missing_ok=True)
    rows: list[Explanation] = []
    parts = 0
    for explanation in explanations:
        rows.append(explanation)
        if len(rows) == PART_ROWS:
            store.write(parts, rows, ())
            rows, parts = [], parts + 1
    if rows:
        store.write(parts, rows, ())
        parts += 1
    return store.finish(parts)


def read_explanations(folder: Path) -> Iterator[Explanation]:
    """Yields the explanations that the manifest lists, in order.

    Raises:
        InputError: when there is no manifest, it is damaged, or a part does not match its checksum.
    """
    import pyarrow
    import pyarrow.parquet

    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise InputError(str(folder), "no explanations", "", "run `fli2moe explain` first")
    data = read_json(manifest, AGAIN)
    try:
        parts = _listed(data, folder)
    except (KeyError, TypeError):
        raise InputError(str(manifest), "damaged", FORMAT, AGAIN) from None
    for path, digest in parts:
        if not _is_sound(path, digest):
            raise InputError(str(path), "missing or damaged", f"sha256 {digest[:12]}", AGAIN)
        try:
            texts = pyarrow.parquet.read_table(path, columns=["explanation"])[0].to_pylist()
        except (OSError, pyarrow.ArrowException, LookupError, ValueError) as error:
            found = f"damaged: {str(error).splitlines()[0]}"
            raise InputError(str(path), found, "Parquet", AGAIN) from None
        for text in texts:
            yield Explanation.from_json(text)


def _listed(manifest: Any, folder: Path) -> list[tuple[Path, str]]:
    """(file, checksum) of each part that a manifest names; names lead nowhere else."""
    return [(folder / Path(part["file"]).name, str(part["sha256"])) for part in manifest["parts"]]


def _is_sound(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


def _write_part(
    rows: Sequence[Explanation], path: Path, job: str, rejects: Sequence[Rejected]
) -> None:
    import pyarrow
    import pyarrow.parquet

    names = pyarrow.list_(pyarrow.string())  # said, as a part may have no row
    table = pyarrow.table(
        {
            "id": pyarrow.array([e.sample_id for e in rows], pyarrow.string()),
            "target": pyarrow.array([e.target for e in rows], pyarrow.string()),
            "probability": pyarrow.array(
                [e.probabilities[e.class_index] for e in rows], pyarrow.float64()
            ),
            "labels": pyarrow.array([list(e.labels) for e in rows], names),
            "explanation": pyarrow.array([e.to_json() for e in rows], pyarrow.string()),
        }
    )
    about = {"job": job, "rejects": json.dumps([asdict(r) for r in rejects])}
    with complete_file(path) as temporary:
        pyarrow.parquet.write_table(
            table.replace_schema_metadata(about), temporary, compression="zstd"
        )

"""Small manifests on disk, and what an error must say."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from fli2moe.errors import InputError

Rows = Sequence[Mapping[str, object]]


def write_table(path: Path, rows: Rows) -> Path:
    """Writes the rows in the format that the suffix names."""
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    return path


def rows_of_pictures() -> list[dict[str, object]]:
    """Six sound rows: a picture, a text, one of two labels, two rows in each split."""
    return [
        {
            "id": f"{n:03d}",
            "image": f"pictures/{n}.png",
            "text": f"text number {n}",
            "label": "cat" if n % 2 else "dog",
            "split": ("train", "val", "test")[n // 2],
        }
        for n in range(6)
    ]


class Folder:
    """A folder with six pictures, in which manifests are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "pictures").mkdir(parents=True)
        for n in range(6):
            Image.new("RGB", (8, 6), (40 * n, 0, 0)).save(path / "pictures" / f"{n}.png")

    def rows(self, **changes: object) -> list[dict[str, object]]:
        """The sound rows, with the third (line 4, id 002) changed."""
        rows = rows_of_pictures()
        rows[2].update(changes)
        return rows

    def write(self, rows: Rows, name: str = "manifest.csv") -> Path:
        return write_table(self.path / name, rows)

    def raw(self, content: str | bytes, name: str = "manifest.csv") -> Path:
        path = self.path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "data set")


Fault = Callable[..., InputError]


@pytest.fixture
def fault() -> Fault:
    """Calls a function and returns its error, after checking that the message is one whole line.

    Each keyword names a part of the error; each of its words must stand there.
    """

    def check(function: Callable[[], object], **parts: Sequence[str]) -> InputError:
        with pytest.raises(InputError) as caught:
            function()
        error = caught.value
        assert error.exit_code == 2
        assert "\n" not in str(error)
        assert len(str(error)) < 1500
        for part, words in parts.items():
            text = getattr(error, part)
            assert text, f"no {part} in: {error}"
            assert text in str(error) or "\\" in str(error)
            for word in words:
                assert word in text, f"{word!r} is not in the {part} of: {error}"
        return error

    return check

"""ENRICO (Leiva et al. 2020): 1,460 Android screens of 20 design topics, in its official layout."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from fli2moe.data.labels import LabelBook
from fli2moe.data.modalities import check_modalities
from fli2moe.data.paths import PathRules
from fli2moe.data.problems import RowFaults, raise_first
from fli2moe.data.sample import Dataset, Sample
from fli2moe.data.table import Row, open_table
from fli2moe.errors import InputError, unknown_name

CORRUPT = frozenset(("50105", "50109"))
"""Screens whose wireframes are corrupt; MultiBench leaves them out as well."""

PICTURES = {"screenshot": "screenshots/{id}.jpg", "wireframe": "wireframes/{id}.png"}
MODALITIES = (*PICTURES, "text")
TOPICS, TEXTS = "design_topics.csv", "manifest.csv"
_LAYOUT = f"a folder with {TOPICS}, screenshots/<id>.jpg and wireframes/<id>.png"
_SOURCE = (
    "download design_topics.csv, screenshots.zip and wireframes.zip from "
    "github.com/luileito/enrico and unpack them there"
)


def read_enrico(
    folder: str | Path, *, modalities: Sequence[str] = ("screenshot", "wireframe")
) -> Dataset:
    """Reads ENRICO with the split of MultiBench (947 / 219 / 292).

    50105 and 50109 are left out first; then the rows, in the order of `design_topics.csv`, are
    shuffled by `random.Random(42)`; the first 65% are train, up to 80% val, the rest test, both
    bounds rounded down (Liang et al. 2021, MultiBench).

    Args:
        folder: the folder with `design_topics.csv`, `screenshots` and `wireframes`.
        modalities: any of screenshot, wireframe, text; `text` is not part of ENRICO and is taken
            from a `manifest.csv` in the folder with columns id and text.

    Raises:
        InputError: when a modality is unknown, a file is missing or damaged, or the data set is
            not there (says where to get it).
    """
    folder = Path(folder)
    check_modalities(modalities, MODALITIES)
    topics = folder / TOPICS
    if not topics.is_file():
        found = f"no {TOPICS} here" if folder.is_dir() else "no such folder"
        raise InputError(str(folder), found, _LAYOUT, _SOURCE)
    rows = _rows(topics, ("screen_id", "topic"))
    splits = _splits([row.values["screen_id"] for row in rows])
    texts = _texts(folder) if "text" in modalities else {}
    labels = LabelBook("topic", "|", False, None)
    paths = PathRules(folder)
    samples = []
    for row in rows:
        id = row.values["screen_id"]
        if id not in splits:
            continue
        faults = RowFaults(raise_first, str(topics), "line", row.number, id)
        inputs = {m: _input(m, id, paths, texts, folder, faults) for m in modalities}
        names = labels.parse(row.values["topic"], faults) or ()
        labels.count(names, splits[id], faults)
        samples.append(Sample(id, inputs, names, splits[id]))
    classes = labels.finish(str(topics), raise_first)
    left_out = len(rows) - len(samples)
    notes = [f"{left_out} screens with corrupt wireframes left out"] if left_out else []
    return Dataset(
        samples=tuple(samples),
        classes=classes,
        modalities={m: "image" if m in PICTURES else "text" for m in modalities},
        source=str(folder),
        notes=(*notes, *labels.notes(classes)),
    )


def _rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Returns the rows of a table, after checking its columns and that ids occur once."""
    table = open_table(path, raise_first)
    for column in columns:
        if column not in table.columns:
            raise unknown_name(str(path), "layout, no column", column, table.columns)
    rows = list(table.rows)
    lines: dict[str, int] = {}
    for row in rows:
        id = row.values[columns[0]]
        first = lines.setdefault(id, row.number)
        if first != row.number:
            where = f"{path}, line {row.number}, column {columns[0]!r}"
            found = f"id {id!r} stands twice (lines {first} and {row.number})"
            raise InputError(where, found, "an id once", "remove one of the lines")
    return rows


def _splits(ids: Sequence[str]) -> dict[str, str]:
    """Returns {id: split} as MultiBench divides the screens; corrupt ones are not in it."""
    kept = [id for id in ids if id not in CORRUPT]
    random.Random(42).shuffle(kept)
    train, val = int(0.65 * len(kept)), int(0.80 * len(kept))
    names = ["train"] * train + ["val"] * (val - train) + ["test"] * (len(kept) - val)
    return dict(zip(kept, names, strict=True))


def _texts(folder: Path) -> dict[str, str]:
    path = folder / TEXTS
    if not path.is_file():
        expected = f"{TEXTS} with columns id and text beside {TOPICS}"
        remedy = "write one (for example by OCR of the screenshots), or leave out modality 'text'"
        raise InputError(str(path), "no texts: no such file", expected, remedy)
    return {row.values["id"]: row.values["text"] for row in _rows(path, ("id", "text"))}


def _input(
    modality: str,
    id: str,
    paths: PathRules,
    texts: dict[str, str],
    folder: Path,
    faults: RowFaults,
) -> str | Path:
    if modality in PICTURES:
        path = paths.resolve(PICTURES[modality].format(id=id), "screen_id", faults)
        assert path is not None  # the sink raises
        return path
    if id not in texts:
        where = f"{folder / TEXTS}"
        raise InputError(where, f"no row with id {id!r}", f"one for each screen of {TOPICS}")
    return texts[id]

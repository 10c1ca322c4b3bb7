"""MM-IMDb (Arevalo et al. 2017): 25,959 films with plot, poster and genres, in its own layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fli2moe.data.labels import LabelBook
from fli2moe.data.modalities import check_modalities
from fli2moe.data.paths import PathRules
from fli2moe.data.problems import RowFaults, raise_first, shown
from fli2moe.data.sample import Dataset, Sample
from fli2moe.errors import InputError, unknown_name
from fli2moe.files import read_json

GENRES = (
    *("Action", "Adventure", "Animation", "Biography", "Comedy", "Crime", "Documentary", "Drama"),
    *("Family", "Fantasy", "Film-Noir", "History", "Horror", "Music", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Short", "Sport", "Thriller", "War", "Western"),
)
"""The 23 classes, in the order of the model's outputs."""

MODALITIES = ("image", "text")
SPLIT = "split.json"
SPLIT_NAMES = {"train": "train", "dev": "val", "test": "test"}
"""{name in `split.json`: ours}."""
_FILM, _POSTER = "dataset/{id}.json", "dataset/{id}.jpeg"
_LAYOUT = f"a folder with {SPLIT}, dataset/<id>.json and dataset/<id>.jpeg"
_SOURCE = (
    "download mmimdb.tar.gz from lisi1.unal.edu.co/mmimdb (mirror: archive.org/details/mmimdb) "
    "and unpack it there"
)


def read_mmimdb(folder: str | Path, *, modalities: Sequence[str] = MODALITIES) -> Dataset:
    """Reads MM-IMDb with its own split (15,552 / 2,608 / 7,799); its dev is our val.

    Multi-label over 23 genres. Genres that are none of them are left out and counted in a note; a
    film may be left without a label. A film's text is the longest of its plots, the first of them
    if there are several, as in the authors' code, which also normalises it; here it stays as it is.

    Args:
        folder: the folder with `split.json` and `dataset`.
        modalities: image, text, or both.

    Raises:
        InputError: when a modality is unknown, a file is missing or damaged, or the data set is
            not there (says where to get it).
    """
    folder = Path(folder)
    check_modalities(modalities, MODALITIES)
    split = folder / SPLIT
    if not split.is_file():
        found = f"no {SPLIT} here" if folder.is_dir() else "no such folder"
        raise InputError(str(folder), found, _LAYOUT, _SOURCE)
    paths = PathRules(folder)
    labels = LabelBook("genres", "|", True, GENRES)
    others: Counter[str] = Counter()
    samples = []
    for id, name, number in _listed(split):
        faults = RowFaults(raise_first, str(split), f"{name} entry", number, id)
        path = _file(_FILM, id, paths, faults)
        film = _film(path)
        genres = tuple(dict.fromkeys(_strings(film, "genres", path)))
        others.update(genre for genre in genres if genre not in GENRES)
        names = labels.parse("|".join(g for g in genres if g in GENRES), faults) or ()
        labels.count(names, SPLIT_NAMES[name], faults)
        inputs: dict[str, str | Path] = {}
        if "image" in modalities:
            inputs["image"] = _file(_POSTER, id, paths, faults)
        if "text" in modalities:
            inputs["text"] = _plot(film, path)
        samples.append(Sample(id, inputs, names, SPLIT_NAMES[name]))
    classes = labels.finish(str(split), raise_first)
    return Dataset(
        samples=tuple(samples),
        classes=classes,
        modalities={m: m for m in modalities},
        multilabel=True,
        source=str(folder),
        notes=(*_notes(samples, others), *labels.notes(classes)),
    )


def _listed(path: Path) -> list[tuple[str, str, int]]:
    """Returns (id, name of its split there, place in that split from 1) of every film."""
    content = read_json(path, _SOURCE)
    expected = "{" + ", ".join(f'"{name}": [ids]' for name in SPLIT_NAMES) + "}"
    if not isinstance(content, dict):
        raise InputError(str(path), f"JSON of type {type(content).__name__}", expected)
    for name in content:
        if name not in SPLIT_NAMES:
            raise unknown_name(str(path), "split", name, SPLIT_NAMES)
    listed: list[tuple[str, str, int]] = []
    places: dict[str, str] = {}
    for name in SPLIT_NAMES:
        ids = content.get(name)
        if not isinstance(ids, list) or not ids:
            found = f"no ids of split {name!r}" if not ids else f"split {name!r} is no list"
            raise InputError(str(path), found, expected)
        for number, id in enumerate(ids, start=1):
            place = f"{name} entry {number}"
            if not isinstance(id, str) or not id.strip():
                found = "an empty id" if isinstance(id, str) else f"{id!r} is no text"
                raise InputError(f"{path}, {place}", found, 'an id such as "0012345"')
            first = places.setdefault(id, place)
            if first != place:
                found = f"id {shown(id)} stands twice ({first} and {place})"
                raise InputError(f"{path}, {place}", found, "a film once", "remove one of them")
            listed.append((id, name, number))
    return listed


def _file(pattern: str, id: str, paths: PathRules, faults: RowFaults) -> Path:
    path = paths.resolve(pattern.format(id=id), "id", faults)
    assert path is not None  # the sink raises
    return path


def _film(path: Path) -> dict[str, Any]:
    film = read_json(path, "unpack it again")
    if not isinstance(film, dict):
        found = f"JSON of type {type(film).__name__}"
        raise InputError(str(path), found, 'an object {"plot": [...], "genres": [...]}')
    return film


def _strings(film: dict[str, Any], key: str, path: Path) -> list[str]:
    """Returns the list of texts under a key of a film."""
    value = film.get(key)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        found = "missing" if key not in film else f"{shown(repr(value))}"
        raise InputError(f"{path}, key {key!r}", found, "a list of texts", "unpack it again")
    return value


def _plot(film: dict[str, Any], path: Path) -> str:
    plots = _strings(film, "plot", path)
    if not plots:
        remedy = f"take the film out of {SPLIT}, or leave out modality 'text'"
        raise InputError(f"{path}, key 'plot'", "an empty list", "at least one plot", remedy)
    return max(plots, key=len)


def _notes(samples: Sequence[Sample], others: Counter[str]) -> list[str]:
    notes = []
    if others:
        counts = ", ".join(f"{shown(name)} {n}" for name, n in others.most_common(10))
        more = f" and {len(others) - 10} more" if len(others) > 10 else ""
        notes.append(f"genres that are none of the {len(GENRES)} left out: {counts}{more}")
    bare = sum(not sample.labels for sample in samples)
    if bare:
        notes.append(f"{bare} films carry none of the {len(GENRES)} genres")
    empty = sum(not str(sample.inputs.get("text", "-")).strip() for sample in samples)
    if empty:
        notes.append(f"{empty} films have an empty plot")
    return notes

"""Parts of an evaluation that was killed: kept until all are there, then removed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fli2moe import __version__
from fli2moe.data.sample import content_of
from fli2moe.errors import InputError
from fli2moe.evaluation.part import Part
from fli2moe.evaluation.split import TestSplit
from fli2moe.files import json_digest, read_json, write_json
from fli2moe.predictor import Predictor

FOLDER = ".evaluation"


def settings_of(predictor: Predictor, seed: int) -> dict[str, Any]:
    """Returns what figures follow from beside model and samples, as JSON values."""
    config = predictor.config
    settings = {"seed": seed, **config.evaluation.model_dump(mode="json")}
    return settings | {"explain": config.explain.model_dump(mode="json")}


class Unfinished:
    """The parts of one evaluation on disk; those of another one do not count.

    Args:
        out: the run folder; nothing is kept where None.
        of: JSON values that the evaluation follows from.
    """

    def __init__(self, out: Path | None, of: Mapping[str, Any]) -> None:
        self.folder = None if out is None else out / FOLDER
        self.key = json_digest(version=__version__, **of)

    @staticmethod
    def of(out: Path | None, predictor: Predictor, test: TestSplit, seed: int) -> Unfinished:
        """Returns the parts that a model's evaluation on these samples would have there."""
        settings = {**settings_of(predictor, seed), "parts": ()}  # each part by itself
        of = {"model": predictor.fingerprint, "settings": settings}
        return Unfinished(out, {**of, "samples": content_of(test.samples)})

    def find(self, name: str) -> tuple[Part, float] | None:
        """Returns a part that was finished before, as it was, and the seconds it took; or None."""
        if self.folder is None:
            return None
        try:
            data = read_json(self.folder / f"{name}.json")
            if data["key"] != self.key:
                return None
            rows = {int(i): dict(row) for i, row in data["rows"].items()}
            return Part(dict(data["summary"]), rows), float(data["seconds"])
        except (InputError, KeyError, TypeError, ValueError, AttributeError):
            return None  # not there, or damaged: it is measured again

    def keep(self, name: str, part: Part, seconds: float) -> None:
        """Writes a finished part."""
        if self.folder is not None:
            rows = {str(i): dict(row) for i, row in part.rows.items()}
            data: dict[str, Any] = {"key": self.key, "seconds": seconds}
            data |= {"summary": dict(part.summary), "rows": rows}
            write_json(self.folder / f"{name}.json", data)

    def remove(self) -> None:
        """Removes them all: the whole stands elsewhere."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

"""Paths named in a manifest: kept inside one root, and pointing at regular files.

Nothing here fetches a URL or opens a file.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from fli2moe.data.problems import RowFaults, shown
from fli2moe.errors import closest

PICTURE_SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".svg", ".avif", ".heic"),
    }
)
"""What tells a column of pictures; whether a picture can be read is for its opener to say."""

VECTOR_SUFFIXES = frozenset((".npy", ".safetensors"))

# `file:/x` and `C:/x` resolve *inside* the root on Linux, so they are refused by their look.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:/|data:", re.IGNORECASE)

_FUZZY_LIMIT = 2000
"""Folders with more names are searched for an exact match up to case and normal form only."""


@dataclass(frozen=True)
class PathRules:
    """What a path in a manifest may be.

    Attributes:
        root: folder that relative paths start from.
        allow_outside: accept absolute paths and paths that lead out of `root`.
    """

    root: Path
    allow_outside: bool = False
    _listings: dict[Path, dict[str, str]] = field(default_factory=dict, repr=False, compare=False)

    def resolve(self, value: str, column: str, faults: RowFaults) -> Path | None:
        """Returns the file that `value` names, or None after reporting why it cannot be used."""
        remedy = f"write a path relative to {self.root}"
        if not value.strip():
            faults(column, "an empty path", "the path of a file", remedy)
        elif _SCHEME.match(value):
            faults(column, f"a URL or drive {shown(value)}", "a file in the image root", remedy)
        elif "\\" in value or "\0" in value:
            faults(column, f"a backslash or NUL in {shown(value)}", "'/' between folders", remedy)
        else:
            return self._inside(value, column, faults)
        return None

    def _inside(self, value: str, column: str, faults: RowFaults) -> Path | None:
        expected = f"a file inside {self.root}"
        remedy = "move the file there, or allow paths outside the image root"
        path = self.root / value
        try:
            inside = path.resolve().is_relative_to(self.root.resolve())
            if not self.allow_outside and (Path(value).is_absolute() or not inside):
                what = "an absolute path" if Path(value).is_absolute() else "a path outside"
                faults(column, f"{what} {shown(value)}", expected, remedy)
            elif path.is_file():
                return path
            elif path.is_dir():
                faults(column, f"a folder {shown(value)}", "a file", "name the file inside it")
            elif path.exists():
                faults(column, f"not a regular file {shown(value)}", "a file", "name a file")
            elif path.is_symlink():
                faults(column, f"a dangling link {shown(value)}", "a file", "mend the link")
            else:
                faults(column, f"no such file {shown(value)}", expected, self._near(path))
        except (OSError, RuntimeError, ValueError) as error:  # name too long, loop of links
            if isinstance(error, OSError) and error.strerror:
                reason = error.strerror
            else:
                reason = "a loop of links" if isinstance(error, RuntimeError) else "not a path"
            faults(column, f"{reason}: {shown(value)}", expected, remedy)
        return None

    def _near(self, path: Path) -> str:
        folder = path.parent
        if folder not in self._listings:
            names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
            self._listings[folder] = {_folded(name): name for name in sorted(names)}
        names_by_fold = self._listings[folder]
        match = names_by_fold.get(_folded(path.name))
        if match is None and len(names_by_fold) <= _FUZZY_LIMIT:
            match = closest(path.name, names_by_fold.values())
        if match is None:
            return "add the file or correct the path"
        return f"did you mean {match!r}?"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()

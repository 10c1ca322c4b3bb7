"""Paths named in a manifest: kept inside one root, and pointing at regular files.

Nothing here fetches a URL or opens a file.
"""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
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

    @cached_property
    def _resolved_root(self) -> Path:
        return self.root.resolve()

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
            path = self.root / value
            fault = self._fault(value, path)
            if fault is None:
                return path
            faults(column, fault[0], f"a file inside {self.root}", fault[1])
        return None

    def _fault(self, value: str, path: Path) -> tuple[str, str] | None:
        """Returns what is wrong with a path and the remedy, or None for a file in the root."""
        remedy = "move the file there, or allow paths outside the image root"
        name = shown(value)
        try:
            if not self.allow_outside:
                if Path(value).is_absolute():
                    return f"an absolute path {name}", remedy
                if not path.resolve().is_relative_to(self._resolved_root):
                    return f"{name} lies outside the image root", remedy
            if path.is_file():
                return None
            if path.is_dir():
                return f"a folder {name}", "name the file inside it"
            if path.exists():
                return f"not a regular file {name}", "name a file on disk"
            if path.is_symlink():
                return f"a dangling link {name}", "mend the link"
        except OSError as error:
            return f"{error.strerror or error}: {name}", "check the name and its permissions"
        except RuntimeError:  # what resolve() raises for links that point at each other
            return f"a loop of links {name}", "mend the links"
        return f"no such file {name}", self._near(value, path)

    def _near(self, value: str, path: Path) -> str:
        folder = path.parent
        if folder not in self._listings:
            names: list[str] = []
            with suppress(OSError):  # no such folder, or not to be listed
                names.extend(p.name for p in folder.iterdir())
            self._listings[folder] = {_folded(name): name for name in sorted(names)}
        names_by_fold = self._listings[folder]
        match = names_by_fold.get(_folded(path.name))
        if match is None and len(names_by_fold) <= _FUZZY_LIMIT:
            match = closest(path.name, names_by_fold.values())
        if match is None:
            return "add the file or correct the path"
        return f"did you mean {str(Path(value).with_name(match))!r}?"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()

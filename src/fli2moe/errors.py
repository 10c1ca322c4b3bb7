"""Errors a user can act on: one line with where, what, what was expected, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

INTERRUPTED = 4
"""Exit code after Ctrl-C or SIGTERM: the same command goes on."""


class FLI2MoEError(Exception):
    """Base of every error this library raises on purpose; `exit_code` is what the CLI returns."""

    exit_code = 1


class InputError(FLI2MoEError, ValueError):
    """Something the user handed in cannot be used (exit code 2).

    Args:
        where: file, row, column, id or argument that is at fault.
        found: what stands there.
        expected: what should stand there.
        remedy: what to do about it.
    """

    exit_code = 2

    def __init__(self, where: str, found: str, expected: str = "", remedy: str = "") -> None:
        self.where, self.found, self.expected, self.remedy = where, found, expected, remedy
        line = f"{where}: {found}"
        if expected:
            line += f"; expected {expected}"
        if remedy:
            line += f"; {remedy}"
        super().__init__(one_line(line))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str, str]]:
        return (type(self), (self.where, self.found, self.expected, self.remedy))


class MachineError(InputError):
    """The machine lacks a package, weights, space or a permission (exit code 3)."""

    exit_code = 3


def one_line(text: str) -> str:
    """Returns `text` with line breaks and control characters made visible, so it stays one line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


def closest(name: str, valid: Iterable[str]) -> str | None:
    """Returns the entry of `valid` that `name` was probably meant to be, or None."""
    names = list(valid)
    folded = {v.casefold().strip(): v for v in names}
    if name.casefold().strip() in folded:
        return folded[name.casefold().strip()]
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return match[0] if match else None


def unknown_name(where: str, kind: str, name: str, valid: Iterable[str]) -> InputError:
    """Returns the error for a name that is not one of `valid`, with the closest match."""
    names = list(valid)
    match = closest(name, names)
    remedy = f"did you mean {match!r}?" if match else "use one of them"
    return InputError(where, f"unknown {kind} {name!r}", f"one of {', '.join(names)}", remedy)

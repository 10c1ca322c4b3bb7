"""One fault of a data file, and the two things to do with it: stop at it, or collect it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fli2moe.errors import InputError, one_line


@dataclass(frozen=True)
class Problem:
    """A fault a user can mend, with the place where it lies.

    Attributes:
        file: the file at fault.
        found: what stands there.
        expected: what should stand there.
        remedy: what to do about it.
        row: line of a text file (from 1, the header included) or row of a Parquet file (from 1).
        column: column of the file.
        id: id of the sample, as it stands in the file.
        unit: what `row` counts, `line` or `row`.
    """

    file: str
    found: str
    expected: str = ""
    remedy: str = ""
    row: int | None = None
    column: str | None = None
    id: str | None = None
    unit: str = "line"

    @property
    def where(self) -> str:
        """File, row, column and id, as far as they are known."""
        parts = [self.file]
        if self.row is not None:
            parts.append(f"{self.unit} {self.row}")
        if self.column is not None:
            parts.append(f"column {shown(self.column)}")
        if self.id is not None:
            parts.append(f"id {shown(self.id)}")
        return ", ".join(parts)

    def error(self) -> InputError:
        """Returns the error that says the same."""
        return InputError(self.where, self.found, self.expected, self.remedy)

    @staticmethod
    def of(error: InputError) -> Problem:
        """Returns the problem that an error describes; its `where` stands in `file`."""
        return Problem(error.where, error.found, error.expected, error.remedy)

    def __str__(self) -> str:
        return one_line(str(self.error()))


Sink = Callable[[Problem], None]
"""Where problems go. Whoever reports one goes on as if the sink might return."""


def raise_first(problem: Problem) -> None:
    """A sink that stops at the first problem.

    Raises:
        InputError: always.
    """
    raise problem.error()


@dataclass(frozen=True)
class RowFaults:
    """Reports the faults of one row: `faults(column, found, expected, remedy)`."""

    report: Sink
    file: str
    unit: str
    row: int
    id: str | None = None

    def __call__(
        self, column: str | None, found: str, expected: str = "", remedy: str = ""
    ) -> None:
        """Reports one fault of this row."""
        self.report(
            Problem(self.file, found, expected, remedy, self.row, column, self.id, self.unit)
        )

    @property
    def place(self) -> str:
        """The row as a message names it."""
        return f"{self.unit} {self.row}"


def shown(value: str, limit: int = 80) -> str:
    """Returns `value` quoted and cut to `limit` characters, for a message of one line."""
    return repr(value if len(value) <= limit else value[: limit - 3] + "...")

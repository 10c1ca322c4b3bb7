"""Progress bars and tables on the terminal; data never reach rich as markup."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from fli2moe.errors import one_line
from fli2moe.evaluation.cells import cell

LINE_SECONDS = 60
"""Without a terminal: between two lines on a stage that takes long."""
WIDTH = 140  # where there is no terminal: lines are not broken, cells not cut


class Terminal:
    """A console with one progress bar per stage; use as a context manager.

    Inside it, warnings of the library become lines of their own, above the bars.

    Args:
        console: where it prints; standard output by default.
        quiet: prints nothing, for one of several processes that all do the same.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(highlight=False, quiet=quiet)
        if console is None and not self.console.is_terminal:
            self.console = Console(highlight=False, width=WIDTH, quiet=quiet)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, int]] = {}  # when, and how many were done
        self._said: dict[str, float] = {}
        self._notes = _Notes(self.say)

    def __enter__(self) -> Terminal:
        logging.getLogger("fli2moe").addHandler(self._notes)
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()
        logging.getLogger("fli2moe").removeHandler(self._notes)

    def step(self, stage: str, done: int, total: int) -> None:
        """Moves the bar of a stage, with throughput and the time that is left.

        Without a terminal, prints a line when it is complete, and one a minute before.
        """
        if stage not in self._tasks or self._bars.tasks[self._tasks[stage]].finished:
            self._tasks[stage] = self._bars.add_task(one_line(stage), total=total)
            self._said[stage] = time.monotonic()
            self._began[stage] = (self._said[stage], done)
        self._bars.update(self._tasks[stage], completed=done, total=total)
        if self.console.is_terminal:
            return
        now, (since, first) = time.monotonic(), self._began[stage]
        rate = (done - first) / (now - since) if now - since >= 1 else 0.0
        speed = f", {rate:.3g} a second" if rate else ""
        if done == total:
            self.say(f"{stage}: {done}{speed}")
        elif now - self._said[stage] >= LINE_SECONDS:
            self._said[stage] = now
            left = f", {(total - done) / rate:.0f} s left" if rate else ""
            self.say(f"{stage}: {done} of {total}{speed}{left}")

    def epoch(self, run: str, row: Mapping[str, float]) -> None:
        """Prints one line per epoch."""
        self.say(
            f"{run}  epoch {int(row['epoch']) + 1:3d}  train loss {row['train_loss']:.3f}  "
            f"val loss {row['val_loss']:.3f}  val score {row['val_score']:.3f}"
        )

    def say(self, line: str) -> None:
        """Prints one line as it is; control characters are shown, not obeyed."""
        self.console.print(Text(one_line(line)), soft_wrap=True)

    def tables(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Prints tables as `metric_tables` returns them."""
        for title, content in tables.items():
            table = Table(
                title=Text(one_line(title)),
                caption=Text(one_line(content["note"])),
                title_justify="left",
                caption_justify="left",
            )
            for number, column in enumerate(content["columns"]):
                table.add_column(
                    Text(one_line(str(column))), justify="left" if number == 0 else "right"
                )
            for row in content["rows"]:
                table.add_row(*(Text(one_line(cell(value))) for value in row))
            self.console.print(table)


class _Rate(ProgressColumn):
    """How many are done a second."""

    def render(self, task: Task) -> Text:
        """Returns the speed of one stage."""
        return Text("" if not task.speed else f"{task.speed:.3g}/s")


class _Notes(logging.Handler):
    """Hands warnings to a function, one line each."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Says one record."""
        self._say(f"note: {record.getMessage()}")

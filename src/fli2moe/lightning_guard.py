"""Keeps Lightning from talking on the user's terminal and from swallowing Ctrl-C."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keeps Lightning's hints about hardware and products off the user's terminal."""
    logs = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


class Interruptions:
    """Remembers Ctrl-C and SIGTERM: Python drops what is raised inside a destructor."""

    def __init__(self) -> None:
        self.asked = False
        self._notes: dict[signal.Signals, Any] = {}

    def listen(self, number: signal.Signals) -> Any:
        """Notes a signal before it is answered as before; returns that answer, to put it back."""
        answer = signal.getsignal(number)
        if callable(answer) and threading.current_thread() is threading.main_thread():

            def note(number: int, frame: Any) -> None:
                self.asked = True
                answer(number, frame)

            self._notes[number] = note
            signal.signal(number, note)
        return answer

    def answer_alone(self) -> None:
        """Takes away what Lightning has put before it: a message to other processes, in a handler.

        Those may be gone, or wait for something else.
        """
        for number, note in self._notes.items():
            signal.signal(number, note)

    def check(self) -> None:
        """Raises what was dropped.

        Raises:
            KeyboardInterrupt: when a signal has come.
        """
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruptions]:
    """Lets Ctrl-C through: Lightning turns it into exit status 1 and ignores later ones."""
    interruptions = Interruptions()
    heard = (signal.SIGINT, signal.SIGTERM)
    answers = [interruptions.listen(number) for number in heard]
    try:
        yield interruptions
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, answer in zip(heard, answers, strict=True):
                if callable(answer):
                    signal.signal(number, answer)

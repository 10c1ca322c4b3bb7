"""Work in the background: one explanation at a time, with progress, cancelled on request."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fli2moe.errors import FLI2MoEError, one_line
from fli2moe.features import Progress

KEPT = 20  # finished jobs

logger = logging.getLogger(__name__)


class CancelledError(Exception):
    """Raised inside the work, where it reports progress."""


@dataclass
class Job:
    """One piece of work.

    Attributes:
        id: cannot be guessed.
        state: `running`, `done`, `failed` or `cancelled`.
        done, total: model evaluations; fewer than `total` may be needed.
        result: what the work returned.
        said: what the work said before it was finished, JSON values.
        error: one line.
    """

    id: str
    state: str = "running"
    done: int = 0
    total: int = 0
    result: Any = None
    said: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def to_json(self) -> dict[str, Any]:
        """Returns what the page asks for."""
        return {
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "said": self.said,
            "error": self.error,
        }

    def progress(self, stage: str, done: int, total: int) -> None:
        """Takes a step; raises CancelledError when that was asked for."""
        self.done, self.total = done, total
        if self.stop.is_set():
            raise CancelledError


Work = Callable[[Progress, Callable[[dict[str, Any]], None]], Any]
"""Does the work: reports progress to the first argument, says JSON values by the second."""


class Jobs:
    """The jobs of one server; one runs at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def start(self, work: Work) -> Job | None:
        """Starts work in a thread of its own; returns None while another job is running."""
        with self._lock:
            if any(job.state == "running" for job in self._jobs.values()):
                return None
            job = Job(secrets.token_urlsafe(12))
            self._jobs[job.id] = job
            while len(self._jobs) > KEPT:
                self._jobs.popitem(last=False)
        threading.Thread(target=self._run, args=(job, work), daemon=True).start()
        return job

    def find(self, id: str) -> Job | None:
        """Returns a job, or None where there is none of that id (any more)."""
        return self._jobs.get(id)

    def _run(self, job: Job, work: Work) -> None:
        try:
            job.result = work(job.progress, job.said.update)
            job.state = "done"
        except CancelledError:
            job.state = "cancelled"
        except FLI2MoEError as error:
            job.error, job.state = one_line(str(error)), "failed"
        except Exception as error:  # the end of a thread: nobody else would hear of it
            logger.exception("an explanation failed")
            job.error, job.state = one_line(f"{type(error).__name__}: {error}"), "failed"

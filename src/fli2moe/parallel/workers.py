"""Does the parts of a job here, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

import torch

from fli2moe.errors import InputError, MachineError

LOSSES = 3
"""Times in a row that workers may be lost without a part being done."""

Done = Callable[[int], None]
"""Called with the number of a part that is done."""


class Job(Protocol):
    """What is done in parts; it can be pickled, and `open` makes what every part needs."""

    def open(self) -> Any:
        """Loads models and data, once in each worker."""

    def do(self, opened: Any, part: int) -> None:
        """Does one part and writes it to disk, complete or not at all."""


def run_parts(
    job: Job, parts: Sequence[int], workers: str, done: Done, *, address: str | None = None
) -> None:
    """Does the parts, each at least once, with the same result whoever does it.

    Args:
        job: what to do.
        parts: numbers of the parts that are not there yet.
        workers: `1` for this process, a number for as many processes of this machine, `ray` for a
            Ray cluster.
        done: called in this process after each part.
        address: of the cluster, for `ray`; one is started on this machine by default.

    Raises:
        InputError: when `workers` is none of these, or what a part raised.
        MachineError: when workers die again and again, or Ray is not installed or has no room.
    """
    if workers == "ray":
        from fli2moe.parallel.cluster import run_on_ray

        run_on_ray(job, parts, done, address)
        return
    if not workers.isdigit() or not 1 <= int(workers) <= 1024:
        raise InputError("--workers", repr(workers), "a number from 1, or ray")
    if address is not None:
        raise InputError("--address", f"given with --workers {workers}", "--workers ray")
    if int(workers) == 1 or len(parts) < 2:
        opened = job.open() if parts else None
        for part in parts:
            job.do(opened, part)
            done(part)
        return
    _in_processes(job, parts, int(workers), done)


def _in_processes(job: Job, parts: Sequence[int], workers: int, done: Done) -> None:
    left, lost = list(parts), 0
    while left:
        before = len(left)
        try:
            _one_pool(job, left, min(workers, len(left)), done)
        except BrokenProcessPool:
            lost = lost + 1 if len(left) == before else 1
            if lost >= LOSSES:
                found = f"a worker died {lost} times at parts {left[:workers]}"
                remedy = "use fewer --workers, or look for what ended them (out of memory?)"
                raise MachineError("workers", found, "", remedy) from None


def _one_pool(job: Job, left: list[int], workers: int, done: Done) -> None:
    """Does what is left; takes off `left` what is done."""
    context = multiprocessing.get_context("spawn")
    threads = torch.get_num_threads()  # the same sums, bit for bit, as this process
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(job, threads)
    ) as pool:
        waiting: dict[Future[int], int] = {pool.submit(_do, part): part for part in left}
        try:
            while waiting:
                finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    part = waiting.pop(future)
                    future.result()
                    left.remove(part)
                    done(part)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_worker: tuple[Job, Any] | None = None  # of this process, when it is a worker


def _start(job: Job, threads: int) -> None:
    global _worker
    torch.set_num_threads(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker = (job, job.open())


def _do(part: int) -> int:
    assert _worker is not None
    job, opened = _worker
    job.do(opened, part)
    return part

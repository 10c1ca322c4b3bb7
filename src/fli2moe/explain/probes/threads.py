"""One thread for many small products of matrices: more only wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

R = TypeVar("R")
T = TypeVar("T")


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Returns the function of each item: as many at a time as PyTorch has threads, each on one.

    In their order, and the same numbers whatever the number of threads. A call within one of these
    threads goes on in it. Not for functions that run the user's model.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(items))
    if threads < 2:  # in a thread of an outer call, too
        return [function(item) for item in items]
    with _controller().limit(limits=1):
        if workers < 2:
            return [function(item) for item in items]
        try:
            with ThreadPoolExecutor(
                workers, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                return list(pool.map(function, items))
        finally:
            torch.set_num_threads(threads)  # what threads of PyTorch begin with is common to all


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()

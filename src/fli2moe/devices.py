"""Where tensors are computed: a device that is there, and what it says when its memory is full."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TypeVar

import torch

from fli2moe.errors import MachineError

T = TypeVar("T")

logger = logging.getLogger(__name__)

NO_MEMORY = ("can't allocate memory", "not enough memory")  # how PyTorch's CPU allocator says it


def find_device(name: str | torch.device) -> torch.device:
    """Returns a device that this machine has.

    Args:
        name: `auto` (CUDA where it is available, else the CPU) or a name that PyTorch knows.

    Raises:
        MachineError: when there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # CUDA asserts
        reason = str(error).strip().split("\n")[0]
        found = f"cannot be used here: {reason}"
        raise MachineError(f"device {str(name)!r}", found, "", "use device: auto or cpu") from None
    return device


def out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that a device, or this machine, has no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in NO_MEMORY)


def in_memory(
    work: Callable[[int], T], size: int, what: str, too_small: MachineError
) -> tuple[T, int]:
    """Returns `work(size)` and the size: halved, and told, as often as memory runs out.

    Args:
        work: does something with so many of `what` at once.
        size: at least 1.
        what: for the message.
        too_small: raised when there is no memory for a single one.

    Raises:
        MachineError: `too_small`.
    """
    while True:
        try:
            return work(size), size
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise too_small from error
        # Halved outside the handler: the exception's traceback would keep the tensors alive.
        size = math.ceil(size / 2)
        logger.warning("out of memory: from now on %d %s at a time", size, what)

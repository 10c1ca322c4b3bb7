"""Where tensors are computed: a device that is there, and what it says when its memory is full."""

from __future__ import annotations

import torch

from fli2moe.errors import MachineError

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

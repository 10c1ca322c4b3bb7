"""What one of several training processes has to do with the others; alone, nothing.

Every process (rank) holds the whole model and takes its share of each batch: a step is one step of
the whole batch, whatever the number of processes. All ranks call these functions in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from fli2moe.errors import MachineError

AGAIN = "run the same command again: it goes on after the last whole epoch"


class LostError(MachineError):
    """Another process of the training has ended or does not answer."""


def is_rank() -> bool:
    """Returns whether this process was started as one of several (by `fli2moe`, torchrun, srun)."""
    slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
    return slurm or ("RANK" in os.environ and "WORLD_SIZE" in os.environ)


def speaks(processes: int) -> bool:
    """Returns whether this process writes and speaks: it trains alone, or is the first of several.

    Args:
        processes: of the training; one that wants no others is alone, whatever started it.
    """
    if processes == 1 or not is_rank():
        return True
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def rank() -> int:
    """Returns the number of this process, from 0; needs the processes to be connected."""
    return distributed.get_rank() if _connected() else 0


def world() -> int:
    """Returns the number of processes that are connected; 1 when alone."""
    return distributed.get_world_size() if _connected() else 1


def mean_over_ranks(x: Tensor) -> Tensor:
    """Returns the mean of a detached tensor of one shape over all ranks."""
    if world() == 1:
        return x
    total = x.detach().clone()
    with _talking():
        distributed.all_reduce(total)
    return total / world()


def same_on_ranks(value: int) -> bool:
    """Returns whether all ranks give the same number."""
    if world() == 1:
        return True
    seen = torch.tensor([value, -value], device=_device())
    with _talking():
        distributed.all_reduce(seen, distributed.ReduceOp.MAX)
    return bool(seen[0] == -seen[1])


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces each gradient by its mean over ranks; one that no rank has stays None.

    All in one buffer, so that a step costs one message.
    """
    if world() == 1:
        return
    owned = [p for p in parameters if p.requires_grad]
    has = torch.tensor([float(p.grad is not None) for p in owned], device=owned[0].device)
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in owned]
    flat = torch.cat([has, *(x.float().flatten() for x in parts)])
    with _talking():
        distributed.all_reduce(flat)
    anybody, rest = flat[: len(owned)].tolist(), flat[len(owned) :] / world()
    means = torch.split(rest, [p.numel() for p in owned])
    for p, some, mean in zip(owned, anybody, means, strict=True):
        p.grad = mean.view_as(p).to(p.dtype) if some else None


def gather_rows(x: Tensor) -> Tensor:
    """Returns the rows of all ranks' (n, ...) as one (N, ...); r, r + world, ... are those of r.

    It undoes the division of `batches.Batches`; `n` may differ by one.
    """
    if world() == 1:
        return x
    place = x.device
    x = x.to(_device())
    counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(world())]
    with _talking():
        distributed.all_gather(counts, torch.tensor([len(x)], device=x.device))
        most = max(int(n) for n in counts)
        padded = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])
        found = [torch.empty_like(padded) for _ in range(world())]
        distributed.all_gather(found, padded)
    total = sum(int(n) for n in counts)
    return torch.stack(found, 1).flatten(0, 1)[:total].to(place)


@contextmanager
def _talking() -> Iterator[None]:
    """Makes one line of what a backend says when another process is gone.

    Raises:
        LostError: naming this process.
    """
    me, everybody = rank(), world()
    try:
        yield
    except RuntimeError as error:
        found = f"has lost the others: {str(error).splitlines()[0][:200]}"
        raise LostError(f"training process {me} of {everybody}", found, "", AGAIN) from None


def _connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _device() -> torch.device:
    """Returns where messages start: NCCL sends from GPUs alone."""
    nccl = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")

"""What mixed precision must not round: losses, weights and means are taken in float32 at least."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Returns floating-point numbers in float32, or as they are if that is no less exact."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()

"""Running a model for a question, leaving it exactly as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no parameter gradients inside the block; both put back after it."""
    training = {module: module.training for module in model.modules()}
    wanted = {p: p.requires_grad for p in model.parameters()}
    try:
        model.eval().requires_grad_(False)
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for parameter, needed in wanted.items():
            parameter.requires_grad_(needed)

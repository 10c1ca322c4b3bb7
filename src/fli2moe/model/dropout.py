"""Dropout that spends its time on arithmetic, not on random numbers, where a CPU computes.

`F.dropout` draws one random number per element there, 15 ns each; here one random bit decides, or
16 where the probability is no power of two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PLANES = 16
"""Bits that make one decision: keeping has a probability of k / 2 ** 16."""

LOWEST = 0x0101010101010101
"""The lowest bit of each byte of a word."""


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Returns x with each element set to 0 with `probability`, the others scaled by 1 / (1 - p).

    On a CPU the probability is that of `keep_probability`, which also scales, so that the mean is
    exactly x. Draws from PyTorch's default generator.
    """
    if not training or probability == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, probability, training)
    dropped: Tensor = _Dropout.apply(x, probability)  # type: ignore[no-untyped-call]
    return dropped


def add_dropped(x: Tensor, y: Tensor, probability: float, training: bool) -> Tensor:
    """Returns x + dropout(y) in one pass over memory."""
    if not training or probability == 0:
        return x + y
    if y.device.type != "cpu" or x.dtype != y.dtype:
        return x + dropout(y, probability, training)
    total: Tensor = _AddDropped.apply(x, y, probability)  # type: ignore[no-untyped-call]
    return total


def keep_probability(probability: float) -> float:
    """Returns the probability of keeping an element: 1 - p to the nearest k / 2 ** 16."""
    digits = round((1 - probability) * 2**PLANES)
    keep: float = min(max(digits, 1), 2**PLANES) / 2**PLANES
    return keep


def random_bits(count: int, keep: float) -> Tensor:
    """Returns int64 words (ceil(count / 64),) whose bits are 1 with probability `keep`.

    With b_1 b_2 ... the binary digits of `keep` and r_i random bits, the last digit first:
    x = r_i | x where b_i is 1, r_i & x where it is 0, is 1 with probability (b_i + P(x)) / 2.
    """
    digits = round(keep * 2**PLANES)
    words = torch.empty(math.ceil(count / 64), dtype=torch.int64)
    if digits == 2**PLANES:
        return words.fill_(-1)
    words.zero_()
    started = False
    for place in range(PLANES):
        digit = digits >> place & 1
        if started or digit:  # trailing zeros change nothing
            drawn = torch.empty_like(words).random_(-(2**63), None)
            words = words.bitwise_or_(drawn) if digit else words.bitwise_and_(drawn)
            started = True
    return words


@dataclass(frozen=True, eq=False)
class RandomMask:
    """What dropout multiplies by: `values` times `scale`, 1 / keep or 0.

    Attributes:
        values: uint8; 0, or 1 / keep where that is a whole number, else 1.
        scale: what is missing of 1 / keep; 1 for p = .5.
    """

    values: Tensor
    scale: float

    def apply(self, x: Tensor) -> Tensor:
        """Returns x with the mask's elements dropped and the others scaled."""
        dropped = self.values.to(x.dtype).mul_(x)
        return dropped if self.scale == 1 else dropped.mul_(self.scale)


def random_mask(shape: tuple[int, ...], probability: float) -> RandomMask:
    """Draws the mask of dropout with a probability.

    Bit j of each byte becomes a byte of its own: eight shifts of whole words.
    """
    keep, count = keep_probability(probability), math.prod(shape)
    shifts = torch.arange(8)[:, None]
    spread = (random_bits(count, keep) >> shifts).bitwise_and_(LOWEST)
    whole = int(1 / keep) if (1 / keep).is_integer() and 1 / keep < 256 else 1
    if whole > 1:
        spread.mul_(whole)
    values = spread.view(torch.uint8).view(-1)[:count].view(shape)
    return RandomMask(values, 1 / keep / whole)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float) -> Tensor:
        mask = random_mask(x.shape, probability)
        ctx.scale = mask.scale
        ctx.save_for_backward(mask.values)
        return mask.apply(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        return RandomMask(values, ctx.scale).apply(gradient), None


class _AddDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, probability: float) -> Tensor:
        mask = random_mask(y.shape, probability)
        ctx.scale = mask.scale
        ctx.save_for_backward(mask.values)
        return torch.addcmul(x, y, mask.values.to(y.dtype), value=mask.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (values,) = ctx.saved_tensors
        return gradient, RandomMask(values, ctx.scale).apply(gradient), None

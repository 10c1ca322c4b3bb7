"""One sample under many coalitions: what does not depend on the coalition is computed once.

A token is there or it is not, so layer 1 knows two queries, keys and values of it, made once for
all coalitions. Where hidden tokens are dropped they are not computed at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fli2moe.model.passes import Pass
from fli2moe.model.views import View

AT_ONCE = 1300
"""Tokens that a CPU works on at once: what they become stays in its caches."""


@dataclass(frozen=True, eq=False)
class TwoStates:
    """The tokens of one sample, there and hidden.

    Attributes:
        present: {modality: (1, T, H)} projected.
        absent: {modality: (1, 1, H)} what a hidden token is, or None where it is dropped.
        masks: {modality: (1, T)} bool: real tokens; like coalitions on the CPU, wherever the model
            is: what is computed must not wait for a device to say how many tokens there are.
    """

    present: Mapping[str, Tensor]
    absent: Mapping[str, Tensor] | None
    masks: Mapping[str, Tensor]

    def view(self, kept: Mapping[str, Tensor]) -> View:
        """Returns the N coalitions {modality: (N, T) bool} as a batch, every token written out."""
        size, device = len(next(iter(kept.values()))), self.device
        if self.absent is None:
            visible = {m: (mask & kept[m]).to(device) for m, mask in self.masks.items()}
            return View({m: x.expand(size, -1, -1) for m, x in self.present.items()}, visible)
        tokens = {
            m: torch.where(kept[m].to(device)[..., None], x, self.absent[m])
            for m, x in self.present.items()
        }
        masks = {m: mask.to(device).expand(size, -1) for m, mask in self.masks.items()}
        return View(tokens, masks)

    @property
    def device(self) -> torch.device:
        """Where the tokens are."""
        return next(iter(self.present.values())).device


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some coalitions as sequences of tokens.

    Attributes:
        rows: (n,) which coalitions these are, on the CPU.
        index: (n, T') the tokens of each: number t where it is there, T + t where it is hidden.
        one: their masks and owners.
    """

    rows: Tensor
    index: Tensor
    one: Pass

    def assemble(self, tokens: Tensor) -> Sequence[Tensor]:
        """Maps what became of the tokens, (e, 2 * T or T, W), to sequences (e, n, T', W)."""
        chosen = tokens.index_select(1, self.index.flatten())
        return (chosen.view(len(tokens), *self.index.shape, -1),)


def choose(
    kept: Tensor, mask: Tensor, owner: Tensor, *, drop: bool, device: torch.device
) -> Iterator[Chosen]:
    """Yields the coalitions in groups that are computed at once.

    Args:
        kept: (N, T) bool: the tokens that each coalition shows.
        mask: (T,) bool: real tokens.
        owner: (T,) the modality of each token.
        drop: leave hidden tokens out; groups are then of coalitions of about the same size.
        device: where they are computed; what is given is on the CPU.
    """
    if not drop:
        place = torch.arange(len(mask))
        for rows in _groups(torch.arange(len(kept)), len(mask), device):
            index = torch.where(kept[rows], place, place + len(mask))
            there = mask.expand(len(rows), -1)
            yield Chosen(rows, index.to(device), Pass(there.to(device), owner.to(device)))
        return
    shown = kept & mask
    counts = shown.sum(1)
    for rows in _groups(counts.argsort(), int(counts.max().clamp_min(1)), device):
        longest = int(counts[rows].max().clamp_min(1))
        # Stable: the shown tokens come first, in their order.
        order = shown[rows].to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        order = order[:, :longest]
        there = torch.arange(longest) < counts[rows, None]
        yield Chosen(rows, order.to(device), Pass(there.to(device), owner[order].to(device)))


def _groups(rows: Tensor, tokens: int, device: torch.device) -> Sequence[Tensor]:
    size = max(1, AT_ONCE // max(1, tokens)) if device.type == "cpu" else max(1, len(rows))
    return torch.split(rows, size)

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
        masks: {modality: (1, T)} bool: real tokens.
    """

    present: Mapping[str, Tensor]
    absent: Mapping[str, Tensor] | None
    masks: Mapping[str, Tensor]

    def view(self, kept: Mapping[str, Tensor]) -> View:
        """Returns the N coalitions {modality: (N, T) bool} as a batch, every token written out."""
        if self.absent is None:
            visible = {m: mask & kept[m] for m, mask in self.masks.items()}
            size = len(next(iter(kept.values())))
            return View({m: x.expand(size, -1, -1) for m, x in self.present.items()}, visible)
        tokens = {
            m: torch.where(kept[m][..., None], x, self.absent[m]) for m, x in self.present.items()
        }
        return View(tokens, {m: mask.expand(len(kept[m]), -1) for m, mask in self.masks.items()})


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some coalitions as sequences of tokens.

    Attributes:
        rows: (n,) which coalitions these are.
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


def choose(kept: Tensor, mask: Tensor, owner: Tensor, *, drop: bool) -> Iterator[Chosen]:
    """Yields the coalitions in groups that are computed at once.

    Args:
        kept: (N, T) bool: the tokens that each coalition shows.
        mask: (T,) bool: real tokens.
        owner: (T,) the modality of each token.
        drop: leave hidden tokens out; groups are then of coalitions of about the same size.
    """
    if not drop:
        place = torch.arange(len(mask), device=mask.device)
        for rows in _groups(torch.arange(len(kept), device=mask.device), len(mask)):
            index = torch.where(kept[rows], place, place + len(mask))
            yield Chosen(rows, index, Pass(mask.expand(len(rows), -1), owner))
        return
    shown = kept & mask
    counts = shown.sum(1)
    for rows in _groups(counts.argsort(), int(counts.max().clamp_min(1))):
        longest = int(counts[rows].max().clamp_min(1))
        # Stable: the shown tokens come first, in their order.
        order = (
            shown[rows].to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
        )
        there = torch.arange(longest, device=mask.device) < counts[rows, None]
        yield Chosen(rows, order, Pass(there, owner[order]))


def _groups(rows: Tensor, tokens: int) -> Sequence[Tensor]:
    size = max(1, AT_ONCE // tokens) if rows.device.type == "cpu" else max(1, len(rows))
    return torch.split(rows, size)

"""A batch and its other views divided into parts that run one after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fli2moe.model import View, shares_rows

AUTO_TOKENS = 1300
"""Padded tokens of a part on the CPU, where small parts stay in the caches (4 x 324 or so)."""


def micro_batch_size(
    option: int | str | None, masks: Mapping[str, Tensor], *, couples: bool = False
) -> int | None:
    """Returns how many samples run at once, or None for the whole batch.

    Args:
        option: of the configuration; `auto` is the whole batch on a GPU, and on the CPU as many
            even parts as bring the padded tokens of each nearest to `AUTO_TOKENS`.
        masks: {modality: (B, T)} of the batch.
        couples: whether a loss compares samples, for which parts run forward twice; `auto` then
            takes the whole batch.
    """
    if not isinstance(option, str):
        return option
    if couples or any(mask.device.type != "cpu" for mask in masks.values()):
        return None
    batch = len(next(iter(masks.values())))
    tokens = sum(mask.numel() for mask in masks.values())
    return math.ceil(batch / max(1, round(tokens / AUTO_TOKENS)))


@dataclass(frozen=True, eq=False)
class Part:
    """Some samples of a batch that run together.

    Attributes:
        rows: (B',) their positions in the batch; those that have other views stand first.
        others: how many of them have other views.
        lengths: {modality: tokens} that the part is cut to.
    """

    rows: Tensor
    others: int
    lengths: Mapping[str, int]


def plan_parts(views: Sequence[View], size: int) -> list[Part]:
    """Divides a batch into parts of at most `size` samples of similar length.

    Args:
        views: the clean one first, then the others, of its first samples.
        size: at least 1.
    """
    with_others = len(views[1]) if len(views) > 1 else 0
    lengths: dict[str, Tensor] = {}
    for view in views:
        for m, mask in view.masks.items():
            places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
            ends = (mask * places).amax(1) if mask.shape[1] else mask.new_zeros(len(mask)).long()
            known = lengths.setdefault(m, torch.zeros_like(ends))
            known[: len(ends)] = torch.maximum(known[: len(ends)], ends)
    order = torch.stack(list(lengths.values())).sum(0).argsort(stable=True)
    parts = []
    for rows in torch.split(order, size):
        first = rows < with_others
        rows = torch.cat([rows[first], rows[~first]])
        longest = {m: max(1, int(ends[rows].max())) for m, ends in lengths.items()}
        parts.append(Part(rows, int(first.sum()), longest))
    return parts


class Sources:
    """The tensors that some views are made of, each once, and the gradients that reach them."""

    def __init__(self, views: Sequence[View]) -> None:
        self.views = views
        self.tensors: list[Tensor] = []
        for view in views:
            for x in (*view.projected.values(), *view.masks.values()):
                if self._find(x) is None:
                    self.tensors.append(x)
        self.gradients = [x.new_zeros(x.shape) if x.requires_grad else None for x in self.tensors]
        self.taken: dict[int, Tensor] = {}

    def take(self, part: Part) -> list[View]:
        """Returns each view's rows of a part, as leaves; what views share they go on sharing."""
        self.taken = {}
        sizes = [len(part.rows), *[part.others] * (len(self.views) - 1)]
        return [
            View(
                {m: self._take(x, part, m)[:size] for m, x in view.projected.items()},
                {m: self._take(x, part, m)[:size] for m, x in view.masks.items()},
            )
            for view, size in zip(self.views, sizes, strict=True)
        ]

    def collect(self, part: Part) -> None:
        """Stores the gradients that the part's leaves have got."""
        for i, leaf in self.taken.items():
            kept = self.gradients[i]
            if kept is not None and leaf.grad is not None:
                rows = part.rows[: len(leaf)]
                kept[rows, : leaf.shape[1]] = leaf.grad

    def backward(self) -> None:
        """Passes what was collected on to where the tensors come from."""
        pairs = [(x, g) for x, g in zip(self.tensors, self.gradients, strict=True) if g is not None]
        if pairs:
            tensors, gradients = zip(*pairs, strict=True)
            torch.autograd.backward(tensors, gradients)

    def _take(self, x: Tensor, part: Part, modality: str) -> Tensor:
        i = self._find(x)
        assert i is not None
        if i not in self.taken:
            source = self.tensors[i]
            rows = part.rows if len(source) == len(self.views[0]) else part.rows[: part.others]
            leaf = source.detach()[rows, : part.lengths[modality]]
            self.taken[i] = leaf.requires_grad_(source.requires_grad)
        return self.taken[i]

    def _find(self, x: Tensor) -> int | None:
        found = (i for i, source in enumerate(self.tensors) if shares_rows(x, source))
        return next(found, None)

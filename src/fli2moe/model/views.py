"""Views of a batch: its projected tokens, some of them perhaps exchanged; what views share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class View:
    """The projected tokens of a batch and which of them are real.

    Attributes:
        projected: {modality: (B, T, H)}, without positions.
        masks: {modality: (B, T)} bool.
    """

    projected: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.masks.values())))

    def __getitem__(self, rows: slice) -> View:
        if rows.indices(len(self)) == (0, len(self), 1):
            return self
        return View(
            {m: x[rows] for m, x in self.projected.items()},
            {m: x[rows] for m, x in self.masks.items()},
        )

    @property
    def present(self) -> dict[str, Tensor]:
        """{modality: (B,)} bool: whether a sample has any token of it."""
        return {m: mask.any(-1) for m, mask in self.masks.items()}

    def replace(self, modality: str, tokens: Tensor, mask: Tensor) -> View:
        """Returns the view with other tokens (B, T, H) and mask (B, T) of one modality."""
        return View({**self.projected, modality: tokens}, {**self.masks, modality: mask})


class SharedTokens:
    """The different segments, one modality of one batch each, that several views are made of.

    Args:
        views: as many tokens in each, of at most as many rows as the first.
        modalities: in the order of the sequence.
        share: False gives each view segments of its own.
    """

    def __init__(self, views: Sequence[View], modalities: Sequence[str], *, share: bool) -> None:
        self.segments: list[tuple[str, Tensor]] = []
        self.rows = [len(view) for view in views]
        self.parts: list[list[int]] = []  # per view and modality the number of its segment
        for view in views:
            self.parts.append([self._find(m, view.projected[m], share) for m in modalities])

    def _find(self, modality: str, tokens: Tensor, share: bool) -> int:
        for number, (m, known) in enumerate(self.segments):
            if share and m == modality and shares_rows(tokens, known):
                return number
        self.segments.append((modality, tokens))
        return len(self.segments) - 1

    def assemble(self, tokens: Tensor) -> list[Tensor]:
        """Maps (e, S, W), the segments' tokens after each other, to the views' (e, B, T, W)."""
        sizes = [x.shape[:2] for _, x in self.segments]
        pieces = torch.split(tokens, [rows * length for rows, length in sizes], dim=1)
        segments = [
            piece.view(len(piece), *size, piece.shape[-1])
            for piece, size in zip(pieces, sizes, strict=True)
        ]  # (e, B, T, W) each
        return [
            torch.cat([segments[i][:, :rows] for i in parts], dim=2)
            for rows, parts in zip(self.rows, self.parts, strict=True)
        ]


def shares_rows(part: Tensor, whole: Tensor) -> bool:
    """Returns whether `part` (B', ...) is the first rows of `whole` (B, ...), the same memory."""
    return (
        part.data_ptr() == whole.data_ptr()
        and part.shape[1:] == whole.shape[1:]
        and part.stride() == whole.stride()
        and part.requires_grad == whole.requires_grad
    )

"""Token sequences of several modalities, and where each token lies in the raw input.

Shape legend of the whole library: B batch, T tokens, D encoder width, H hidden width, E experts,
C classes, M modalities, N coalitions, P players.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fli2moe.errors import InputError

STRUCTURAL = -1
"""Span value of a token without a place in the raw input (CLS, SEP, padding)."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of one modality for a batch of samples.

    Attributes:
        features: (B, T, D) float; the frozen encoder's output.
        mask: (B, T) bool; True where a token is real, False where it is padding.
        spans: (B, T, 2) integer characters [start, end) of the raw text, or (B, T, 4) float pixel
            box x0 y0 x1 y1 of the upright raw picture; -1 everywhere marks a structural token.

    Raises:
        InputError: when the three shapes do not fit each other.
    """

    features: Tensor
    mask: Tensor
    spans: Tensor

    def __post_init__(self) -> None:
        if self.features.ndim != 3:
            found = f"features of shape {tuple(self.features.shape)}"
            raise InputError("Tokens", found, "(B, T, D)", "add the missing dimension")
        batch_tokens = self.features.shape[:2]
        if self.mask.shape != batch_tokens or self.mask.dtype != torch.bool:
            found = f"mask of shape {tuple(self.mask.shape)} and type {self.mask.dtype}"
            raise InputError("Tokens", found, f"bool {tuple(batch_tokens)}")
        if self.spans.shape[:2] != batch_tokens or self.spans.shape[2:] not in ((2,), (4,)):
            found = f"spans of shape {tuple(self.spans.shape)}"
            raise InputError("Tokens", found, f"{tuple(batch_tokens)} + (2,) or (4,)")

    @property
    def content(self) -> Tensor:
        """(B, T) bool: real tokens with a place in the raw input."""
        return self.mask & (self.spans[..., 0] != STRUCTURAL)

    @property
    def width(self) -> int:
        """The encoder width D."""
        return self.features.shape[-1]

    def __len__(self) -> int:
        return self.features.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> Tokens:
        return Tokens(self.features[rows], self.mask[rows], self.spans[rows])

    def to(self, device: torch.device | str) -> Tokens:
        """Returns the same tokens on `device`."""
        return Tokens(self.features.to(device), self.mask.to(device), self.spans.to(device))

    def with_features(self, features: Tensor) -> Tokens:
        """Returns tokens with other features (B, T, D) and the same mask and spans."""
        return Tokens(features, self.mask, self.spans)

    @staticmethod
    def stack(rows: Sequence[Tokens]) -> Tokens:
        """Joins batches of possibly different T into one, padding on the right.

        Args:
            rows: at least one `Tokens`, all of the same width and kind of span.

        Raises:
            InputError: when `rows` is empty, or widths or kinds of span differ.
        """
        if not rows:
            raise InputError("Tokens.stack", "nothing to stack", "at least one row")
        widths = {row.width for row in rows}
        if len(widths) > 1:
            raise InputError("Tokens.stack", f"widths {sorted(widths)}", "one width")
        kinds = {row.spans.shape[2] for row in rows}
        if len(kinds) > 1:
            raise InputError("Tokens.stack", f"spans of {sorted(kinds)} numbers", "one kind")
        longest = max(row.features.shape[1] for row in rows)

        def pad(x: Tensor, value: float) -> Tensor:  # (B, T, ...) -> (B, longest, ...)
            if x.shape[1] == longest:
                return x
            filler = x.new_full((x.shape[0], longest - x.shape[1], *x.shape[2:]), value)
            return torch.cat([x, filler], dim=1)

        return Tokens(
            torch.cat([pad(row.features, 0.0) for row in rows]),
            torch.cat([pad(row.mask, False) for row in rows]),
            torch.cat([pad(row.spans, STRUCTURAL) for row in rows]),
        )


class TokenBatch(Mapping[str, Tokens]):
    """An immutable mapping from modality name to `Tokens`, all with the same batch size B.

    Raises:
        InputError: when it is empty or the batch sizes differ.
    """

    def __init__(self, tokens: Mapping[str, Tokens]) -> None:
        sizes = {name: len(value) for name, value in tokens.items()}
        if not sizes:
            raise InputError("TokenBatch", "no modality", "at least one")
        if len(set(sizes.values())) > 1:
            raise InputError("TokenBatch", f"batch sizes {sizes}", "the same for every modality")
        self._tokens = dict(tokens)

    def __getitem__(self, modality: str) -> Tokens:
        return self._tokens[modality]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def __repr__(self) -> str:
        shapes = {name: tuple(value.features.shape) for name, value in self.items()}
        return f"TokenBatch({shapes})"

    @property
    def batch_size(self) -> int:
        """The number of samples B."""
        return len(next(iter(self._tokens.values())))

    def rows(self, index: Tensor | slice) -> TokenBatch:
        """Returns the samples that `index` selects, for every modality."""
        return TokenBatch({name: value[index] for name, value in self.items()})

    def to(self, device: torch.device | str) -> TokenBatch:
        """Returns the same batch on `device`."""
        return TokenBatch({name: value.to(device) for name, value in self.items()})

    @staticmethod
    def stack(batches: Sequence[TokenBatch]) -> TokenBatch:
        """Joins batches of the same modalities into one, padding each modality on the right.

        Raises:
            InputError: when `batches` is empty, or modalities, widths or kinds of span differ.
        """
        if not batches:
            raise InputError("TokenBatch.stack", "nothing to stack", "at least one batch")
        for batch in batches:
            if set(batch) != set(batches[0]):
                found = f"modalities {sorted(batch)}"
                raise InputError("TokenBatch.stack", found, f"{sorted(batches[0])} in every batch")
        return TokenBatch({m: Tokens.stack([b[m] for b in batches]) for m in batches[0]})


@dataclass(frozen=True)
class TokenRef:
    """One token of one sample: its modality and its position in that modality's sequence."""

    modality: str
    index: int


@dataclass(frozen=True)
class Player:
    """What an explanation may hide: one content token or a group of them.

    Attributes:
        modality: name of the modality.
        tokens: positions in that modality's token sequence.
        spans: where it lies in the raw input; (start, end) characters or (x0, y0, x1, y1) pixels,
            one tuple for each contiguous piece; empty for tokens without a place.
        name: what a person reads: the exact substring, or `patch (x0, y0)-(x1, y1)`.
    """

    modality: str
    tokens: tuple[int, ...]
    spans: tuple[tuple[float, ...], ...] = ()
    name: str = ""

    def __str__(self) -> str:
        return self.name or f"{self.modality}[{','.join(map(str, self.tokens))}]"

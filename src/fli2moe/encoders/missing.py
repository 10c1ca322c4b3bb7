"""Encoding samples of which some lack the modality: no token stands for what is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fli2moe.encoders.base import Encoder
from fli2moe.tokens import STRUCTURAL, Tokens


def encode_present(encoder: Encoder, inputs: Sequence[Any | None]) -> Tokens:
    """Returns the tokens of raw inputs; an input that is None has none, its mask is False.

    Raises:
        InputError: as `encoder.encode`.
    """
    present = [raw for raw in inputs if raw is not None]
    if not present:
        return absent(encoder, len(inputs))
    rows = [x is not None for x in inputs]
    if all(rows):
        return encoder.encode(present)
    encoded = encoder.encode(present)
    whole = Tokens.stack([encoded, absent(encoder, 1)])
    where = torch.full((len(inputs),), len(present))  # the last row: nothing
    where[torch.tensor(rows)] = torch.arange(len(present))
    return whole[where]


def absent(encoder: Encoder, rows: int) -> Tokens:
    """Returns tokens (rows, 1, D) of samples that lack the encoder's modality: padding alone."""
    boxes = encoder.kind == "image"
    spans = torch.full((rows, 1, 4 if boxes else 2), STRUCTURAL)
    return Tokens(
        torch.zeros(rows, 1, encoder.width),
        torch.zeros(rows, 1, dtype=torch.bool),
        spans.float() if boxes else spans,
    )

"""From an expert's tokens to its latent: one vector per modality, side by side."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fli2moe.errors import unknown_name

POOLINGS = ("mean", "attention")


class Pooling(nn.Module):
    """A weighted mean of each modality's tokens; 0 for a modality without any.

    `mean`: the same weight for each token. `attention`: softmax(x_t . q / sqrt(H)) with a learned
    query q per expert and modality (ours), 0 at first: the mean.

    Args:
        kind: one of `POOLINGS`.
        experts, modalities, width: E, M, H.

    Raises:
        InputError: when `kind` is unknown.
    """

    def __init__(self, kind: str, experts: int, modalities: int, width: int) -> None:
        super().__init__()
        if kind not in POOLINGS:
            raise unknown_name("model.pooling", "pooling", kind, POOLINGS)
        self.kind = kind
        if kind == "attention":
            self.query = nn.Parameter(torch.zeros(experts, modalities, width))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Maps x (E, B, T, H) to (E, B, M, H); seen (E, B, M, T): whose tokens count where."""
        if self.kind == "mean":
            return weighted(mean_weights(seen, x.dtype), x)
        scores = torch.einsum("ebth,emh->ebmt", x, self.query) / math.sqrt(x.shape[-1])
        scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        return weighted(scores.softmax(-1) * seen, x)


def mean_weights(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns 1 / (number of tokens) on each token that counts, (..., M, T); elsewhere 0."""
    return seen.to(dtype) / seen.sum(-1, keepdim=True).clamp_min(1).to(dtype)


def weighted(weights: Tensor, x: Tensor) -> Tensor:
    """Returns the sums (E, B, M, W) of x (E, B, T, W) with weights (E, B, M, T)."""
    return weights @ x

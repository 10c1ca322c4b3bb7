"""What stands around the experts: projections, positions and the router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LONGEST = 2048
"""Rows of the sinusoidal table."""


class OracleProjection(nn.Module):
    """(features - mean) / deviation, then D -> H."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) to (..., H)."""
        return self.linear((features - self.mean) / self.deviation)


class OraclePositions(nn.Module):
    """Position embedding counted per modality + modality embedding, concatenated."""

    def __init__(self, modalities: Sequence[str], width: int, kind: str, longest: int) -> None:
        super().__init__()
        self.kind = kind
        self.modality = nn.ParameterDict({m: torch.zeros(width) for m in modalities})
        if kind == "learned":
            self.table = nn.ParameterDict({m: torch.zeros(longest, width) for m in modalities})
        if kind == "sinusoidal":
            # sin(p / 10000^(2i / H)) at channel 2i, cos of the same at 2i + 1
            angle = torch.arange(LONGEST).double()[:, None] / 10000 ** (
                torch.arange(0, width, 2).double() / width
            )
            both = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]
            self.register_buffer("waves", both.float(), persistent=False)

    def forward(self, projected: Mapping[str, Tensor]) -> Tensor:
        """{modality: (B, T, H)} to (B, sum of T, H)."""
        placed = []
        for m, x in projected.items():
            if self.kind == "learned":
                x = x + self.table[m][: x.shape[1]]
            if self.kind == "sinusoidal":
                x = x + self.waves[: x.shape[1]]
            placed.append(x + self.modality[m])
        return torch.cat(placed, dim=1)


class OracleRouter(nn.Module):
    """softmax(MLP(means) / temperature)."""

    def __init__(
        self, sizes: Sequence[int], dropout: float, temperature: float, normalize: str
    ) -> None:
        super().__init__()
        self.temperature, self.normalize = temperature, normalize
        steps: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            steps += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
        self.mlp = nn.Sequential(*steps[:-2])  # the last one is linear only

    def forward(self, projected: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """(B, E) weights."""
        means = [mean_of_real(x, masks[m]) for m, x in projected.items()]
        if self.normalize == "l2":
            means = [F.normalize(mean, dim=-1) for mean in means]
        return (self.mlp(torch.cat(means, dim=-1)) / self.temperature).softmax(-1)


class OracleUniform(nn.Module):
    """The same weight for each expert."""

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.experts = experts

    def forward(self, projected: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """(B, E) weights."""
        first = next(iter(projected.values()))
        return torch.ones(len(first), self.experts).to(first) / self.experts


def mean_of_real(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, H) to (B, H): the mean over real tokens; 0 where there is none."""
    return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)

"""A sparse mixture as its formula stands: every expert runs on every token, most gates are 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Sparse:
    """N experts, and their room as a multiple of an even share; None: no limit."""

    experts: int
    factor: float | None


class Stacked(nn.Module):
    """N linear maps."""

    def __init__(self, experts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(experts, outputs))


def mixture(layer: nn.Module, sparse: Sparse, x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, H) of normed tokens (B, T, H); the layer keeps the gates of its last pass."""
    probabilities = layer.gate(x).softmax(-1)  # (B, T, N)
    layer.seen = probabilities, mask
    factor = sparse.factor if layer.training else None
    gates = torch.stack(
        [gates_of(p, real, factor) for p, real in zip(probabilities, mask, strict=True)]
    )
    found = torch.zeros_like(x)
    for e in range(sparse.experts):
        hidden = F.gelu(x @ layer.expand.weight[e].T + layer.expand.bias[e])
        fed = layer.dropout(hidden) @ layer.contract.weight[e].T + layer.contract.bias[e]
        found = found + gates[..., e, None] * fed
    return found


def gates_of(probabilities: Tensor, real: Tensor, factor: float | None) -> Tensor:
    """(T, N) of one sample: two gates in each row that sum to 1, less those without room."""
    experts = probabilities.shape[1]
    tokens = [t for t in range(len(real)) if real[t]]
    room = math.inf if factor is None else math.ceil(factor * 2 * len(tokens) / experts)
    taken, sent = [0] * experts, torch.zeros_like(probabilities)
    best = {t: probabilities[t].argsort(descending=True).tolist()[:2] for t in tokens}
    for choice in (0, 1):  # all first choices, then the second ones
        for t in tokens:
            e = best[t][choice]
            if taken[e] < room:
                taken[e] += 1
                sent[t, e] = 1
    top = torch.zeros_like(probabilities)
    for t in tokens:
        top[t, best[t]] = 1
    both = (top * probabilities).sum(1, keepdim=True)
    return sent * probabilities / torch.where(both > 0, both, 1.0)


def balance(layers: Sequence[nn.Module]) -> Tensor:
    """Mean over layers of N * sum_e (mean probability of e) * (share of first choices of e)."""
    losses = []
    for layer in layers:
        probabilities, mask = layer.seen
        real = probabilities[mask]  # (tokens, N)
        shares = [float((real.argmax(1) == e).double().mean()) for e in range(real.shape[1])]
        terms = [real[:, e].mean() * share for e, share in enumerate(shares)]
        losses.append(len(shares) * torch.stack(terms).sum())
    return torch.stack(losses).mean()

"""Rolling attention maps out over the layers of each expert (design 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fli2moe.model import FusionModel, View, masks_of
from fli2moe.tokens import TokenBatch


@dataclass(frozen=True, eq=False)
class Traced:
    """A forward pass that keeps a trace of each attention.

    Attributes:
        groups: the bank's traces.
        weights: (B, E).
        expert_logits: (B, E, C).
        leaves: where a gradient of the logits ends.
    """

    groups: tuple[tuple[Tensor, ...], ...]
    weights: Tensor
    expert_logits: Tensor
    leaves: list[Tensor]

    def per_expert(self) -> list[list[Tensor]]:
        """Returns, per expert and layer, the trace (B, T, T); of maps the mean over heads."""
        return [
            [layer[e] if layer.ndim == 4 else layer[e].mean(1) for layer in group]
            for group in self.groups
            for e in range(len(group[0]))
        ]


def trace(model: FusionModel, tokens: TokenBatch, what: str) -> Traced:
    """Runs a model that has attention maps; `what` is the `trace` of `FusionModel.read`."""
    projected = {m: x.detach().requires_grad_() for m, x in model.project(tokens).items()}
    view = View(projected, masks_of(tokens))
    bank = model.read([view], trace=what)[0]
    output = model.weigh(view, bank.latents)
    leaves = list(projected.values())
    return Traced(bank.traces, output.weights.detach(), output.expert_logits, leaves)


def content_of(model: FusionModel, tokens: TokenBatch, head: str) -> dict[str, Tensor]:
    """Returns {modality: (B, T) bool}: content tokens that an expert, or any of them, sees."""
    experts = (head,) if head in model.experts else model.experts
    seen = {m for expert in experts for m in model.sees[expert]}
    return {m: tokens[m].content & (m in seen) for m in model.modalities}


def rollout(layers: list[Tensor], queries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Multiplies row-normalised (A + I) over the layers; returns what attention paths carry.

    Only the mean row over the queries is needed, so it is a chain of vector-matrix products.
    The row is followed in two parts, the pure skip path (the product of the identities' shares)
    and the rest: their difference at the end would lose the rest to rounding.

    Args:
        layers: one map (B, T, T) each, the first layer first.
        queries: {modality: (B, T) bool}, in the order of the sequence.

    Returns:
        {modality: (B, T)}.
    """
    content = torch.cat(list(queries.values()), dim=1)  # (B, T)
    skip = content.to(layers[0]) / content.sum(1, keepdim=True).clamp_min(1)
    relevance = torch.zeros_like(skip)
    for attention in reversed(layers):  # (B, T, T), last layer first: row vector from the left
        scale = 1 / (1 + attention.sum(-1))  # (B, T)
        relevance, skip = relevance * scale, skip * scale
        relevance = relevance + torch.einsum("bi,bij->bj", relevance + skip, attention)
    lengths = [mask.shape[1] for mask in queries.values()]
    return dict(zip(queries, torch.split(relevance, lengths, dim=1), strict=True))

"""The model of design 3.1 written out for one sample and one expert, loop by loop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fli2moe.model import FusionTransformer, MoEOutput
from fli2moe.tokens import TokenBatch


def project(model: FusionTransformer, batch: TokenBatch, row: int) -> dict[str, Tensor]:
    """{modality: (T, H)} of one sample's real tokens only."""
    result = {}
    for m in model.modalities:
        tokens, layer = batch[m], model.projections[m]
        features = tokens.features[row][tokens.mask[row]]
        scaled = (features - layer.mean) / layer.deviation
        result[m] = scaled @ layer.linear.weight.T + layer.linear.bias
    return result


def expert(
    model: FusionTransformer,
    e: int,
    projected: dict[str, Tensor],
    bumps: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """(logits (C,), latent (M * H,), attention maps (heads, T, T) per layer) of one expert.

    `bumps` are added to the attention maps: leaves for gradients at the maps.
    """
    x = torch.cat(
        [
            x + model.positions.table[m][: len(x)] + model.positions.modality[m]
            for m, x in projected.items()
        ]
    )
    width, maps = x.shape[-1], []
    for number, layer in enumerate(model.bank.layers):
        query, key, value = linear(
            layer.query_key_value, e, norm(layer.norm_attention, e, x)
        ).chunk(3, dim=-1)
        size = width // layer.heads
        mixed, of_heads = [], []
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            attention = (query[:, part] @ key[:, part].T / size**0.5).softmax(-1)
            if bumps is not None:
                attention = attention + bumps[number][head]
            of_heads.append(attention)
            mixed.append(attention @ value[:, part])
        maps.append(torch.stack(of_heads))
        x = x + linear(layer.output, e, torch.cat(mixed, dim=-1))
        inner = F.gelu(linear(layer.expand, e, norm(layer.norm_feed_forward, e, x)))
        x = x + linear(layer.contract, e, inner)
    hidden = norm(model.bank.norm, e, x)
    pieces = hidden.split([len(x) for x in projected.values()])
    latent = torch.cat([piece.mean(0) for piece in pieces])
    return linear(model.classifier, e, latent), latent, maps


def weights(model: FusionTransformer, projected: dict[str, Tensor]) -> Tensor:
    """(E,) router weights, l2-normalised means."""
    means = torch.cat([F.normalize(x.mean(0), dim=0) for x in projected.values()])
    return (model.router.mlp(means) / model.router.temperature).softmax(0)


def run(model: FusionTransformer, batch: TokenBatch) -> MoEOutput:
    """The whole model, sample by sample and expert by expert."""
    rows = []
    for row in range(batch.batch_size):
        projected = project(model, batch, row)
        runs = [expert(model, e, projected) for e in range(len(model.experts))]
        logits = torch.stack([logit for logit, _, _ in runs])
        latents = torch.stack([latent for _, latent, _ in runs])
        share = weights(model, projected) if model.router else logits.new_ones(1)
        rows.append((share @ logits, share, logits, latents))
    return MoEOutput(*(torch.stack(values) for values in zip(*rows, strict=True)))


def linear(layer: torch.nn.Module, e: int, x: Tensor) -> Tensor:
    return x @ layer.weight[e].T + layer.bias[e]


def norm(layer: torch.nn.Module, e: int, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], layer.weight[e], layer.bias[e])

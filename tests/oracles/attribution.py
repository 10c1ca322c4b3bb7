"""Attribution of design 3.3 from full matrices: one gradient per head, T x T products.

Every function returns {head: {modality: (B, T)}}, 0 at padding and structural tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fli2moe.tokens import TokenBatch
from oracles.model import OracleModel

Scores = dict[str, dict[str, Tensor]]


def attention_gradient(oracle: OracleModel, batch: TokenBatch, target: Tensor) -> Scores:
    """relu(A) * relu(dscore/dA), mean over attention heads, rolled out; the mixture is a sum.

    The router is held fixed without any doing: it does not depend on the maps.
    """
    output = oracle(batch)
    found = {}
    for h, (name, logits) in enumerate(zip(oracle.heads, output.head_logits, strict=True)):
        of_mixture = h == 0
        experts = output.maps if of_mixture else [output.maps[h - 1]]
        leaves = [a for maps in experts for a in maps]
        score = (logits * target).sum()
        gradients = iter(torch.autograd.grad(score, leaves, retain_graph=True))
        rows = [
            rollout([(a.relu() * next(gradients).relu()).mean(1) for a in maps], oracle, batch, e)
            for e, maps in enumerate(experts, 0 if of_mixture else h - 1)
        ]
        found[name] = split(torch.stack(rows).sum(0), oracle, batch)
    return found


def attention_rollout(oracle: OracleModel, batch: TokenBatch) -> Scores:
    """The mean map rolled out; the mixture weighs the experts by the router."""
    with torch.no_grad():
        output = oracle(batch)
    rows = [
        rollout([a.mean(1) for a in maps], oracle, batch, e) for e, maps in enumerate(output.maps)
    ]
    mixture = sum(output.weights[:, e, None] * row for e, row in enumerate(rows))
    heads = [mixture, *rows] if len(rows) > 1 else [mixture]
    return {h: split(row, oracle, batch) for h, row in zip(oracle.heads, heads, strict=True)}


def gradient_x_input(
    oracle: OracleModel, batch: TokenBatch, target: Tensor, baseline: Mapping[str, Tensor]
) -> Scores:
    """sum over features of (input - baseline) * dscore/dinput."""
    leaves = {m: batch[m].features.detach().requires_grad_() for m in oracle.modalities}
    output = oracle(TokenBatch({m: batch[m].with_features(x) for m, x in leaves.items()}))
    found = {}
    for name, logits in zip(oracle.heads, output.head_logits, strict=True):
        score = (logits * target).sum()
        gradients = torch.autograd.grad(score, list(leaves.values()), retain_graph=True)
        found[name] = {
            m: (((x - baseline[m]) * g).sum(-1) * batch[m].content).detach()
            for (m, x), g in zip(leaves.items(), gradients, strict=True)
        }
    return found


def rollout(layers: list[Tensor], oracle: OracleModel, batch: TokenBatch, expert: int) -> Tensor:
    """(B, T): mean over content queries of the product of row-normalised (A + I), less the skips.

    Only queries that the expert sees.

    The skips are what the identities alone carry: the product of their shares.
    """
    sees = oracle.sees[expert]
    content = torch.cat([batch[m].content & (m in sees) for m in oracle.modalities], dim=1)
    identity = torch.eye(content.shape[1], dtype=layers[0].dtype)
    whole, skips = identity, torch.ones_like(content, dtype=layers[0].dtype)
    for attention in layers:  # (B, T, T), first layer first: later layers multiply from the left
        mixed = attention + identity
        share = 1 / mixed.sum(-1)  # (B, T)
        whole = (share[..., None] * mixed) @ whole
        skips = share * skips
    rows = (whole - torch.diag_embed(skips)) * content[..., None]
    return rows.sum(1) / content.sum(1, keepdim=True).clamp_min(1)


def split(row: Tensor, oracle: OracleModel, batch: TokenBatch) -> dict[str, Tensor]:
    """(B, T) over the whole sequence to {modality: (B, T)} of content tokens."""
    pieces = row.split([batch[m].mask.shape[1] for m in oracle.modalities], dim=1)
    named = zip(oracle.modalities, pieces, strict=True)
    return {m: (piece * batch[m].content).detach() for m, piece in named}

"""Attention of many sequences: fused, with its map at hand, or written out with its derivative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fli2moe.model.dropout import RandomMask, random_mask
from fli2moe.model.dropout import dropout as drop

IN_CACHE = 2**18
"""Numbers in the maps that a CPU computes at once: some of its second-level cache."""


@dataclass(frozen=True, eq=False)
class Attended:
    """Mixed values (E, B, T, H), and what was asked for beside them.

    Attributes:
        values: (E, B, T, H).
        trace: the map (E, B, heads, T, T), or the relevance (E, B, T, T), or None.
    """

    values: Tensor
    trace: Tensor | None = None


def attend(
    query_key_value: Tensor,
    mask: Tensor,
    heads: int,
    *,
    dropout: float = 0.0,
    trace: str = "",
    last: bool = False,
) -> Attended:
    """softmax(Q K' / sqrt(d)) V per head; a sequence without any key gets 0.

    Args:
        query_key_value: (E, B, T, 3 * H): queries, keys and values after each other.
        mask: (E, B, T) bool: the keys that are there.
        heads: how many; d = H / heads.
        dropout: probability that a weight of the map is dropped.
        trace: `map` returns the map, from which the values are then computed, so that a gradient
            can be taken at it; `relevance` returns the mean over heads of A * relu(ds/dA), which
            is filled in when a gradient of s is taken.
        last: with `relevance`, no gradient is needed beyond this attention.
    """
    experts, batch, tokens, width = query_key_value.shape
    flat = query_key_value.reshape(experts * batch, tokens, 3, heads, -1)
    keys = mask.reshape(experts * batch, tokens)
    traced = None
    if trace == "map":
        traced = attention_map(flat, keys).view(experts, batch, heads, tokens, tokens)
        used = drop(traced, dropout, dropout > 0).flatten(0, 1)
        mixed = (used @ flat[:, :, 2].transpose(1, 2)).transpose(1, 2)  # (N, T, heads, d)
    elif trace == "relevance":
        traced = flat.new_zeros(experts, batch, tokens, tokens)
        mixed = written_out(flat, keys, dropout, traced.flatten(0, 1), last)
    elif dropout > 0 and flat.device.type == "cpu":
        mixed = written_out(flat, keys, dropout, None, False)
    else:
        query, key, value = flat.permute(2, 0, 3, 1, 4)  # each (N, heads, T, d)
        # On a CPU the test costs nothing and no mask is faster; on a GPU it would wait for it.
        full = flat.device.type == "cpu" and bool(keys.all())
        visible = None if full else keys[:, None, None]
        mixed = F.scaled_dot_product_attention(query, key, value, visible, dropout).transpose(1, 2)
    return Attended(mixed.reshape(experts, batch, tokens, width // 3), traced)


def attention_map(flat: Tensor, keys: Tensor) -> Tensor:
    """Returns the map (N, heads, T, T) of (N, T, 3, heads, d) under the keys (N, T)."""
    query, key, _ = flat.permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(-1, -2) / math.sqrt(flat.shape[-1])
    visible = keys[:, None, None]  # (N, 1, 1, T)
    scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    attention: Tensor = scores.softmax(-1) * visible.any(-1, keepdim=True)
    return attention


def written_out(
    flat: Tensor, keys: Tensor, dropout: float, relevance: Tensor | None, last: bool
) -> Tensor:
    """Returns the mixed values (N, T, heads, d) of (N, T, 3, heads, d) under the keys (N, T).

    `relevance` (N, T, T) is filled in when a gradient is taken; the rest is as in `attend`.
    """
    mixed: Tensor = _Attention.apply(flat, keys, dropout, relevance, last)  # type: ignore[no-untyped-call]
    return mixed


class _Attention(torch.autograd.Function):
    """Attention whose map is dropped from, or whose derivative at the map is wanted.

    On a CPU a few sequences go through at a time: what stands between the products then stays in
    the cache. With A the map, D = A * mask what is used of it and g the gradient of the output O:
    dA = mask * g V', dV = D' g, d(scores) = A * dA - A * rowsum(g * O), as the rows of A sum to 1.
    """

    @staticmethod
    def forward(
        ctx: Any, flat: Tensor, keys: Tensor, dropout: float, relevance: Tensor | None, last: bool
    ) -> Tensor:
        batch, tokens, _, heads, width = flat.shape
        ctx.full = flat.device.type == "cpu" and bool(keys.all())
        absent = torch.zeros(keys.shape, dtype=flat.dtype, device=flat.device)
        absent = absent.masked_fill_(~keys, torch.finfo(flat.dtype).min)[:, None, None]
        size, kept = _at_once(flat), ctx.needs_input_grad[0]
        # Maps are kept for the way back, or else overwritten by the next sequences'.
        maps = flat.new_empty(batch if kept else size, heads, tokens, tokens)
        used = torch.empty_like(maps) if dropout else maps
        mask = random_mask((batch, *maps.shape[1:]), dropout) if dropout else RandomMask(maps, 1.0)
        out = flat.new_empty(batch, heads, tokens, width)
        inputs, scale, zero = flat.permute(2, 0, 3, 1, 4), 1 / math.sqrt(width), flat.new_zeros(())
        for start in range(0, batch, size):
            rows = slice(start, start + size)
            query, key, value = (x[rows].flatten(0, 1) for x in inputs)
            own = rows if kept else slice(len(out[rows]))
            attention, drawn = (x[own].flatten(0, 1) for x in (maps, used))
            scores = _times(query, key.mT, scale, zero, out=drawn)
            if not ctx.full:
                scores.view(-1, heads, tokens, tokens).add_(absent[rows])
            torch.softmax(scores, -1, out=attention)
            if dropout:
                drawn.copy_(mask.values[rows].flatten(0, 1)).mul_(attention)
            _times(drawn, value, mask.scale, zero, out=out[rows].flatten(0, 1))
        ctx.relevance, ctx.last, ctx.scale = relevance, last, mask.scale
        if kept:
            ctx.save_for_backward(flat, keys, maps, used, out)
        out = out.transpose(1, 2)  # (N, T, heads, d)
        return out if ctx.full else out * keys.any(-1)[:, None, None, None]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        flat, keys, maps, used, out = ctx.saved_tensors
        if not ctx.full:
            gradient = gradient * keys.any(-1)[:, None, None, None]
        gradient = gradient.transpose(1, 2)
        scale, zero, inner = 1 / math.sqrt(out.shape[-1]), flat.new_zeros(()), None
        sums = (gradient * out).sum(-1, keepdim=True)  # (N, heads, T, 1)
        result, size = flat.new_empty(3, *out.shape), _at_once(flat)
        inputs = (*flat.permute(2, 0, 3, 1, 4), gradient, sums, maps, used, *result)
        for start in range(0, len(flat), size):
            rows = slice(start, start + size)
            query, key, value, to, total, attention, drawn, *into = (
                x[rows].flatten(0, 1) for x in inputs
            )
            if inner is None or len(inner) != len(to):
                inner = torch.empty_like(attention)
            _times(to, value.mT, ctx.scale, zero, out=inner).mul_(drawn)  # A * dA
            if ctx.relevance is not None:  # A * relu(dA), as A >= 0
                shares = inner.relu().view(-1, out.shape[1], *inner.shape[1:])
                torch.mean(shares, 1, out=ctx.relevance[rows])
            if not ctx.last:
                inner.addcmul_(attention, total, value=-1)
                _times(inner, key, scale, zero, out=into[0])
                _times(inner.mT, query, scale, zero, out=into[1])
                _times(drawn.mT, to, ctx.scale, zero, out=into[2])
        return None if ctx.last else result.permute(1, 3, 0, 2, 4), None, None, None, None


def _at_once(flat: Tensor) -> int:
    """How many of N sequences are computed at once: what a CPU's cache holds, or all elsewhere."""
    batch, tokens, _, heads, _ = flat.shape
    return max(1, IN_CACHE // (heads * tokens**2)) if flat.device.type == "cpu" else max(1, batch)


def _times(x: Tensor, y: Tensor, scale: float, zero: Tensor, out: Tensor) -> Tensor:
    """Returns scale * x @ y of two batches of matrices, in the memory of `out`."""
    return torch.baddbmm(zero, x, y, beta=0, alpha=scale, out=out)

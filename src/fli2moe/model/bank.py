"""A bank of E pre-norm transformers with stacked weights, all reading the same token sequence.

Every weight has a leading E axis and every activation is (E, B, T, H), so the file reads as one
transformer. The dense baseline is the bank with E = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fli2moe.errors import InputError


@dataclass(frozen=True)
class BankOutput:
    """Hidden states (E, B, T, H), and one (E, B, heads, T, T) attention map per layer if asked."""

    hidden: Tensor
    attention: tuple[Tensor, ...] | None


class ExpertLinear(nn.Module):
    """E independent linear maps: (E, N, in) -> (E, N, out)."""

    def __init__(self, experts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(experts, outputs))
        for weight in self.weight:  # each expert is drawn on its own, so none is a copy
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (E, ..., in) to (E, ..., out)."""
        flat = x.reshape(x.shape[0], -1, x.shape[-1])  # (E, N, in)
        y = torch.baddbmm(self.bias[:, None], flat, self.weight.transpose(1, 2))
        return y.reshape(*x.shape[:-1], y.shape[-1])


class ExpertNorm(nn.Module):
    """E independent layer norms over the last axis of (E, B, T, H)."""

    def __init__(self, experts: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(experts, width))
        self.bias = nn.Parameter(torch.zeros(experts, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last axis, then scales and shifts per expert."""
        y = F.layer_norm(x, x.shape[-1:])
        return torch.addcmul(self.bias[:, None, None], y, self.weight[:, None, None])


class ExpertLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), for E experts at once."""

    def __init__(
        self,
        experts: int,
        width: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        self.heads, self.dropout, self.attention_dropout = heads, dropout, attention_dropout
        self.norm_attention = ExpertNorm(experts, width)
        self.query_key_value = ExpertLinear(experts, width, 3 * width)
        self.output = ExpertLinear(experts, width, width)
        self.norm_feed_forward = ExpertNorm(experts, width)
        self.expand = ExpertLinear(experts, width, feed_forward)
        self.contract = ExpertLinear(experts, feed_forward, width)

    def forward(self, x: Tensor, mask: Tensor, want_map: bool) -> tuple[Tensor, Tensor | None]:
        """Maps x (E, B, T, H) under the key mask (B, T); the map is (E, B, heads, T, T)."""
        mixed, attention = self._attend(self.norm_attention(x), mask, want_map)
        x = x + self._drop(mixed)
        hidden = self._drop(F.gelu(self.expand(self.norm_feed_forward(x))))
        return x + self._drop(self.contract(hidden)), attention

    def _attend(self, x: Tensor, mask: Tensor, want_map: bool) -> tuple[Tensor, Tensor | None]:
        experts, batch, tokens, width = x.shape
        qkv = self.query_key_value(x).view(experts * batch, tokens, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (E*B, heads, T, H / heads)
        keys = mask.repeat(experts, 1)[:, None, None, :]  # (E*B, 1, 1, T)
        if want_map:
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
            scores = scores.masked_fill(~keys, torch.finfo(scores.dtype).min)
            # A sample with no key at all attends to nothing, as in the fused path.
            attention = scores.softmax(-1) * keys.any(-1, keepdim=True)
            # What is handed out is what is used, so that a gradient can be taken at it.
            attention = attention.view(experts, batch, self.heads, tokens, tokens)
            used = F.dropout(attention, self.attention_dropout, self.training)
            mixed = used.flatten(0, 1) @ value
        else:
            attention = None
            dropout = self.attention_dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(query, key, value, keys, dropout)
        mixed = mixed.transpose(1, 2).reshape(experts, batch, tokens, width)
        return self.output(mixed), attention

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class ExpertBank(nn.Module):
    """E transformers of `layers` layers with a final norm.

    Args:
        experts: E.
        width: H.
        layers, heads: per expert.
        feed_forward: hidden width of the feed-forward.
        dropout: on residual branches and feed-forward.
        attention_dropout: on attention weights; above 0 it keeps the CPU off its fused kernel.

    Raises:
        InputError: when `heads` does not divide `width`.
    """

    def __init__(
        self,
        *,
        experts: int,
        width: int,
        layers: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        if width % heads:
            divisors = [h for h in range(1, width + 1) if width % h == 0 and h <= 16]
            raise InputError(
                "model.heads",
                f"{heads} heads",
                f"a divisor of the width {width}",
                f"use one of {divisors}",
            )
        self.experts = experts
        self.layers = nn.ModuleList(
            ExpertLayer(experts, width, heads, feed_forward, dropout, attention_dropout)
            for _ in range(layers)
        )
        self.norm = ExpertNorm(experts, width)

    def forward(self, x: Tensor, mask: Tensor, *, attention: bool = False) -> BankOutput:
        """Runs all experts on x (B, T, H) with real tokens where mask (B, T) is True."""
        hidden = x.expand(self.experts, *x.shape)  # (E, B, T, H)
        maps = []
        for layer in self.layers:
            hidden, layer_map = layer(hidden, mask, attention)
            maps.append(layer_map)
        return BankOutput(self.norm(hidden), tuple(maps) if attention else None)

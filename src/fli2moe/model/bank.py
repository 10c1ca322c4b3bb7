"""A bank of E pre-norm transformers with stacked weights, all reading the same tokens.

Every weight has a leading E axis and every activation is (E, B, T, H), so the file reads as one
transformer. The dense baseline is the bank with E = 1. `passes.py` runs it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fli2moe.model.attention import Attended, attend
from fli2moe.model.dropout import add_dropped, dropout
from fli2moe.model.passes import Assemble, Bank, BankOutput, Pass, as_they_are
from fli2moe.model.pooling import Pooling, mean_weights, weighted


class ExpertLinear(nn.Module):
    """E independent linear maps: (E, ..., in) -> (E, ..., out)."""

    def __init__(self, experts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(experts, outputs))
        for weight in self.weight:  # each expert is drawn on its own, so none is a copy
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (e, ..., in) of the chosen experts to (e, ..., out)."""
        weight, bias = self.weight, self.bias
        if len(weight) == 1:
            return F.linear(x, weight[0], bias[0])
        flat = x.reshape(x.shape[0], -1, x.shape[-1])  # (e, N, in)
        y = torch.baddbmm(bias[:, None], flat, weight.transpose(1, 2))
        return y.view(*x.shape[:-1], y.shape[-1])


class ExpertNorm(nn.Module):
    """E independent layer norms over the last axis of (E, ..., H)."""

    def __init__(self, experts: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(experts, width))
        self.bias = nn.Parameter(torch.zeros(experts, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last axis, then scales and shifts per expert."""
        weight, bias = self.weight, self.bias
        if len(weight) == 1:
            return F.layer_norm(x, x.shape[-1:], weight[0], bias[0])
        shape = (len(weight), *[1] * (x.ndim - 2), x.shape[-1])
        y = F.layer_norm(x, x.shape[-1:])
        return torch.addcmul(bias.view(shape), y, weight.view(shape))


class ExpertAttention(nn.Module):
    """x + attention(norm(x)), for some of E experts at once."""

    def __init__(
        self, experts: int, width: int, heads: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.dropout, self.attention_dropout = heads, dropout, attention_dropout
        self.norm_attention = ExpertNorm(experts, width)
        self.query_key_value = ExpertLinear(experts, width, 3 * width)
        self.output = ExpertLinear(experts, width, width)

    def enter(self, x: Tensor) -> Tensor:
        """Maps tokens (e, ..., H) to queries, keys and values (e, ..., 3 * H)."""
        entered: Tensor = self.query_key_value(self.norm_attention(x))
        return entered

    def mix(
        self, x: Tensor, query_key_value: Tensor, mask: Tensor, trace: str, last: bool
    ) -> Attended:
        """Returns x (e, B, T, H) + attention; `trace` and `last` as those of `attend`."""
        share = self.attention_dropout if self.training else 0.0
        found = attend(query_key_value, mask, self.heads, dropout=share, trace=trace, last=last)
        mixed = self.output(found.values)
        return Attended(add_dropped(x, mixed, self.dropout, self.training), found.trace)


class ExpertLayer(ExpertAttention):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), for some of E experts at once."""

    def __init__(
        self,
        experts: int,
        width: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__(experts, width, heads, dropout, attention_dropout)
        self.norm_feed_forward = ExpertNorm(experts, width)
        self.expand = ExpertLinear(experts, width, feed_forward)
        self.contract = ExpertLinear(experts, feed_forward, width)

    def hidden(self, x: Tensor) -> Tensor:
        """Returns the feed-forward's hidden layer (e, B, T, F) of x (e, B, T, H)."""
        hidden = F.gelu(self.expand(self.norm_feed_forward(x)))
        return dropout(hidden, self.dropout, self.training)

    @property
    def drops(self) -> bool:
        """Whether dropout acts on the residual branches now."""
        return self.training and self.dropout > 0

    def feed(self, x: Tensor) -> Tensor:
        """Returns x (e, B, T, H) + feed-forward."""
        fed = self.contract(self.hidden(x))
        return add_dropped(x, fed, self.dropout, self.training)


class ExpertBank(Bank):
    """E transformers with pooling per modality, and a norm before it if wanted.

    Args:
        experts: E.
        modalities: M.
        width: H.
        layers, heads: per expert.
        feed_forward: hidden width of the feed-forward.
        dropout: on residual branches and feed-forward.
        attention_dropout: on attention weights.
        final_norm: a layer norm after the last layer.
        pooling: `mean` or `attention`.
        sees: per expert the modalities (numbers from 0) that it sees; all by default.

    Raises:
        InputError: when `heads` does not divide `width`, or `pooling` is unknown.
    """

    def __init__(
        self,
        *,
        experts: int,
        modalities: int,
        width: int,
        layers: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        attention_dropout: float,
        final_norm: bool = False,
        pooling: str = "mean",
        sees: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(sees or [range(modalities)] * experts, modalities, heads, width)
        self.layers = nn.ModuleList(
            ExpertLayer(experts, width, heads, feed_forward, dropout, attention_dropout)
            for _ in range(layers)
        )
        self.norm = ExpertNorm(experts, width) if final_norm else None
        self.pooling = Pooling(pooling, experts, modalities, width)

    def forward(
        self,
        tokens: Tensor,
        passes: Sequence[Pass],
        assemble: Assemble = as_they_are,
        *,
        trace: str = "",
    ) -> list[BankOutput]:
        """Runs all experts at once; arguments as those of `run_experts`."""
        tokens = tokens.expand(len(self.sees), *tokens.shape)
        first = self._layers[0].enter(tokens)
        runs = zip(passes, assemble(tokens), assemble(first), strict=True)
        return [self._read(x, entered, one.seen(self.sees), trace) for one, x, entered in runs]

    @property
    def _layers(self) -> list[ExpertLayer]:
        return [layer for layer in self.layers if isinstance(layer, ExpertLayer)]

    def _read(self, x: Tensor, entered: Tensor, seen: Tensor, trace: str) -> BankOutput:
        """All layers over x (E, B, T, H), whose queries, keys and values are at hand."""
        mask, traces = seen.any(2), []  # (E, B, T)
        for number, layer in enumerate(self._layers):
            if number:
                x = self._layers[number - 1].feed(x)
                entered = layer.enter(x)
            mixed = layer.mix(x, entered, mask, trace, last=number == 0)
            x = mixed.values
            if mixed.trace is not None:
                traces.append(mixed.trace)
        return BankOutput(self._pool(x, seen).flatten(2), (tuple(traces),) if trace else ())

    def _pool(self, x: Tensor, seen: Tensor) -> Tensor:
        """The last layer's feed-forward and the pooling: (E, B, M, H) of x (E, B, T, H).

        A mean may be taken before the last linear map, which then sees M vectors instead of T.
        """
        last = self._layers[-1]
        if self.norm is None and self.pooling.kind == "mean" and not last.drops:
            weights = mean_weights(seen, x.dtype)
            fed = last.contract(weighted(weights, last.hidden(x)))
            early: Tensor = weighted(weights, x) + fed * seen.any(-1, keepdim=True)
            return early
        x = last.feed(x)
        pooled: Tensor = self.pooling(x if self.norm is None else self.norm(x), seen)
        return pooled

"""A bank of E pre-norm transformers with stacked weights, all reading the same tokens.

Every weight has a leading E axis and every activation is (E, B, T, H), so the file reads as one
transformer. The dense baseline is the bank with E = 1. How it is run, and why that is fast, stands
in `docs/execution.md`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from fli2moe.errors import InputError
from fli2moe.model.attention import Attended, attend
from fli2moe.model.dropout import add_dropped, dropout
from fli2moe.model.output import Routing
from fli2moe.model.pooling import Pooling, mean_weights, weighted

ALONE = 2**18
"""Numbers in all sequences from which a CPU is faster with one expert after the other."""


@dataclass(frozen=True, eq=False)
class Pass:
    """A batch of sequences that the experts read.

    Attributes:
        mask: (B, T) bool: which tokens are there.
        owner: (T,) or (B, T) int64: the modality of each token, from 0.
    """

    mask: Tensor
    owner: Tensor

    def seen(self, sees: Tensor) -> Tensor:
        """(e, B, M, T) bool: the tokens there are of each modality, if the expert sees it.

        Args:
            sees: (e, M) bool.
        """
        modality = torch.arange(sees.shape[1], device=self.mask.device)[:, None]
        own = (self.owner[..., None, :] == modality) & self.mask[:, None]  # (B, M, T)
        return own & sees[:, None, :, None]


Assemble = Callable[[Tensor], Sequence[Tensor]]
"""Maps tokens, or what became of each, (e, ..., W), to the sequences (e, B, T, W) of each pass."""


def as_they_are(tokens: Tensor) -> Sequence[Tensor]:
    """One pass that reads the tokens as they stand."""
    return (tokens,)


@dataclass(frozen=True, eq=False)
class BankOutput:
    """What the experts make of one pass.

    Attributes:
        latents: (E, B, M * H).
        traces: per group of experts that ran together, what `attend` traced in each layer, as
            (e, B, ...); empty where nothing was asked for.
        routing: of each sparse layer; empty where there is none.
    """

    latents: Tensor
    traces: tuple[tuple[Tensor, ...], ...] = ()
    routing: tuple[Routing, ...] = ()


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


class Bank(nn.Module, ABC):
    """What `run_experts` runs: E experts that each see some of M modalities.

    Raises:
        InputError: when `heads` does not divide `width`.
    """

    sees: Tensor

    def __init__(
        self, sees: Sequence[Sequence[int]], modalities: int, heads: int, width: int
    ) -> None:
        super().__init__()
        check_heads(heads, width)
        seen = [[m in own for m in range(modalities)] for own in sees]
        self.register_buffer("sees", torch.tensor(seen), persistent=False)

    @abstractmethod
    def forward(
        self,
        tokens: Tensor,
        passes: Sequence[Pass],
        assemble: Assemble = as_they_are,
        *,
        trace: str = "",
    ) -> list[BankOutput]:
        """Runs all experts at once; arguments as those of `run_experts`."""


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
        self.experts = experts
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


def run_experts(
    bank: Bank,
    tokens: Tensor,
    passes: Sequence[Pass],
    assemble: Assemble = as_they_are,
    *,
    trace: str = "",
) -> list[BankOutput]:
    """Runs a bank over passes whose sequences are made of the same tokens, the fastest way.

    What the first layer does to each token by itself is done once, before `assemble`. On a CPU each
    expert runs alone when all together would leave its caches; elsewhere all experts and passes run
    as one.

    Args:
        bank: E experts.
        tokens: (..., H), placed.
        passes: what is there in the sequences; as many tokens and the same owner in all.
        assemble: makes the sequences.
        trace: what to return of each attention, as that of `attend`.
    """
    numbers = sum(one.mask.numel() for one in passes) * tokens.shape[-1]
    if tokens.device.type == "cpu" and numbers >= ALONE and len(bank.sees) > 1:
        parts = {name: torch.split(x, 1) for name, x in bank.state_dict(keep_vars=True).items()}
        parts["sees"] = torch.split(bank.sees, 1)
        done = [
            functional_call(
                bank,
                {name: part[e] for name, part in parts.items()},
                (tokens, passes, assemble),
                {"trace": trace},
            )
            for e in range(len(bank.sees))
        ]
        return [
            BankOutput(
                torch.cat([run[p].latents for run in done]),
                tuple(group for run in done for group in run[p].traces),
            )
            for p in range(len(passes))
        ]
    if len(passes) == 1 or len(bank.sees) == 1:
        alone: list[BankOutput] = bank(tokens, passes, assemble, trace=trace)
        return alone
    rows = [len(one.mask) for one in passes]
    whole = Pass(torch.cat([one.mask for one in passes]), passes[0].owner)
    folded: BankOutput = bank(
        tokens, [whole], lambda x: (torch.cat(list(assemble(x)), dim=1),), trace=trace
    )[0]
    latents = torch.split(folded.latents, rows, dim=1)
    traces = [tuple(torch.split(x, rows, dim=1) for x in group) for group in folded.traces]
    return [
        BankOutput(z, tuple(tuple(layer[p] for layer in group) for group in traces))
        for p, z in enumerate(latents)
    ]


def check_heads(heads: int, width: int) -> None:
    """Raises InputError when `heads` does not divide `width`."""
    if width % heads:
        divisors = [h for h in range(1, width + 1) if width % h == 0 and h <= 16]
        found, expected = f"{heads} heads", f"a divisor of the width {width}"
        raise InputError("model.heads", found, expected, f"use one of {divisors}")

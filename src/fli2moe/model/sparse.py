"""One transformer whose feed-forward is a sparse mixture: each token goes to two of N experts.

After GShard (Lepikhin et al. 2021, arXiv 2006.16668, algorithm 1). Its groups, within which experts
have limited room, are our samples: what becomes of a sample depends on no other one, in whatever
batch or part of a batch it runs. Room is limited in training only, and the second expert is always
asked, where GShard draws whether it is (both ours).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fli2moe.config import ModelConfig
from fli2moe.model.bank import ExpertAttention, ExpertLinear, ExpertNorm
from fli2moe.model.dropout import add_dropped, dropout
from fli2moe.model.output import Routing
from fli2moe.model.passes import Assemble, Bank, BankOutput, Pass, as_they_are
from fli2moe.model.pooling import Pooling
from fli2moe.precision import at_least_float32

CHOICES = 2
"""Experts that a token goes to."""


class SparseLayer(ExpertAttention):
    """x + attention(norm(x)), then x + sum of gate_e * feed_forward_e(norm(x)) over two experts e.

    Args:
        width: H.
        heads: of the attention.
        feed_forward: hidden width of each feed-forward.
        dropout: on residual branches and feed-forwards.
        attention_dropout: on attention weights.
        experts: N feed-forwards.
        capacity_factor: room of each in training, as a multiple of an even share; None: no limit.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        attention_dropout: float,
        experts: int,
        capacity_factor: float | None,
    ) -> None:
        super().__init__(1, width, heads, dropout, attention_dropout)
        self.capacity_factor = capacity_factor
        self.norm_feed_forward = ExpertNorm(1, width)
        self.gate = nn.Linear(width, experts, bias=False)
        self.expand = ExpertLinear(experts, width, feed_forward)
        self.contract = ExpertLinear(experts, feed_forward, width)

    def feed(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Routing]:
        """Returns x (1, B, T, H) + the mixture, and where the real tokens (mask (1, B, T)) went.

        Padding goes to no expert, nor does what an expert has no room for: only x remains of it.
        """
        tokens: Tensor = self.norm_feed_forward(x)[0]  # (B, T, H)
        with torch.autocast(x.device.type, enabled=False):  # choices are made in full precision
            scores = F.linear(at_least_float32(tokens), at_least_float32(self.gate.weight))
        probabilities = scores.softmax(-1)  # (B, T, N)
        factor = self.capacity_factor if self.training else None
        expert, gate = dispatch(probabilities, mask[0], factor)
        mixed = self._run(tokens.flatten(0, 1), expert, gate).view_as(x)
        first = F.one_hot(probabilities.argmax(-1), probabilities.shape[-1])
        real = mask[0, ..., None]
        routing = Routing((probabilities * real).sum(1), (first * real).sum(1))
        return add_dropped(x, mixed, self.dropout, self.training), routing

    def _run(self, tokens: Tensor, expert: Tensor, gate: Tensor) -> Tensor:
        """Sums what the experts make of the tokens (B * T, H) that they get, times the gates.

        Args:
            tokens: (B * T, H), normalised.
            expert: (B, 2 * T), as that of `dispatch`.
            gate: (B, 2 * T).
        """
        length = expert.shape[1] // CHOICES
        order = expert.flatten().argsort(stable=True)  # all of expert 0, of expert 1, ..., the rest
        counts = expert.flatten().bincount(minlength=len(self.gate.weight) + 1)[:-1].tolist()
        order = order[: sum(counts)]
        row = order // expert.shape[1] * length + order % length  # of the token
        sizes = (self.expand.weight, self.expand.bias, self.contract.weight, self.contract.bias)
        weights = zip(*(x.unbind(0) for x in sizes), strict=True)
        fed = []
        for own, (into, into_bias, out, out_bias) in zip(
            torch.split(row, counts), weights, strict=True
        ):
            hidden = F.gelu(F.linear(tokens[own], into, into_bias))
            hidden = dropout(hidden, self.dropout, self.training)
            fed.append(F.linear(hidden, out, out_bias))
        weighed = torch.cat(fed) * gate.flatten()[order, None]
        return torch.zeros_like(tokens).index_add(0, row, weighed.to(tokens.dtype))


def dispatch(
    probabilities: Tensor, mask: Tensor, capacity_factor: float | None
) -> tuple[Tensor, Tensor]:
    """Returns which expert each of the tokens' two choices goes to, and its gate, both (B, 2 * T).

    First choices of the whole sequence stand before second ones; the expert is N where the token
    is not sent. Of a sample with n tokens an expert takes ceil(factor * 2 * n / N), in that order.
    The gates of a token are its two largest probabilities divided by their sum, whether or not
    both experts have room.

    Args:
        probabilities: (B, T, N).
        mask: (B, T) bool: real tokens.
        capacity_factor: None for no limit.
    """
    experts = probabilities.shape[-1]
    gate, expert = probabilities.topk(CHOICES, dim=-1)  # (B, T, 2)
    gate = gate / gate.sum(-1, keepdim=True)
    gate, expert = (x.transpose(1, 2).flatten(1) for x in (gate, expert))
    sent = mask.repeat(1, CHOICES)
    if capacity_factor is not None:
        room = (capacity_factor * sent.sum(1).double() / experts).ceil()  # (B,)
        queue = (F.one_hot(expert, experts) * sent[..., None]).cumsum(1)  # (B, 2 * T, N)
        place = queue.gather(2, expert[..., None])[..., 0]  # from 1
        sent = sent & (place <= room[:, None])
    return torch.where(sent, expert, experts), gate


class SparseBank(Bank):
    """One transformer of `SparseLayer`s with pooling per modality.

    Args:
        modalities: M.
        config: sizes, dropout, pooling, `sparse`.

    Raises:
        InputError: when `heads` does not divide `hidden`, or `pooling` is unknown.
    """

    def __init__(self, modalities: int, config: ModelConfig) -> None:
        super().__init__([range(modalities)], modalities, config.heads, config.hidden)
        self.layers = nn.ModuleList(
            SparseLayer(
                config.hidden,
                config.heads,
                config.feed_forward * config.hidden,
                config.dropout,
                config.attention_dropout,
                config.sparse.experts,
                config.sparse.capacity_factor,
            )
            for _ in range(config.layers)
        )
        self.norm = ExpertNorm(1, config.hidden) if config.final_norm else None
        self.pooling = Pooling(config.pooling, 1, modalities, config.hidden)

    def forward(
        self,
        tokens: Tensor,
        passes: Sequence[Pass],
        assemble: Assemble = as_they_are,
        *,
        trace: str = "",
    ) -> list[BankOutput]:
        """Runs each pass by itself; arguments as those of `run_experts`."""
        runs = zip(passes, assemble(tokens[None]), strict=True)
        return [self._read(x, one.seen(self.sees), trace) for one, x in runs]

    def _read(self, x: Tensor, seen: Tensor, trace: str) -> BankOutput:
        mask, traces, routing = seen.any(2), [], []  # (1, B, T)
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, SparseLayer)  # for the type checker
            mixed = layer.mix(x, layer.enter(x), mask, trace, last=number == 0)
            if mixed.trace is not None:
                traces.append(mixed.trace)
            x, routed = layer.feed(mixed.values, mask)
            routing.append(routed)
        pooled: Tensor = self.pooling(x if self.norm is None else self.norm(x), seen)
        return BankOutput(pooled.flatten(2), (tuple(traces),) if trace else (), tuple(routing))

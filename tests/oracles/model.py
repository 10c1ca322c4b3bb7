"""The model of design 3.1 as a careful reader would write it: expert by expert, pass by pass.

Every expert is a transformer of its own, attention is written out and its map kept, and padding
travels through all layers. Nothing of `fli2moe.model` computes anything here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from tiny import alone
from torch import Tensor, nn
from torch.nn import functional as F

from fli2moe.model import FusionTransformer
from fli2moe.tokens import TokenBatch

LONGEST = 2048
"""Rows of the sinusoidal table."""


@dataclass(frozen=True)
class OracleOutput:
    """As `MoEOutput`, but `maps` is [expert][layer] of (B, heads, T, T)."""

    logits: Tensor  # (B, C)
    weights: Tensor  # (B, E)
    expert_logits: Tensor  # (B, E, C)
    latents: Tensor  # (B, E, M * H)
    maps: list[list[Tensor]]

    @property
    def head_logits(self) -> list[Tensor]:
        """(B, C) of the mixture, then of each expert if there are several."""
        experts = list(self.expert_logits.unbind(1))
        return [self.logits, *experts] if len(experts) > 1 else [self.logits]


class OracleLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(
        self, width: int, heads: int, feed_forward: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.expand = nn.Linear(width, feed_forward)
        self.contract = nn.Linear(feed_forward, width)
        self.dropout = nn.Dropout(dropout)
        self.attention_dropout = nn.Dropout(attention_dropout)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H) and the map (B, heads, T, T)."""
        batch, tokens, width = x.shape
        query, key, value = (
            part.view(batch, tokens, self.heads, -1).transpose(1, 2)  # (B, heads, T, H / heads)
            for part in self.query_key_value(self.norm_attention(x)).chunk(3, dim=-1)
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(width / self.heads)
        scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min)
        attention = scores.softmax(-1)
        mixed = self.attention_dropout(attention) @ value
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.dropout(self.output(mixed))
        hidden = self.dropout(F.gelu(self.expand(self.norm_feed_forward(x))))
        return x + self.dropout(self.contract(hidden)), attention


class OracleExpert(nn.Module):
    """One pre-norm transformer, with or without a norm after the last layer."""

    def __init__(self, layers: Sequence[OracleLayer], width: int, final_norm: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width) if final_norm else None

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, T, H) and one map (B, heads, T, T) per layer."""
        maps = []
        for layer in self.layers:
            x, attention = layer(x, mask)
            maps.append(attention)
        return x if self.norm is None else self.norm(x), maps


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


class OracleModel(nn.Module):
    """Projections, positions, experts with a classifier each, and a router (None: weight 1)."""

    def __init__(
        self,
        widths: Mapping[str, int],
        classes: int,
        names: Sequence[str],
        *,
        width: int,
        layers: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        attention_dropout: float,
        input_dropout: float,
        positions: str,
        longest: int,
        final_norm: bool,
        router: OracleRouter | None,
    ) -> None:
        super().__init__()
        self.modalities, self.names = tuple(widths), tuple(names)
        self.heads = ("mixture", *names) if len(names) > 1 else ("mixture",)
        self.projections = nn.ModuleDict({m: OracleProjection(d, width) for m, d in widths.items()})
        self.positions = OraclePositions(self.modalities, width, positions, longest)
        self.input_dropout = nn.Dropout(input_dropout)
        self.experts, self.classifiers = nn.ModuleList(), nn.ModuleList()
        for _ in names:
            stack = [
                OracleLayer(width, heads, feed_forward, dropout, attention_dropout)
                for _ in range(layers)
            ]
            self.experts.append(OracleExpert(stack, width, final_norm))
            self.classifiers.append(nn.Linear(len(widths) * width, classes))
        self.router = router

    @classmethod
    def of(cls, model: FusionTransformer) -> OracleModel:
        """An oracle with a copy of the weights of one of our models, in its mode and type."""
        layer, router = model.bank.layers[0], None
        if model.router is not None:
            linear = [step for step in model.router.mlp if isinstance(step, nn.Linear)]
            rates = {step.p for step in model.router.mlp if isinstance(step, nn.Dropout)}
            sizes = [linear[0].in_features, *(step.out_features for step in linear)]
            temperature, normalize = model.router.temperature, model.router.normalize
            router = OracleRouter(sizes, max(rates, default=0.0), temperature, normalize)
        made = cls(
            model.widths,
            model.classes,
            model.experts,
            width=model.hidden,
            layers=len(model.bank.layers),
            heads=layer.heads,
            feed_forward=layer.expand.weight.shape[1],
            dropout=layer.dropout,
            attention_dropout=layer.attention_dropout,
            input_dropout=model.input_dropout,
            positions=model.positions.kind,
            longest=model.positions.longest,
            final_norm=getattr(model.bank, "norm", None) is not None,
            router=router,
        )
        state = {}
        for name, value in model.state_dict().items():
            own = own_names(name, len(model.experts))
            values = [value] if own == [name] else list(value.unbind(0))
            state |= dict(zip(own, values, strict=True))
        made = made.to(next(model.parameters()).dtype).train(model.training)
        made.load_state_dict(state)
        return made

    def forward(self, batch: TokenBatch) -> OracleOutput:
        """The whole model on a batch of features."""
        return self.fuse(self.project(batch), {m: batch[m].mask for m in self.modalities})

    def project(self, batch: TokenBatch) -> dict[str, Tensor]:
        """{modality: (B, T, H)}."""
        return {m: self.projections[m](batch[m].features) for m in self.modalities}

    def fuse(self, projected: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> OracleOutput:
        """Experts, classifiers and router on projected tokens."""
        latents, maps = self.latents(projected, masks)
        logits = [c(z) for c, z in zip(self.classifiers, latents, strict=True)]
        expert_logits = torch.stack(logits, dim=1)  # (B, E, C)
        if self.router is None:
            weights = torch.ones_like(expert_logits[:, :, 0])
        else:
            weights = self.router(projected, masks)
        mixture = (weights[..., None] * expert_logits).sum(1)
        return OracleOutput(mixture, weights, expert_logits, torch.stack(latents, 1), maps)

    def latents(
        self, projected: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[list[Tensor], list[list[Tensor]]]:
        """One pass: (B, M * H) and the maps of each expert."""
        x = self.input_dropout(self.positions({m: projected[m] for m in self.modalities}))
        mask = torch.cat([masks[m] for m in self.modalities], dim=1)
        lengths = [projected[m].shape[1] for m in self.modalities]
        latents, maps = [], []
        for expert in self.experts:
            hidden, own = expert(x, mask)
            pieces = zip(self.modalities, hidden.split(lengths, dim=1), strict=True)
            latents.append(torch.cat([mean_of_real(x, masks[m]) for m, x in pieces], dim=-1))
            maps.append(own)
        return latents, maps


def mean_of_real(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, H) to (B, H): the mean over real tokens; 0 where there is none."""
    return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)


def own_names(name: str, experts: int) -> list[str]:
    """The oracle's names of one parameter of ours: a stacked one has a name per expert."""
    for stacked, own in (("bank.", "experts"), ("classifier.", "classifiers")):
        if name.startswith(stacked):
            return [f"{own}.{e}.{name.removeprefix(stacked)}" for e in range(experts)]
    return [name]


def gradients_like(model: FusionTransformer, oracle: OracleModel) -> dict[str, Tensor]:
    """The oracle's parameter gradients under our model's names and in its stacked shapes."""
    parameters, found = dict(oracle.named_parameters()), {}
    for name, parameter in model.named_parameters():
        own = [parameters[n] for n in own_names(name, len(model.experts))]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
        found[name] = torch.stack(grads).view_as(parameter)
    return found


def run_alone(model: FusionTransformer, batch: TokenBatch) -> OracleOutput:
    """The oracle of a model on each sample alone, without padding; no maps."""
    oracle = OracleModel.of(model)
    outputs = [oracle(alone(batch, row)) for row in range(batch.batch_size)]
    kinds = ("logits", "weights", "expert_logits", "latents")
    return OracleOutput(*(torch.cat([getattr(o, k) for o in outputs]) for k in kinds), maps=[])

"""The model of design 3.1 as a careful reader would write it: expert by expert, pass by pass.

Every expert is a transformer of its own, attention is written out and its map kept, and padding
travels through all layers. Nothing of `fli2moe.model` computes anything here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from tiny import alone
from torch import Tensor, nn
from torch.nn import functional as F

from fli2moe.model import FusionTransformer
from fli2moe.model.router import UniformRouter
from fli2moe.model.sparse import SparseLayer
from fli2moe.tokens import TokenBatch
from oracles.inputs import (
    OraclePositions,
    OracleProjection,
    OracleRouter,
    OracleUniform,
    mean_of_real,
)
from oracles.sparse import Sparse, Stacked, mixture


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
    """x + attention(norm(x)), then x + feed_forward(norm(x)), which may be a sparse mixture."""

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        attention_dropout: float,
        sparse: Sparse | None,
    ) -> None:
        super().__init__()
        self.heads, self.sparse = heads, sparse
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        if sparse is None:
            self.expand = nn.Linear(width, feed_forward)
            self.contract = nn.Linear(feed_forward, width)
        else:
            self.gate = nn.Linear(width, sparse.experts, bias=False)
            self.expand = Stacked(sparse.experts, width, feed_forward)
            self.contract = Stacked(sparse.experts, feed_forward, width)
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
        if self.sparse is not None:
            mixed = mixture(self, self.sparse, self.norm_feed_forward(x), mask)
            return x + self.dropout(mixed), attention
        hidden = self.dropout(F.gelu(self.expand(self.norm_feed_forward(x))))
        return x + self.dropout(self.contract(hidden)), attention


class OraclePooling(nn.Module):
    """One vector per modality: the mean of its tokens, or softmax(x q / sqrt(H)) as weights."""

    def __init__(self, kind: str, modalities: int, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(modalities, width)) if kind == "attention" else None

    def forward(self, pieces: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
        """M x (B, T, H) with masks (B, T) to (B, M * H)."""
        vectors = []
        for number, (x, mask) in enumerate(zip(pieces, masks, strict=True)):
            if self.query is None:
                vectors.append(mean_of_real(x, mask))
                continue
            scores = x @ self.query[number] / math.sqrt(x.shape[-1])  # (B, T)
            weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask
            vectors.append((weights[..., None] * x).sum(1))
        return torch.cat(vectors, dim=-1)


class OracleExpert(nn.Module):
    """One pre-norm transformer, with or without a norm after the last layer, and its pooling."""

    def __init__(
        self, layers: Sequence[OracleLayer], width: int, final_norm: bool, pooling: OraclePooling
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width) if final_norm else None
        self.pooling = pooling

    def forward(self, x: Tensor, masks: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """(B, T, H) and M masks to the latent (B, M * H) and one map (B, heads, T, T) per layer."""
        maps, mask = [], torch.cat(list(masks), dim=1)
        for layer in self.layers:
            x, attention = layer(x, mask)
            maps.append(attention)
        if self.norm is not None:
            x = self.norm(x)
        pieces = x.split([mask.shape[1] for mask in masks], dim=1)
        return self.pooling(pieces, masks), maps


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
        pooling: str,
        router: nn.Module | None,
        sees: Sequence[Sequence[str]],
        sparse: Sparse | None,
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
                OracleLayer(width, heads, feed_forward, dropout, attention_dropout, sparse)
                for _ in range(layers)
            ]
            pool = OraclePooling(pooling, len(widths), width)
            self.experts.append(OracleExpert(stack, width, final_norm, pool))
            self.classifiers.append(nn.Linear(len(widths) * width, classes))
        self.router, self.sees = router, sees

    @classmethod
    def of(cls, model: FusionTransformer) -> OracleModel:
        """An oracle with a copy of the weights of one of our models, in its mode and type."""
        layer = model.bank.layers[0]
        router: nn.Module | None = None
        if isinstance(model.router, UniformRouter):
            router = OracleUniform(len(model.experts))
        elif model.router is not None:
            linear = [step for step in model.router.mlp if isinstance(step, nn.Linear)]
            rates = {step.p for step in model.router.mlp if isinstance(step, nn.Dropout)}
            sizes = [linear[0].in_features, *(step.out_features for step in linear)]
            temperature, normalize = model.router.temperature, model.router.normalize
            router = OracleRouter(sizes, max(rates, default=0.0), temperature, normalize)
        sparse = None
        if isinstance(layer, SparseLayer):
            sparse = Sparse(len(layer.gate.weight), layer.capacity_factor)
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
            pooling=model.bank.pooling.kind if hasattr(model.bank, "pooling") else "mean",
            router=router,
            sees=[model.sees[name] for name in model.experts],
            sparse=sparse,
        )
        state, shapes = {}, {name: x.shape for name, x in made.state_dict().items()}
        for name, value in model.state_dict().items():
            own = own_names(name, len(model.experts))
            values = [value] if shapes[own[0]] == value.shape else list(value.unbind(0))
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
        latents, maps = [], []
        for expert, sees in zip(self.experts, self.sees, strict=True):
            seen = [masks[m] if m in sees else masks[m] & False for m in self.modalities]
            latent, own = expert(x, seen)
            latents.append(latent)
            maps.append(own)
        return latents, maps


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


def run_alone(
    model: FusionTransformer, batch: TokenBatch, oracle: nn.Module | None = None
) -> OracleOutput:
    """The oracle of a model on each sample alone, without padding; no maps."""
    oracle = oracle or OracleModel.of(model)
    outputs = [oracle(alone(batch, row)) for row in range(batch.batch_size)]
    kinds = ("logits", "weights", "expert_logits", "latents")
    return OracleOutput(*(torch.cat([getattr(o, k) for o in outputs]) for k in kinds), maps=[])

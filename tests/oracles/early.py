"""Early fusion sample by sample: means of real tokens, one after the other into an MLP."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from fli2moe.model import EarlyFusion, FusionModel
from fli2moe.tokens import TokenBatch
from oracles.model import OracleModel, OracleOutput


class OracleEarly(nn.Module):
    """Reads the weights of one of our models; computes nothing with it."""

    def __init__(self, model: EarlyFusion) -> None:
        super().__init__()
        self.modalities, self.heads = tuple(model.widths), ("mixture",)
        self.state, self.hidden = dict(model.named_parameters()), model.hidden
        self.statistics = dict(model.named_buffers())

    def forward(self, batch: TokenBatch) -> OracleOutput:
        """The whole model on a batch of features."""
        rows = []
        for i in range(batch.batch_size):
            means = []
            for m in self.modalities:
                mean, deviation = (
                    self.statistics[f"projections.{m}.{kind}"] for kind in ("mean", "deviation")
                )
                x = (batch[m].features[i][batch[m].mask[i]] - mean) / deviation
                x = F.linear(x, *self.pair(f"projections.{m}.linear"))
                means.append(x.mean(0) if len(x) else x.new_zeros(self.hidden))
            rows.append(torch.cat(means))
        latents = torch.stack(rows)
        hidden = F.gelu(F.linear(latents, *self.pair("mlp.0")))
        logits = F.linear(hidden, *self.pair("mlp.3"))
        ones = torch.ones_like(logits[:, :1])
        return OracleOutput(logits, ones, logits[:, None], latents[:, None], [])

    def pair(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias."""
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]


def oracle_of(model: FusionModel) -> OracleModel | OracleEarly:
    """The oracle of any of our models."""
    return OracleEarly(model) if isinstance(model, EarlyFusion) else OracleModel.of(model)

"""Early fusion: the modalities' mean tokens side by side, read by one MLP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from fli2moe.config import ModelConfig
from fli2moe.model.base import FusionModel
from fli2moe.model.dropout import dropout
from fli2moe.model.inputs import masked_mean
from fli2moe.model.passes import BankOutput
from fli2moe.model.views import View


class EarlyFusion(FusionModel):
    """MLP(concatenated means of each modality's projected tokens); no attention, no positions.

    A modality that a sample lacks has the mean 0. One hidden layer of width H with GELU and dropout
    (ours).

    Args:
        widths: {modality: D}.
        classes: C.
        config: `hidden`, `dropout` and `input_dropout`.
    """

    attends: ClassVar[bool] = False

    def __init__(self, widths: Mapping[str, int], classes: int, config: ModelConfig) -> None:
        super().__init__(widths, classes, ("early_fusion",), config)
        self.mlp = nn.Sequential(
            nn.Linear(len(widths) * config.hidden, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, classes),
        )

    def read(self, views: Sequence[View], *, trace: str = "") -> list[BankOutput]:
        """Returns the concatenated means (1, B, M * H) of each view; there is nothing to trace."""
        return [
            BankOutput(torch.cat([self._mean(v, m) for m in self.modalities], -1)[None])
            for v in views
        ]

    def classify(self, latents: Tensor) -> Tensor:
        """Maps the means (1, B, M * H) to logits (B, 1, C)."""
        logits: Tensor = self.mlp(latents)
        return logits.transpose(0, 1)

    def _mean(self, view: View, modality: str) -> Tensor:
        tokens = dropout(view.projected[modality], self.input_dropout, self.training)
        return masked_mean(tokens, view.masks[modality])

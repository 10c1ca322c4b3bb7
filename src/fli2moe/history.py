"""What training remembers: a row per epoch, and the weights of the best one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fli2moe.config import TrainingConfig


@dataclass(eq=False)
class History:
    """The epochs of one training, best first among equals.

    Attributes:
        training: `monitor` and `patience`.
        rows: per epoch: epoch, val_loss, val_score (NaN where not defined), train_loss, the terms
            of it that acted (loss_<term>, without their weights), the effective rank of each
            expert's latents in the epoch's last batch (rank_<expert>), gate_open (0 or 1),
            learning_rate.
        best: weights of the best epoch, on the CPU.
        best_epoch: its number, -1 before the first.
    """

    training: TrainingConfig
    rows: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = -1

    def add(self, row: dict[str, float], weights: Mapping[str, Tensor]) -> bool:
        """Remembers an epoch; copies the weights and returns True when it is the best so far."""
        self.rows.append(row)
        improved = self._improved(row)
        if improved:
            self.best_epoch = len(self.rows) - 1
            self.best = {name: x.detach().cpu().clone() for name, x in weights.items()}
        return improved

    @property
    def out_of_patience(self) -> bool:
        """Whether `patience` epochs have gone by without improvement."""
        return len(self.rows) - 1 - self.best_epoch >= self.training.patience

    def _improved(self, row: Mapping[str, float]) -> bool:
        if self.best_epoch < 0:
            return True
        best = self.rows[self.best_epoch]
        if row["gate_open"] > best["gate_open"]:  # before the gate the model is not yet this model
            return True
        if self.training.monitor == "score":
            return row["val_score"] > best["val_score"]
        return row["val_loss"] < best["val_loss"]


def mean_terms(steps: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Returns each term's mean over the steps in which it acted.

    Args:
        steps: per step {term: scalar}; a term may be missing from some.
    """
    names = dict.fromkeys(name for terms in steps for name in terms)
    return {
        name: float(torch.stack([terms[name] for terms in steps if name in terms]).mean())
        for name in names
    }


def rows_to_json(rows: Sequence[Mapping[str, float]]) -> list[dict[str, float | None]]:
    """Returns rows of a history as JSON has them: NaN is null."""
    return [{k: None if math.isnan(v) else v for k, v in row.items()} for row in rows]


def rows_from_json(rows: Sequence[Mapping[str, float | None]]) -> list[dict[str, float]]:
    """Returns what `rows_to_json` was given."""
    return [{k: math.nan if v is None else float(v) for k, v in row.items()} for row in rows]

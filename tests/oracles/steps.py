"""One training step of a model of ours, and the same step of its oracle with the same noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fli2moe.batches import Batch
from fli2moe.config import Config
from fli2moe.model import FusionTransformer
from fli2moe.task import Task
from fli2moe.tokens import TokenBatch
from fli2moe.training import Trainee
from oracles import losses
from oracles.model import OracleModel


def batch_of(tokens: TokenBatch, classes: int, *, multilabel: bool = False, seed: int = 0) -> Batch:
    """The tokens with labels drawn from a seed."""
    generator, size = torch.Generator().manual_seed(seed), tokens.batch_size
    if multilabel:
        target = torch.randint(2, (size, classes), generator=generator)
        target = target.to(next(iter(tokens.values())).features)
    else:
        target = torch.randint(classes, (size,), generator=generator)
    return Batch(tokens, target, torch.arange(size))


def trainee_of(
    model: FusionTransformer,
    batch: Batch,
    *,
    micro_batch: int | str | None = "auto",
    **options: Any,
) -> Trainee:
    """What trains the model, in its mode; `options` are those of the losses."""
    classes = tuple(f"class {c}" for c in range(model.classes))
    task = Task("multilabel" if batch.target.ndim == 2 else "multiclass", classes)
    modalities = {m: {"encoder": "vector"} for m in model.modalities}
    data = {"path": "-", "labels": task.kind, "modalities": modalities}
    training = {"micro_batch": micro_batch}
    sections = {"preset": "paper", "data": data, "losses": options, "training": training}
    config = Config.from_dict(sections)
    means = {m: torch.zeros(width) for m, width in model.widths.items()}
    mode = model.training
    trainee = Trainee(model, task, config, means, batch.target, 1)
    model.train(mode)
    return trainee


def product_step(trainee: Trainee, batch: Batch, seed: int, *, bf16: bool = False) -> Tensor:
    """Loss of one step of ours, forward and backward; noise follows from the seed."""
    trainee.random.manual_seed(seed)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return trainee.gradients(batch, Tensor.backward).detach()


def oracle_step(oracle: OracleModel, batch: Batch, seed: int, **options: Any) -> Tensor:
    """Loss of one step of the oracle, forward and backward; `options` of `training_loss`."""
    generator = torch.Generator().manual_seed(seed)
    masks = {m: batch.tokens[m].mask for m in oracle.modalities}
    projected = oracle.project(batch.tokens)
    replaced = losses.noise(projected, masks, generator)
    loss = losses.training_loss(oracle, projected, masks, batch.target, replaced, **options)
    loss.backward()
    return loss.detach()

"""fit(): encode once, train with Lightning, return a Predictor. The only file that imports it."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fli2moe.batches import Batch, Batches, EncodedSplit, check_kinds, encode_split
from fli2moe.config import Config
from fli2moe.data.sample import Dataset
from fli2moe.devices import find_device
from fli2moe.errors import InputError
from fli2moe.features import Progress, default_cache
from fli2moe.files import write_json, write_tensors
from fli2moe.history import History, mean_terms
from fli2moe.lightning_guard import interruptible, quiet_lightning
from fli2moe.losses import (
    Objective,
    Step,
    Supervision,
    View,
    check_losses,
    effective_rank,
    run_views,
)
from fli2moe.masking import mask_at_random
from fli2moe.model import FusionTransformer, build_model, masks_of, parameter_count
from fli2moe.predictor import Predictor
from fli2moe.run_folder import load_encoders, refuse_overwriting
from fli2moe.schedule import rate_factor
from fli2moe.task import Task

logger = logging.getLogger(__name__)

CALMER = "lower training.learning_rate or set training.clip"

ProgressEpoch = Callable[[Mapping[str, float]], None]
"""Called after each epoch with its row of the history."""


class Trainee(lightning.LightningModule):
    """The optimisation of one model: task loss, objective, gate, masking, learning rate.

    Randomness of a step (dropout, noise, masking) follows from (seed, step) alone.
    """

    def __init__(
        self,
        model: FusionTransformer,
        task: Task,
        config: Config,
        means: Mapping[str, Tensor],
        target: Tensor,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.model, self.task, self.config = model, task, config
        self.means, self.total_steps = dict(means), total_steps
        self.objective = Objective(config.losses, model, task, target, means)
        balanced = config.training.class_weights == "balanced"
        self.class_weights = task.class_weights(target) if balanced else None
        self.gate_step: int | None = None if config.losses.interaction_schedule == "gated" else 0
        self.running: Tensor | None = None  # smoothed training loss per label
        self.random = torch.Generator()
        self.validation: list[tuple[Tensor, Tensor]] = []
        self.terms: list[Mapping[str, Tensor]] = []  # of this epoch's steps
        self.latents: Tensor | None = None  # of the last step

    @property
    def step_seed(self) -> int:
        """What everything random in the current step follows from."""
        return self.config.seed * 1_000_003 + self.global_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam or AdamW; the router has its own learning rate."""
        options = self.config.training
        router = [p for n, p in self.model.named_parameters() if n.startswith("router.")]
        rest = [p for n, p in self.model.named_parameters() if not n.startswith("router.")]
        groups = [
            {"params": rest, "base": options.learning_rate},
            {"params": router, "base": options.learning_rate * options.router_rate},
            {"params": list(self.objective.parameters()), "base": options.learning_rate},
        ]
        kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
        return kind(
            [g for g in groups if g["params"]],
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
        )

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Moves tokens and labels."""
        return batch.to(device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Reseeds from (seed, step) and sets the learning rate."""
        torch.manual_seed(self.step_seed)
        self.random.manual_seed(self.step_seed)
        config, step = self.config, self.global_step
        factor = rate_factor(config.training, config.losses, step, self.total_steps, self.gate_step)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["base"] * factor

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns task loss + what the objective asks (interaction losses: behind the gate)."""
        tokens, share = batch.tokens, self.config.training.mask_training
        if self.gate_step is not None and share:
            tokens = mask_at_random(tokens, self.means, share, self.random)
        view = View(self.model.project(tokens), masks_of(tokens))
        passes = run_views(self.model, view, self._views(view))
        each = self.task_losses(passes.output.logits, batch.target)
        if self._opens_gate(each.detach()):  # from this step on: run it afresh, with other views
            torch.manual_seed(self.step_seed)
            passes = run_views(self.model, view, self._views(view))
            each = self.task_losses(passes.output.logits, batch.target)
        supervision = Supervision(self.task, batch.target, self.task_losses)
        step = Step(view, passes, supervision, batch.rows, self.current_epoch)
        demands = self.objective(self.model, step)
        loss = sum(demands.weighted, start=each.mean())
        if not bool(torch.isfinite(loss)):
            raise InputError(f"training step {self.global_step}", "loss is not finite", "", CALMER)
        terms = {f"loss_{name}": x for name, x in demands.terms.items()}
        self.terms.append({"train_loss": loss.detach(), "loss_task": each.detach().mean(), **terms})
        self.latents = passes.output.latents.detach()
        return loss

    def _views(self, view: View) -> tuple[View, ...]:
        """Returns the other views of a batch; none while the gate is shut."""
        return () if self.gate_step is None else self.objective.views(self.model, view, self.random)

    def task_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the task loss (B,) or (B, C), with class weights and label smoothing."""
        weights = None if self.class_weights is None else self.class_weights.to(target.device)
        smoothing = self.config.losses.label_smoothing
        return self.task.losses(logits, target, weights=weights, smoothing=smoothing)

    def take_terms(self) -> dict[str, float]:
        """Returns the means of the loss and its terms since the last call, and effective ranks."""
        row, self.terms = mean_terms(self.terms), []
        if self.latents is not None:
            ranks = effective_rank(self.latents).tolist()
            row |= {f"rank_{e}": r for e, r in zip(self.model.experts, ranks, strict=True)}
        return row

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects logits and labels."""
        logits: Tensor = self.model(batch.tokens).logits
        self.validation.append((logits.float().cpu(), batch.target.cpu()))

    def take_validation(self) -> dict[str, float]:
        """Returns validation loss and score since the last call.

        Raises:
            InputError: when the model gives NaN or infinite logits.
        """
        logits = torch.cat([pair[0] for pair in self.validation])
        target = torch.cat([pair[1] for pair in self.validation])
        self.validation = []
        if not bool(torch.isfinite(logits).all()):
            where = f"validation after step {self.global_step}"
            raise InputError(where, "logits are not finite", "", CALMER)
        metrics = self.task.metrics(logits, target)
        score = metrics["macro_f1" if self.task.multilabel else "accuracy"]
        return {
            "val_loss": float(self.task.losses(logits, target).mean()),
            "val_score": float("nan") if score is None else score,
        }

    def _opens_gate(self, each: Tensor) -> bool:
        """Returns whether the gate opens now: the worst label's smoothed loss is low enough."""
        per_label = each.mean(0) if each.ndim == 2 else each.mean()[None]
        self.running = per_label if self.running is None else 0.95 * self.running + 0.05 * per_label
        opens = self.gate_step is None and float(self.running.max()) < self.config.losses.gate_loss
        if opens:
            self.gate_step = self.global_step + 1
            logger.info("gate open at step %d", self.gate_step)
        return opens


class Keeper(Callback):
    """Ends each epoch: its row of the history, the best weights to disk, stop without progress."""

    def __init__(
        self, history: History, checkpoint: Path | None, progress: ProgressEpoch | None
    ) -> None:
        self.history, self.checkpoint, self.progress = history, checkpoint, progress

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Compares this epoch with the best so far."""
        trainee: Trainee = pl_module
        row = {"epoch": float(trainer.current_epoch), **trainee.take_validation()}
        row |= trainee.take_terms()
        row["gate_open"] = float(trainee.gate_step is not None)
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        if self.history.add(row, trainee.model.state_dict()) and self.checkpoint is not None:
            write_tensors(self.checkpoint, self.history.best)
        trainer.should_stop = self.history.out_of_patience
        if self.progress:
            self.progress(row)


def fit(
    config: Config,
    dataset: Dataset,
    out: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    progress_epoch: ProgressEpoch | None = None,
) -> Predictor:
    """Trains the model that `config` names and returns it with its encoders.

    Args:
        config: everything the run needs.
        dataset: with train and val splits.
        out: run folder to write; nothing is written when None.
        cache: folder of the feature cache; `features` beside `out` by default, and a temporary
            one when `out` is None too.
        overwrite: replace a trained model in `out`.
        progress: called while encoding.
        progress_epoch: called after each epoch.

    Raises:
        InputError: when a split is empty, `out` holds a trained model, an input cannot be read, an
            encoder does not read a modality's kind, losses do not fit the data, or the loss
            diverges.
    """
    for name in ("train", "val"):
        if not dataset.split(name):
            raise InputError(dataset.source, f"no {name} samples", "train and val samples")
    check_losses(config)
    folder = None if out is None else Path(out)
    if folder is not None and not overwrite:
        refuse_overwriting(folder)
    if folder is None and cache is None:
        with tempfile.TemporaryDirectory() as passing:
            return _fit(config, dataset, None, Path(passing), progress, progress_epoch)
    cache_folder = default_cache(folder) if cache is None else Path(cache)
    return _fit(config, dataset, folder, cache_folder, progress, progress_epoch)


def _fit(
    config: Config,
    dataset: Dataset,
    folder: Path | None,
    cache: Path,
    progress: Progress | None,
    progress_epoch: ProgressEpoch | None,
) -> Predictor:
    encoders = load_encoders(config)
    check_kinds(dataset, encoders)
    task = Task("multilabel" if dataset.multilabel else "multiclass", dataset.classes)
    started = time.perf_counter()
    train = encode_split(dataset.train, encoders, task, cache, progress)
    val = encode_split(dataset.val, encoders, task, cache, progress)
    encoded = time.perf_counter()
    statistics = train.features.statistics()
    means = {m: s.mean for m, s in statistics.items()}
    with torch.random.fork_rng(), quiet_lightning():
        torch.manual_seed(config.seed)
        widths = {m: e.width for m, e in encoders.items()}
        model = build_model(config.model, widths, len(task.classes))
        if config.model.standardise:
            for m, s in statistics.items():
                model.standardise(m, s.mean, s.deviation)
        history, gate = _train(config, model, task, train, val, means, folder, progress_epoch)
    model.load_state_dict(history.best)
    model.eval().to(find_device(config.device))
    predictor = Predictor(config, task, model, encoders, means)
    if folder is not None:
        predictor.save(folder)
        summary = {
            "parameters": parameter_count(model),
            "best_epoch": history.best_epoch,
            "gate_step": gate,
            "seconds": {"encode": encoded - started, "train": time.perf_counter() - encoded},
            "history": [
                {k: None if math.isnan(v) else v for k, v in row.items()} for row in history.rows
            ],
        }
        write_json(folder / "training.json", summary)
    return predictor


def _train(
    config: Config,
    model: FusionTransformer,
    task: Task,
    train: EncodedSplit,
    val: EncodedSplit,
    means: Mapping[str, Tensor],
    folder: Path | None,
    progress: ProgressEpoch | None,
) -> tuple[History, int | None]:
    options = config.training
    batches = Batches(train, options.batch_size, config.seed)
    trainee = Trainee(model, task, config, means, train.target, options.epochs * len(batches))
    checkpoint = None if folder is None else folder / "checkpoints" / "best.safetensors"
    history = History(options)
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        accelerator=find_device(config.device).type,
        devices=1,
        precision=options.precision,
        gradient_clip_val=options.clip,
        callbacks=[Keeper(history, checkpoint, progress)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with interruptible():
        trainer.fit(trainee, batches, Batches(val, 4 * options.batch_size, None))
    if trainee.gate_step is None:
        logger.warning("the gate never opened: interaction losses and masking were never on")
    return history, trainee.gate_step

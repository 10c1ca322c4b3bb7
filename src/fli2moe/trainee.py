"""One training on Lightning: its steps, its epochs, its stop. The only file that imports it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from fli2moe import ranks
from fli2moe.accumulation import Lesson, Outcome, accumulate
from fli2moe.batches import Batch, Batches
from fli2moe.config import Config, TrainingConfig
from fli2moe.devices import find_device
from fli2moe.errors import InputError
from fli2moe.history import History, mean_terms
from fli2moe.lightning_guard import interruptible
from fli2moe.losses import Objective, Supervision, View, effective_rank
from fli2moe.masking import mask_at_random
from fli2moe.micro_batches import micro_batch_size
from fli2moe.model import FusionModel, masks_of
from fli2moe.resuming import TrainingState, flattened
from fli2moe.schedule import rate_factor
from fli2moe.task import Task
from fli2moe.tokens import TokenBatch

logger = logging.getLogger(__name__)

PATIENCE = timedelta(minutes=10)  # with a process that does not answer
COLLAPSED = 0.99  # mean weight of one expert
CALMER = "lower training.learning_rate or set training.clip"

ProgressEpoch = Callable[[Mapping[str, float]], None]
"""Called after each epoch with its row of the history."""


class Trainee(lightning.LightningModule):
    """The optimisation of one model: task loss, objective, gate, masking, learning rate.

    Randomness of a step follows from (seed, step) alone: noise, partners and masking whatever the
    `micro_batch`, dropout for one `micro_batch`. It steps by itself (Lightning's manual
    optimisation), for only the sum over micro-batches is the gradient that may be clipped.

    As one of several processes it takes the mean of their gradients, once a step: the task loss is
    that of the whole batch; what compares samples (partners of swaps, decorrelation, balance, pid)
    compares those of a process, and means over the samples that have a modality are means of the
    processes' means.
    """

    def __init__(
        self,
        model: FusionModel,
        task: Task,
        config: Config,
        means: Mapping[str, Tensor],
        target: Tensor,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.task, self.config = model, task, config
        self.means, self.total_steps = dict(means), total_steps
        self.objective = Objective(config.losses, model, task, target, means)
        self.class_weights = chosen_weights(config.training, task, target)
        self.gate_step: int | None = None if config.losses.interaction_schedule == "gated" else 0
        self.running: Tensor | None = None  # smoothed training loss per label
        self.random = torch.Generator()
        self.validation: list[tuple[Tensor, Tensor]] = []
        self.weights: list[Tensor] = []  # of the experts, for the validation samples
        self.terms: list[Mapping[str, Tensor]] = []  # of this epoch's steps
        self.latents: Tensor | None = None  # of the last step
        self.resumed: TrainingState | None = None

    def resume(self, state: TrainingState) -> None:
        """Takes over what an interrupted training knew."""
        self.resumed = state
        self.model.load_state_dict(state.part("model"))
        self.objective.load_state_dict(state.part("objective"))
        self.gate_step = state.gate_step
        self.running = state.tensors.get("running")

    def on_train_start(self) -> None:
        """Gives the optimiser what it knew."""
        if not ranks.same_on_ranks(self.step):
            found, expected = "processes find different states in it", "one that they share"
            where = "the run folder"
            raise InputError(where, found, expected, "put --out where all nodes can read it")
        if self.resumed is not None:
            optimizer = self.trainer.optimizers[0]
            optimizer.load_state_dict(self.resumed.optimizer_state(optimizer.state_dict()))

    def state(self, history: History) -> TrainingState:
        """Returns all that is needed to go on after this epoch."""
        tensors = {f"model.{k}": x for k, x in self.model.state_dict().items()}
        tensors |= {f"objective.{k}": x for k, x in self.objective.state_dict().items()}
        tensors |= {f"best.{k}": x for k, x in history.best.items()}
        state = flattened(self.trainer.optimizers[0].state_dict())
        tensors |= {f"optimizer.{k}": x for k, x in state.items()}
        if self.running is not None:
            tensors["running"] = self.running
        # clones: safetensors refuses tensors that share memory
        tensors = {k: x.detach().cpu().clone() for k, x in tensors.items()}
        return TrainingState(self.step, history.rows, history.best_epoch, self.gate_step, tensors)

    @property
    def step(self) -> int:
        """Optimiser steps so far, those before an interruption included."""
        return self.global_step + (0 if self.resumed is None else self.resumed.steps)

    @property
    def epoch(self) -> int:
        """The current epoch, from 0, those before an interruption included."""
        return self.current_epoch + (0 if self.resumed is None else len(self.resumed.rows))

    @property
    def step_seed(self) -> int:
        """What everything random in the current step of this process follows from."""
        return self.config.seed * 1_000_003 + self.step + ranks.rank() * 500_000_003

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
        config, step = self.config, self.step
        factor = rate_factor(config.training, config.losses, step, self.total_steps, self.gate_step)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["base"] * factor

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Takes one step along the gradients of the whole batch; returns its loss."""
        optimizer: Any = self.optimizers()
        loss = self.gradients(batch, self.manual_backward)
        ranks.average_gradients(self.parameters())
        optimizer.step()
        return loss

    def gradients(self, batch: Batch, backward: Callable[[Tensor], None]) -> Tensor:
        """Computes this process' gradients of one step, and returns the loss of all processes.

        Args:
            batch: any number of samples.
            backward: as in `accumulation.accumulate`.

        Raises:
            InputError: when the loss is not finite.
        """
        tokens, share = batch.tokens, self.config.training.mask_training
        if self.gate_step is not None and share:
            tokens = mask_at_random(tokens, self.means, share, self.random)
        outcome = self._learn(batch, tokens, backward)
        if self._opens_gate(outcome.each):  # from this step on: take it afresh, with other views
            torch.manual_seed(self.step_seed)
            outcome = self._learn(batch, tokens, backward)
        loss = ranks.mean_over_ranks(outcome.loss)  # not finite in one: all stop
        if not bool(torch.isfinite(loss)):
            raise InputError(f"training step {self.step}", "loss is not finite", "", CALMER)
        terms = {f"loss_{name}": x for name, x in outcome.terms.items()}
        task = {"train_loss": loss, "loss_task": outcome.each.mean()}
        self.terms.append({**task, **terms})
        self.latents = outcome.latents
        return loss

    def _learn(
        self, batch: Batch, tokens: TokenBatch, backward: Callable[[Tensor], None]
    ) -> Outcome:
        """Computes fresh gradients of what is asked at present: more once the gate is open."""
        self.zero_grad()
        view = View(self.model.project(tokens), masks_of(tokens))
        opened = self.gate_step is not None
        others = self.objective.views(self.model, view, self.random) if opened else ()
        supervision = Supervision(self.task, batch.target, self.task_losses)
        lesson = Lesson(view, others, supervision, batch.rows, self.epoch)
        option, couples = self.config.training.micro_batch, self.objective.couples
        size = micro_batch_size(option, view.masks, couples=couples)
        return accumulate(self.model, self.objective, lesson, size, backward)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips the gradients of the whole step, a loss scale being off them already."""
        clip = self.config.training.clip
        if clip is not None:
            self.clip_gradients(optimizer, gradient_clip_val=clip, gradient_clip_algorithm="norm")

    def task_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the task loss (B,) or (B, C), with class weights and label smoothing."""
        weights = None if self.class_weights is None else self.class_weights.to(target.device)
        smoothing = self.config.losses.label_smoothing
        return self.task.losses(logits, target, weights=weights, smoothing=smoothing)

    def take_terms(self) -> dict[str, float]:
        """Returns the means of the loss and its terms since the last call, and effective ranks.

        Of several processes: the loss is that of all, its terms are of this one's samples.
        """
        row, self.terms = mean_terms(self.terms), []
        if self.latents is not None:
            ranks = effective_rank(self.latents).tolist()
            row |= {f"rank_{e}": r for e, r in zip(self.model.experts, ranks, strict=True)}
        return row

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects logits, in full precision whatever the training's, and labels."""
        with torch.autocast(self.device.type, enabled=False):
            output = self.model(batch.tokens)
        self.validation.append((output.logits.float().cpu(), batch.target.cpu()))
        self.weights.append(output.weights.float().cpu())

    def take_validation(self) -> dict[str, float]:
        """Returns validation loss and score since the last call.

        Raises:
            InputError: when the model gives NaN or infinite logits.
        """
        logits = ranks.gather_rows(torch.cat([pair[0] for pair in self.validation]))
        target = ranks.gather_rows(torch.cat([pair[1] for pair in self.validation]))
        self.validation = []
        if not bool(torch.isfinite(logits).all()):
            where = f"validation after step {self.step}"
            raise InputError(where, "logits are not finite", "", CALMER)
        metrics = self.task.metrics(logits, target)
        score = metrics["macro_f1" if self.task.multilabel else "accuracy"]
        return {
            "val_loss": float(self.task.losses(logits, target).mean()),
            "val_score": float("nan") if score is None else score,
        }

    def take_weights(self) -> dict[str, float]:
        """Returns each expert's mean router weight over the validation samples."""
        means = ranks.gather_rows(torch.cat(self.weights)).mean(0).tolist()
        self.weights = []
        return dict(zip(self.model.experts, means, strict=True))

    def _opens_gate(self, each: Tensor) -> bool:
        """Returns whether the gate opens now: the worst label's smoothed loss is low enough."""
        per_label = ranks.mean_over_ranks(each.mean(0) if each.ndim == 2 else each.mean()[None])
        self.running = per_label if self.running is None else 0.95 * self.running + 0.05 * per_label
        opens = self.gate_step is None and float(self.running.max()) < self.config.losses.gate_loss
        if opens:
            self.gate_step = self.step + 1
            logger.info("gate open at step %d", self.gate_step)
        return opens


def chosen_weights(training: TrainingConfig, task: Task, target: Tensor) -> Tensor | None:
    """Returns the class weights (C,) that a configuration asks for; None where it asks for none.

    Args:
        training: `class_weights`.
        task: what the labels are.
        target: of the training split, as `Task.encode` returns it.
    """
    if training.class_weights == "none":
        return None
    if training.class_weights == "balanced":
        return task.class_weights(target)
    return task.named_weights(training.class_weights)


class _OneModel(DDPStrategy):
    """Lightning's processes without its wrapper: a step may run backward often, and sums once."""

    def configure_ddp(self) -> None:
        """Leaves the model as it is; `Trainee` averages the gradients."""


class Keeper(Callback):
    """Ends each epoch: its row of the history, all that is needed to go on, stop if no progress."""

    def __init__(
        self,
        history: History,
        keep: Callable[[TrainingState], None],
        progress: ProgressEpoch | None,
    ) -> None:
        self.history, self.keep, self.progress = history, keep, progress
        self.weights: dict[str, float] = {}

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Compares this epoch with the best so far."""
        trainee: Trainee = pl_module
        row = {"epoch": float(trainee.epoch), **trainee.take_validation()}
        row |= trainee.take_terms()
        self.weights = trainee.take_weights()
        row["gate_open"] = float(trainee.gate_step is not None)
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.history.add(row, trainee.model.state_dict())
        self.keep(trainee.state(self.history))
        trainer.should_stop = self.history.out_of_patience
        figures = {name: value for name, value in row.items() if name != "epoch"}
        for log in trainer.loggers:
            log.log_metrics(figures, step=trainee.epoch)
            log.save()
        if self.progress:
            self.progress(row)


def run_training(
    trainee: Trainee,
    train: Batches,
    val: Batches,
    keep: Callable[[TrainingState], None],
    progress: ProgressEpoch | None,
    loggers: Sequence[Logger] = (),
) -> History:
    """Trains to the last epoch or until there is no progress, and returns what was seen.

    Args:
        trainee: what is trained, in place; it goes on where it was `resume`d.
        train: batches of the training split.
        val: batches of the validation split.
        keep: called with the whole state after each epoch.
        progress: called after each epoch.
        loggers: of Lightning; each gets the row of the history after each epoch.
    """
    config, options = trainee.config, trainee.config.training
    history = History(options)
    if trainee.resumed is not None:
        rows = list(trainee.resumed.rows)
        history = History(options, rows, trainee.resumed.part("best"), trainee.resumed.best_epoch)
        train.epoch = len(rows)
        if history.out_of_patience or len(rows) >= options.epochs:
            return history
    keeper = Keeper(history, keep, progress)
    trainer = lightning.Trainer(
        max_epochs=options.epochs - len(history.rows),
        accelerator=find_device(config.device).type,
        devices=options.devices,
        num_nodes=options.nodes,
        strategy=_OneModel(timeout=PATIENCE) if options.processes > 1 else "auto",
        use_distributed_sampler=False,  # the batches are divided already
        precision=options.precision,
        callbacks=[keeper],
        logger=list(loggers) or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with interruptible():
        trainer.fit(trainee, train, val)
    if trainee.gate_step is None:
        logger.warning("the gate never opened: interaction losses and masking were never on")
    for expert, weight in keeper.weights.items() if len(keeper.weights) > 1 else ():
        if weight > COLLAPSED:
            text = (
                "the router has collapsed: %s gets %.1f%% of the weight, so that the other experts"
            )
            logger.warning(
                text + " say nothing; try a higher model.router.temperature", expert, 100 * weight
            )
    return history

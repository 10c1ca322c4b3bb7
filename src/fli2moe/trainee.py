"""One training on Lightning: its steps, one at a time; `training_run` has the epochs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning
import torch
from torch import Tensor

from fli2moe import ranks
from fli2moe.accumulation import Lesson, Outcome, accumulate
from fli2moe.batches import Batch
from fli2moe.config import Config, TrainingConfig
from fli2moe.devices import in_memory
from fli2moe.errors import InputError, MachineError
from fli2moe.history import History, mean_terms
from fli2moe.losses import Objective, Supervision, View, effective_rank
from fli2moe.masking import mask_at_random
from fli2moe.micro_batches import micro_batch_size
from fli2moe.model import FusionModel, masks_of
from fli2moe.resuming import TrainingState, flattened
from fli2moe.schedule import rate_factor
from fli2moe.task import Task
from fli2moe.tokens import TokenBatch

logger = logging.getLogger(__name__)

CALMER = "lower training.learning_rate or set training.clip"


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
        names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.task, self.config = model, task, config
        self.means, self.total_steps = dict(means), total_steps
        self.names = names  # ids of the training samples, for messages
        self.at_once: int | None = None  # fewer samples than asked for, once memory ran out
        self.left_out = 0  # steps of this epoch
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
        if self._is_finite(loss):
            optimizer.step()
        else:
            self._leave_out(batch)
        return loss

    def on_train_epoch_start(self) -> None:
        """Forgives the last epoch its bad steps."""
        self.left_out = 0

    def _is_finite(self, loss: Tensor) -> bool:
        """Returns whether a step can be taken; a loss scale sees to the gradients itself."""
        if not bool(torch.isfinite(loss)):
            return False
        if self.config.training.precision == "16-mixed":
            return True
        found = [p.grad for p in self.parameters() if p.grad is not None]
        return not found or bool(torch.isfinite(torch.nn.utils.get_total_norm(found)))

    def _leave_out(self, batch: Batch) -> None:
        """Takes no step, and says so.

        Raises:
            InputError: when this has happened too often in this epoch; it names samples.
        """
        self.left_out += 1
        self.terms.pop()
        names = [self.names[i] for i in batch.rows.tolist()] if self.names else []
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        said = "loss or gradient is not finite" + (f" with the samples {shown}" if names else "")
        most = min(self.config.training.skip_steps, self.trainer.num_training_batches - 1)
        if self.left_out > most:
            raise InputError(f"training step {self.step}", said, "", CALMER)
        logger.warning("no step taken (%d of %d that may be): %s", self.left_out, most, said)

    def gradients(self, batch: Batch, backward: Callable[[Tensor], None]) -> Tensor:
        """Computes this process' gradients of one step, and returns the loss of all processes.

        Args:
            batch: any number of samples.
            backward: as in `accumulation.accumulate`.

        Raises:
            MachineError: when memory is too small for a single sample.
        """
        tokens, share = batch.tokens, self.config.training.mask_training
        if self.gate_step is not None and share:
            tokens = mask_at_random(tokens, self.means, share, self.random)
        outcome = self._learn(batch, tokens, backward)
        if self._opens_gate(outcome.each):  # from this step on: take it afresh, with other views
            torch.manual_seed(self.step_seed)
            outcome = self._learn(batch, tokens, backward)
        loss = ranks.mean_over_ranks(outcome.loss)  # not finite in one: all see it
        terms = {f"loss_{name}": x for name, x in outcome.terms.items()}
        task = {"train_loss": loss, "loss_task": outcome.each.mean()}
        self.terms.append({**task, **terms})
        self.latents = outcome.latents
        return loss

    def _learn(
        self, batch: Batch, tokens: TokenBatch, backward: Callable[[Tensor], None]
    ) -> Outcome:
        """Computes fresh gradients; with ever fewer samples at once where memory runs out."""
        drawn = self.random.get_state()
        asked = self._samples_at_once(tokens)
        most = asked or len(batch.rows)

        def learn(size: int) -> Outcome:
            if size == most:
                return self._learn_parts(batch, tokens, asked, backward)
            torch.manual_seed(self.step_seed)  # again, with what was drawn before
            self.random.set_state(drawn)
            return self._learn_parts(batch, tokens, size, backward)

        where, found = f"training step {self.step}", "out of memory with one sample"
        too_small = MachineError(where, found, "", "use a smaller model or device")
        outcome, size = in_memory(learn, most, "samples", too_small)
        if size < most:
            self.at_once = size
        return outcome

    def _samples_at_once(self, tokens: TokenBatch) -> int | None:
        option, couples = self.config.training.micro_batch, self.objective.couples
        size = micro_batch_size(option, masks_of(tokens), couples=couples)
        sizes = [n for n in (size, self.at_once) if n is not None]
        return min(sizes) if sizes else None

    def _learn_parts(
        self,
        batch: Batch,
        tokens: TokenBatch,
        size: int | None,
        backward: Callable[[Tensor], None],
    ) -> Outcome:
        """Computes fresh gradients of what is asked at present: more once the gate is open."""
        self.zero_grad()
        view = View(self.model.project(tokens), masks_of(tokens))
        opened = self.gate_step is not None
        others = self.objective.views(self.model, view, self.random) if opened else ()
        supervision = Supervision(self.task, batch.target, self.task_losses)
        lesson = Lesson(view, others, supervision, batch.rows, self.epoch)
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

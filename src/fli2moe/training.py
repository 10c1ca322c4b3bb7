"""fit(): encode once, train with Lightning, return a Predictor. The only file that imports it."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fli2moe.config import Config
from fli2moe.data.sample import Dataset, Sample
from fli2moe.encoders import Encoder
from fli2moe.errors import InputError
from fli2moe.features import Features, Progress, encode_samples
from fli2moe.files import complete_file, write_json
from fli2moe.losses import interaction_losses
from fli2moe.masking import mask_at_random
from fli2moe.model import FusionTransformer, build_model, masks_of, parameter_count
from fli2moe.predictor import Predictor
from fli2moe.run_folder import load_encoders
from fli2moe.task import Task
from fli2moe.tokens import TokenBatch

logger = logging.getLogger(__name__)

ProgressEpoch = Callable[[Mapping[str, float]], None]
"""Called after each epoch with its row of the history."""


@dataclass(frozen=True)
class EncodedSplit:
    """The features and labels of one split, served in batches."""

    features: Features
    target: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, index: Sequence[int]) -> tuple[TokenBatch, Tensor]:
        """Returns the tokens and the labels of the samples at `index`."""
        return self.features.batch(index), self.target[list(index)]


class Batches:
    """An iterable over batches of a split; each epoch's order follows from (seed, epoch)."""

    def __init__(self, split: EncodedSplit, size: int, seed: int | None) -> None:
        self.split, self.size, self.seed, self.epoch = split, size, seed, 0

    def __len__(self) -> int:
        if self.seed is None:
            return -(-len(self.split) // self.size)
        return max(1, len(self.split) // self.size)  # a last partial training batch is left out

    def __iter__(self) -> Iterator[tuple[TokenBatch, Tensor]]:
        order = torch.arange(len(self.split))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
            order = torch.randperm(len(self.split), generator=generator)
            self.epoch += 1
        for step in range(len(self)):
            index = order[step * self.size : (step + 1) * self.size].tolist()
            yield self.split.rows(index)


class Trainee(lightning.LightningModule):
    """The optimisation of one model: task loss, interaction losses, gate, masking, learning rate.

    Randomness of a step (dropout, noise, masking) follows from (seed, step) alone.
    """

    def __init__(
        self,
        model: FusionTransformer,
        task: Task,
        config: Config,
        means: Mapping[str, Tensor],
        class_weights: Tensor | None,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.model, self.task, self.config = model, task, config
        self.means, self.class_weights, self.total_steps = dict(means), class_weights, total_steps
        self.gate_step: int | None = None if config.losses.interaction_schedule == "gated" else 0
        self.running: Tensor | None = None  # smoothed training loss per label
        self.random = torch.Generator()
        self.validation: list[tuple[Tensor, Tensor]] = []
        self.epoch_losses: list[Tensor] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam or AdamW; the router has its own learning rate."""
        options = self.config.training
        router = [p for n, p in self.model.named_parameters() if n.startswith("router.")]
        rest = [p for n, p in self.model.named_parameters() if not n.startswith("router.")]
        groups = [
            {"params": rest, "base": options.learning_rate},
            {"params": router, "base": options.learning_rate * options.router_rate},
        ]
        kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
        return kind(
            [g for g in groups if g["params"]],
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
        )

    def transfer_batch_to_device(
        self, batch: tuple[TokenBatch, Tensor], device: torch.device, dataloader_idx: int
    ) -> tuple[TokenBatch, Tensor]:
        """Moves tokens and labels."""
        return batch[0].to(device), batch[1].to(device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Reseeds from (seed, step) and sets the learning rate."""
        seed = self.config.seed * 1_000_003 + self.global_step
        torch.manual_seed(seed)
        self.random.manual_seed(seed)
        factor = self._rate_factor()
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["base"] * factor

    def training_step(self, batch: tuple[TokenBatch, Tensor], batch_idx: int) -> Tensor:
        """Returns task loss + lambda_int * interaction losses (once the gate is open)."""
        tokens, target = batch
        losses, training = self.config.losses, self.config.training
        if self.gate_step is not None and training.mask_training:
            tokens = mask_at_random(tokens, self.means, training.mask_training, self.random)
        projected, masks = self.model.project(tokens), masks_of(tokens)
        output = self.model.fuse(projected, masks)
        each = self.task.losses(
            output.logits, target, weights=self.class_weights, smoothing=losses.label_smoothing
        )
        loss = each.mean()
        self._watch_gate(each.detach())
        mixture = len(self.model.experts) > 1
        if mixture and losses.interaction and self.gate_step is not None:
            rows = max(2, round(losses.noise_fraction * len(target)))
            interaction = interaction_losses(
                self.model,
                {m: x[:rows] for m, x in projected.items()},
                {m: x[:rows] for m, x in masks.items()},
                output.latents[:rows],
                self.random,
                synergy_floor=losses.synergy_floor,
            )
            loss = loss + losses.interaction * interaction.total
        if not bool(torch.isfinite(loss)):
            remedy = "lower training.learning_rate or set training.clip"
            raise InputError(f"training step {self.global_step}", "loss is not finite", "", remedy)
        self.epoch_losses.append(loss.detach())
        return loss

    def validation_step(self, batch: tuple[TokenBatch, Tensor], batch_idx: int) -> None:
        """Collects logits and labels."""
        self.validation.append((self.model(batch[0]).logits.float().cpu(), batch[1].cpu()))

    def take_validation(self) -> dict[str, float]:
        """Returns validation loss and score since the last call."""
        logits = torch.cat([pair[0] for pair in self.validation])
        target = torch.cat([pair[1] for pair in self.validation])
        self.validation = []
        metrics = self.task.metrics(logits, target)
        score = metrics["macro_f1" if self.task.multilabel else "accuracy"]
        return {
            "val_loss": float(self.task.losses(logits, target).mean()),
            "val_score": float("nan") if score is None else score,
        }

    def _watch_gate(self, each: Tensor) -> None:
        """Opens the gate once the worst label's smoothed training loss is below the threshold."""
        per_label = each.mean(0) if each.ndim == 2 else each.mean()[None]
        self.running = per_label if self.running is None else 0.95 * self.running + 0.05 * per_label
        if self.gate_step is None and float(self.running.max()) < self.config.losses.gate_loss:
            self.gate_step = self.global_step + 1
            logger.info("gate open at step %d", self.gate_step)

    def _rate_factor(self) -> float:
        options, step = self.config.training, self.global_step
        warmup = options.warmup_epochs * self.total_steps / options.epochs
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.config.losses.interaction_schedule == "gated":
            if self.gate_step is None:
                return 1.0
            left = (self.total_steps - step) / max(1, self.total_steps - self.gate_step)
            return max(0.02, left)
        if options.schedule == "cosine":
            done = (step - warmup) / max(1.0, self.total_steps - warmup)
            return float(0.5 * (1 + torch.cos(torch.tensor(done * torch.pi))))
        return 1.0


@dataclass
class Keeper(Callback):
    """Keeps the weights of the best validation epoch, stops without progress, writes history."""

    config: Config
    checkpoint: Path | None
    progress: ProgressEpoch | None
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = -1

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Compares this epoch with the best so far."""
        trainee: Trainee = pl_module
        row = {"epoch": float(trainer.current_epoch), **trainee.take_validation()}
        row["train_loss"] = float(torch.stack(trainee.epoch_losses).mean())
        row["gate_open"] = float(trainee.gate_step is not None)
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        trainee.epoch_losses = []
        self.history.append(row)
        if self._improved(row):
            self.best_epoch = len(self.history) - 1
            self.best = {k: v.detach().cpu().clone() for k, v in trainee.model.state_dict().items()}
            if self.checkpoint is not None:
                from safetensors.torch import save_file

                with complete_file(self.checkpoint) as temporary:
                    save_file(self.best, temporary)
        elif len(self.history) - 1 - self.best_epoch >= self.config.training.patience:
            trainer.should_stop = True
        if self.progress:
            self.progress(row)

    def _improved(self, row: Mapping[str, float]) -> bool:
        if self.best_epoch < 0:
            return True
        best = self.history[self.best_epoch]
        if row["gate_open"] > best["gate_open"]:  # before the gate the model is not yet this model
            return True
        if self.config.training.monitor == "score":
            return row["val_score"] > best["val_score"]
        return row["val_loss"] < best["val_loss"]


def fit(
    config: Config,
    dataset: Dataset,
    out: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    progress_epoch: ProgressEpoch | None = None,
) -> Predictor:
    """Trains the model that `config` names and returns it with its encoders.

    Args:
        config: everything the run needs.
        dataset: with train and val splits.
        out: run folder to write; nothing is written when None.
        cache: folder of the feature cache; `features` beside `out` by default.
        progress: called while encoding.
        progress_epoch: called after each epoch.

    Raises:
        InputError: when a split is empty, an input cannot be read, or the loss diverges.
    """
    folder = None if out is None else Path(out)
    cache_folder = Path(cache) if cache else default_cache(folder)
    for name in ("train", "val"):
        if not dataset.split(name):
            raise InputError(dataset.source, f"no {name} samples", "train and val samples")
    encoders = load_encoders(config)
    task = Task("multilabel" if dataset.multilabel else "multiclass", dataset.classes)
    started = time.perf_counter()
    train, val = (
        encode_split(dataset.split(s), encoders, task, cache_folder, progress)
        for s in ("train", "val")
    )
    encoded = time.perf_counter()
    statistics = train.features.statistics()
    means = {m: s.mean for m, s in statistics.items()}
    with torch.random.fork_rng(), _quiet_lightning():
        torch.manual_seed(config.seed)
        widths = {m: e.width for m, e in encoders.items()}
        model = build_model(config.model, widths, len(task.classes))
        if config.model.standardise:
            for m, s in statistics.items():
                model.standardise(m, s.mean, s.deviation)
        keeper, gate = _train(config, model, task, train, val, means, folder, progress_epoch)
    model.load_state_dict(keeper.best)
    predictor = Predictor(config, task, model.eval(), encoders, means)
    if folder is not None:
        predictor.save(folder)
        summary = {
            "parameters": parameter_count(model),
            "best_epoch": keeper.best_epoch,
            "gate_step": gate,
            "seconds": {"encode": encoded - started, "train": time.perf_counter() - encoded},
            "history": keeper.history,
        }
        write_json(folder / "training.json", summary)
    return predictor


def encode_split(
    samples: Sequence[Sample],
    encoders: Mapping[str, Encoder],
    task: Task,
    cache: Path,
    progress: Progress | None = None,
) -> EncodedSplit:
    """Returns features (from the cache where they are there) and labels of some samples."""
    features = encode_samples(samples, encoders, cache, progress)
    return EncodedSplit(features, task.encode([s.labels for s in samples]))


def default_cache(out: Path | None) -> Path:
    """Returns the folder `features` beside the run folder, or in the working directory."""
    return (out.resolve().parent if out is not None else Path.cwd()) / "features"


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keeps Lightning's hints about hardware and products off the user's terminal."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        log.setLevel(level)


def _train(
    config: Config,
    model: FusionTransformer,
    task: Task,
    train: EncodedSplit,
    val: EncodedSplit,
    means: Mapping[str, Tensor],
    folder: Path | None,
    progress: ProgressEpoch | None,
) -> tuple[Keeper, int | None]:
    options = config.training
    batches = Batches(train, options.batch_size, config.seed)
    weights = task.class_weights(train.target) if options.class_weights == "balanced" else None
    trainee = Trainee(model, task, config, means, weights, options.epochs * len(batches))
    checkpoint = None if folder is None else folder / "checkpoints" / "best.safetensors"
    keeper = Keeper(config, checkpoint, progress)
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        accelerator="auto",
        devices=1,
        precision=options.precision,
        gradient_clip_val=options.clip,
        callbacks=[keeper],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(trainee, batches, Batches(val, 4 * options.batch_size, None))
    if trainee.gate_step is None:
        logger.warning("the gate never opened: interaction losses and masking were never on")
    return keeper, trainee.gate_step

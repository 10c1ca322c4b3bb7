"""A training on Lightning: its epochs, its devices, its stop; `trainee` has the steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy

from fli2moe import ranks
from fli2moe.batches import Batches
from fli2moe.devices import find_device
from fli2moe.errors import MachineError
from fli2moe.history import History
from fli2moe.lightning_guard import Interruptions, interruptible
from fli2moe.resuming import TrainingState
from fli2moe.trainee import Trainee

logger = logging.getLogger(__name__)

COLLAPSED = 0.99  # mean weight of one expert
PATIENCE = timedelta(minutes=10)  # with a process that does not answer

ProgressEpoch = Callable[[Mapping[str, float]], None]
"""Called after each epoch with its row of the history."""


class OneModel(DDPStrategy):
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
        self.interruptions = Interruptions()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Sees to signals itself from now on."""
        self.interruptions.answer_alone()

    def on_train_batch_start(self, *_: Any) -> None:
        """Ends the training where Ctrl-C was dropped."""
        self.interruptions.check()

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
        strategy=OneModel(timeout=PATIENCE) if options.processes > 1 else "auto",
        use_distributed_sampler=False,  # the batches are divided already
        precision=options.precision,
        callbacks=[keeper],
        logger=list(loggers) or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    try:
        with interruptible() as interruptions:
            keeper.interruptions = interruptions
            trainer.fit(trainee, train, val)
    except RuntimeError as error:  # what ending says after another process was lost
        if isinstance(error.__context__, ranks.LostError):
            raise error.__context__ from None
        raise
    except OSError as error:  # of a logger, which Lightning asks once more when it fails
        found = f"cannot write: {error.strerror or error}"
        raise MachineError("log of the training", found, "", "free space or rights") from error
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

"""Loggers of a training by name; any other of Lightning's is given to `fit` as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fli2moe.errors import MachineError, unknown_name

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

FOLDER = "log"


def loggers_of(names: Sequence[str], out: Path) -> list[Logger]:
    """Returns loggers that write to `out/log`; what an earlier training left there is removed.

    Args:
        names: `csv` (metrics.csv) and `tensorboard` (events for `tensorboard --logdir`).
        out: the run folder.

    Raises:
        InputError: for another name.
        MachineError: when TensorBoard is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise unknown_name("--log", "logger", name, LOGGERS)
    if names:
        shutil.rmtree(out / FOLDER, ignore_errors=True)
    return [LOGGERS[name](out) for name in dict.fromkeys(names)]


def _csv(out: Path) -> Logger:
    from lightning.pytorch.loggers import CSVLogger

    return CSVLogger(out, name="", version=FOLDER, flush_logs_every_n_steps=1)


def _tensorboard(out: Path) -> Logger:
    if find_spec("tensorboard") is None:
        remedy = 'pip install "fli2moe[tensorboard]"'
        raise MachineError("package:tensorboard", "is not installed", "", remedy)
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(out, name="", version=FOLDER)


LOGGERS: dict[str, Callable[[Path], Logger]] = {"csv": _csv, "tensorboard": _tensorboard}
"""{name: makes the logger of a run folder}."""

"""Figures of each epoch, written as they come."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, Logger

from fli2moe.config import Config
from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError, MachineError
from fli2moe.runs import train_run
from fli2moe.training import fit

Make = Callable[..., Config]


class Kept(Logger):
    """A logger of somebody else's."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    name = "kept"
    version = "0"

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Not asked for."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))


def test_the_csv_has_a_row_for_each_epoch(make_config: Make, tmp_path: Path):
    rows: list[dict[str, float]] = []
    keep = lambda name, row: rows.append(dict(row))  # noqa: E731
    for _ in range(2):  # the second training replaces the first one's log
        rows.clear()
        train_run(make_config(), tmp_path / "run", overwrite=True, log=["csv"], progress_epoch=keep)
    with (tmp_path / "run" / "log" / "metrics.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [int(row["step"]) for row in found] == [0, 1]
    for row, kept in zip(found, rows, strict=True):
        assert float(row["val_loss"]) == pytest.approx(kept["val_loss"], rel=1e-5)
        assert float(row["train_loss"]) == pytest.approx(kept["train_loss"], rel=1e-5)


def test_tensorboard_reads_its_events(make_config: Make, tmp_path: Path):
    reason = "needs `pip install tensorboard`"
    pytest.importorskip("tensorboard", reason=reason)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_run(make_config(), tmp_path / "run", log=["tensorboard"])
    events = EventAccumulator(str(tmp_path / "run" / "log")).Reload()
    assert [event.step for event in events.Scalars("val_loss")] == [0, 1]


def test_any_logger_of_lightning_gets_the_figures(make_config: Make, dataset: Dataset):
    kept = Kept()
    fit(make_config(), dataset, loggers=[kept])
    assert [step for step, _ in kept.rows] == [0, 1]
    assert {"train_loss", "val_loss", "val_score"} <= set(kept.rows[0][1])


def test_what_cannot_be_is_one_line(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(InputError, match=r"logger 'tensorbord'.*'tensorboard'"):
        train_run(make_config(), tmp_path / "run", log=["tensorbord"])
    monkeypatch.setattr("fli2moe.loggers.find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"fli2moe\[tensorboard\]"):
        train_run(make_config(), tmp_path / "run", log=["tensorboard"])
    assert not (tmp_path / "run" / "predictor.json").exists()


def test_a_log_that_cannot_be_written_is_one_line(
    make_config: Make, dataset: Dataset, tmp_path: Path
):
    class Full(CSVLogger):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            raise OSError(28, "No space left on device")

    log = Full(tmp_path, name="", version="log")
    with pytest.raises(MachineError, match="log of the training: cannot write: No space left"):
        fit(make_config(), dataset, tmp_path / "run", loggers=[log])
    assert (tmp_path / "run" / "checkpoints" / "state.safetensors").is_file()

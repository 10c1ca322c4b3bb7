"""fit(): encode once, train, return a Predictor."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fli2moe import ranks
from fli2moe.batches import Batches, check_kinds, encode_split
from fli2moe.config import Config
from fli2moe.data.permuted import permuted_labels
from fli2moe.data.sample import Dataset
from fli2moe.devices import find_device
from fli2moe.encoders import Encoder
from fli2moe.errors import InputError
from fli2moe.features import Progress, default_cache
from fli2moe.files import write_json, write_tensors
from fli2moe.history import rows_to_json
from fli2moe.lightning_guard import quiet_lightning
from fli2moe.losses import check_losses
from fli2moe.model import build_model, parameter_count
from fli2moe.predictor import Predictor
from fli2moe.resuming import TrainingState, identity_of, read_state, write_state
from fli2moe.run_folder import UNFINISHED, forget_results, load_encoders, refuse_overwriting
from fli2moe.task import Task
from fli2moe.trainee import Trainee
from fli2moe.training_run import ProgressEpoch, run_training

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

logger = logging.getLogger(__name__)


def fit(
    config: Config,
    dataset: Dataset,
    out: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    overwrite: bool = False,
    encoders: Mapping[str, Encoder] | None = None,
    progress: Progress | None = None,
    progress_epoch: ProgressEpoch | None = None,
    loggers: Sequence[Logger] = (),
) -> Predictor:
    """Trains the model that `config` names and returns it with its encoders.

    Args:
        config: everything the run needs.
        dataset: with train and val splits.
        out: run folder to write; nothing is written when None. A training that was interrupted
            there goes on after its last epoch.
        cache: folder of the feature cache; `features` beside `out` by default, and a temporary
            one when `out` is None too.
        overwrite: replace a trained model in `out`.
        encoders: {modality: encoder} of one's own, in place of those that the config names;
            `Predictor.load` then wants them too.
        progress: called while encoding.
        progress_epoch: called after each epoch.
        loggers: of Lightning (see `fli2moe.loggers`); each gets every epoch's figures.

    Raises:
        InputError: when a split is empty, `out` holds a trained model, an input cannot be read, an
            encoder does not read a modality's kind, losses do not fit the data, the loss diverges,
            or `out` holds an unfinished training of something else.
    """
    for name in ("train", "val"):
        if not dataset.split(name):
            raise InputError(dataset.source, f"no {name} samples", "train and val samples")
    check_losses(config)
    _check_processes(config, dataset)
    if config.training.permute_labels:
        dataset = permuted_labels(dataset, config.seed)
    folder = None if out is None else Path(out)
    if folder is not None:
        if not overwrite:
            refuse_overwriting(folder)
        elif ranks.speaks(config.training.processes):
            (folder / UNFINISHED).unlink(missing_ok=True)
    found = load_encoders(config, encoders)
    reports = (progress, progress_epoch, loggers)
    if folder is None and cache is None:
        with tempfile.TemporaryDirectory() as passing:
            return _fit(config, dataset, found, None, Path(passing), overwrite, *reports)
    cache_folder = default_cache(folder) if cache is None else Path(cache)
    return _fit(config, dataset, found, folder, cache_folder, overwrite, *reports)


def _check_processes(config: Config, dataset: Dataset) -> None:
    """Refuses several devices where this process is alone, or has nothing to share out.

    Raises:
        InputError: naming the option.
    """
    options = config.training
    total, size = options.processes, options.batch_size
    if total == 1:
        return
    if not ranks.is_rank():
        found = f"{total} in all, in a process that is alone"
        remedy = "start it with `fli2moe train`, torchrun or srun"
        raise InputError("training.devices", found, "as many processes", remedy)
    if size % total or size < 2 * total:
        found = f"{size} for {total} processes"
        expected = f"a multiple of {total}, two samples each"
        raise InputError("training.batch_size", found, expected)
    for split, least in (("train", size), ("val", total)):
        if len(dataset.split(split)) < least:
            found = f"{len(dataset.split(split))} {split} samples for {total} processes"
            raise InputError(dataset.source, found, f"{least} or more", "use fewer devices")


def _task_of(config: Config, dataset: Dataset) -> Task:
    one = "binary" if config.data.labels == "binary" else "multiclass"
    task = Task("multilabel" if dataset.multilabel else one, dataset.classes)
    weights = config.training.class_weights
    if not isinstance(weights, str):
        task.named_weights(weights)  # refuses an unknown class before anything is encoded
    return task


def _fit(
    config: Config,
    dataset: Dataset,
    encoders: Mapping[str, Encoder],
    folder: Path | None,
    cache: Path,
    overwrite: bool,
    progress: Progress | None,
    progress_epoch: ProgressEpoch | None,
    loggers: Sequence[Logger],
) -> Predictor:
    check_kinds(dataset, encoders)
    speaks = ranks.speaks(config.training.processes)
    task = _task_of(config, dataset)
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
        size = config.training.batch_size
        batches = Batches(train, size, config.seed)
        steps = config.training.epochs * len(batches)
        names = [sample.id for sample in dataset.train]
        trainee = Trainee(model, task, config, means, train.target, steps, names)
        later = Batches(val, 4 * size, None)
        identity = identity_of(config, train, val)
        path = None if folder is None else folder / UNFINISHED
        if path is not None and not overwrite and (state := read_state(path, identity)):
            trainee.resume(state)
            logger.warning("going on after epoch %d of an interrupted training", len(state.rows))

        def keep(state: TrainingState) -> None:
            if path is None or not speaks:
                return
            if state.best_epoch == len(state.rows) - 1:
                write_tensors(path.with_name("best.safetensors"), state.part("best"))
            write_state(path, state, identity)

        history = run_training(trainee, batches, later, keep, progress_epoch, loggers)
    model.load_state_dict(history.best)
    model.eval().to(find_device(config.device))
    predictor = Predictor(config, task, model, encoders, means)
    if folder is not None and speaks:
        summary = {
            "fingerprint": predictor.fingerprint,
            "parameters": parameter_count(model),
            "best_epoch": history.best_epoch,
            "gate_step": trainee.gate_step,
            "seconds": {"encode": encoded - started, "train": time.perf_counter() - encoded},
            "history": rows_to_json(history.rows),
        }
        forget_results(folder)
        write_json(folder / "training.json", summary)  # first: the card shows its figures
        predictor.save(folder)
        (folder / UNFINISHED).unlink(missing_ok=True)
    return predictor

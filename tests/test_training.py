"""Training: repeatable, gated, stopped early; the encoders and the process stay as they were."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import random
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fli2moe import trainee, training, training_run
from fli2moe.batches import Batches, encode_split
from fli2moe.config import Config, LossConfig, TrainingConfig
from fli2moe.data.sample import Dataset, Sample
from fli2moe.encoders import load_encoder
from fli2moe.errors import InputError, MachineError
from fli2moe.history import History
from fli2moe.lightning_guard import interruptible
from fli2moe.losses import objective
from fli2moe.predictor import Predictor
from fli2moe.schedule import FLOOR, rate_factor
from fli2moe.task import Task
from fli2moe.trainee import Trainee
from fli2moe.training import fit

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def weights(predictor: Predictor) -> dict[str, torch.Tensor]:
    return predictor.model.state_dict()


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def open_gate(**losses: Any) -> dict[str, Any]:
    return {"interaction_schedule": "constant", **losses}


def test_same_seed_same_weights_bit_for_bit(make_config: MakeConfig, dataset: Dataset, cache: Path):
    config = make_config(
        losses=open_gate(interaction=0.5), model={"dropout": 0.2}, training={"mask_training": 0.5}
    )
    first = fit(config, dataset, cache=cache)
    torch.manual_seed(99)  # what stood in the global generator does not matter
    assert same(weights(first), weights(fit(config, dataset, cache=cache)))
    other = fit(config.model_copy(update={"seed": 1}), dataset, cache=cache)
    assert not same(weights(first), weights(other))


def test_the_process_is_left_as_it_was(
    make_config: MakeConfig,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def refuse(*_: Any) -> None:
        raise AssertionError("fit() opened a connection")

    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    names = ("lightning.pytorch", "lightning", "fli2moe", None)
    levels = [logging.getLogger(name).level for name in names]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    grad = torch.is_grad_enabled()
    fit(make_config(training={"epochs": 1}), dataset, tmp_path / "runs" / "x")
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())
    assert levels == [logging.getLogger(name).level for name in names]
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert torch.is_grad_enabled() is grad
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["features", "x"]
    assert not list(work.iterdir())


def test_without_folders_nothing_stays(
    make_config: MakeConfig, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    predictor = fit(make_config(training={"epochs": 1}), dataset)
    assert predictor(dataset.test[0].inputs).labels == tuple(
        c for c, p in predictor(dataset.test[0].inputs).probabilities.items() if p >= 0.5
    )
    assert not list(tmp_path.iterdir())


def test_the_run_folder_says_how_it_went(tiny_run: Path):
    summary = json.loads((tiny_run / "training.json").read_text())
    assert summary["best_epoch"] in (0, 1)
    assert [row["epoch"] for row in summary["history"]] == [0, 1]
    assert summary["parameters"] > 0
    assert set(summary["seconds"]) == {"encode", "train"}
    best, final = (
        load_file(tiny_run / name) for name in ("checkpoints/best.safetensors", "model.safetensors")
    )
    assert same(best, final)


def test_encoders_never_train(
    make_config: MakeConfig, dataset: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    class Network(torch.nn.Module):
        """An encoder with weights and dropout, as a pretrained one has them."""

        kind, width, identity, fingerprint = "text", 6, "i" * 64, "f" * 64

        def __init__(self) -> None:
            super().__init__()
            self.inner = load_encoder("builtin:words", width=6)
            self.layer = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Dropout(0.5)).eval()
            self.layer.requires_grad_(False)

        def encode(self, inputs: Any) -> Any:
            assert not self.layer.training
            tokens = self.inner.encode(inputs)
            return tokens.with_features(self.layer(tokens.features))

        def unseen(self, raw: Any) -> Any:
            return self.inner.unseen(raw)

    network = Network()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    image = load_encoder("builtin:patches")
    monkeypatch.setattr(training, "load_encoders", lambda *_: {"text": network, "image": image})
    predictor = fit(make_config(training={"epochs": 1}), dataset, cache=cache)
    assert same(before, network.state_dict())
    assert not network.layer.training
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert not [name for name in weights(predictor) if "encoder" in name]
    assert not predictor.model.training


def test_statistics_are_stored_with_the_model_and_are_its_baseline(
    make_config: MakeConfig, dataset: Dataset, cache: Path
):
    predictor = fit(make_config(training={"epochs": 1}), dataset, cache=cache)
    encoder = load_encoder("builtin:words", width=64)
    tokens = encoder.encode([s.inputs["text"] for s in dataset.train])
    rows = tokens.features[tokens.content]
    torch.testing.assert_close(predictor.means["text"], rows.mean(0), rtol=1e-4, atol=1e-5)
    stored = weights(predictor)
    torch.testing.assert_close(stored["projections.text.mean"], predictor.means["text"])
    torch.testing.assert_close(
        stored["projections.text.deviation"], rows.std(0, correction=0), rtol=1e-4, atol=1e-5
    )
    raw = fit(
        make_config(training={"epochs": 1}, model={"standardise": False}), dataset, cache=cache
    )
    assert weights(raw)["projections.text.mean"].abs().max() == 0
    torch.testing.assert_close(raw.means["text"], predictor.means["text"])


def history_of(config: Config, dataset: Dataset, cache: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    fit(config, dataset, cache=cache, progress_epoch=lambda row: rows.append(dict(row)))
    return rows


def test_a_gate_that_never_opens_keeps_losses_and_masking_off(
    make_config: MakeConfig,
    dataset: Dataset,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("behind a closed gate")

    monkeypatch.setattr(objective, "interaction_losses", refuse)
    monkeypatch.setattr(trainee, "mask_at_random", refuse)
    gated = {"interaction_schedule": "gated", "gate_loss": 1e-6}
    with caplog.at_level(logging.WARNING, "fli2moe"):
        rows = history_of(make_config(losses=gated), dataset, cache)
    assert [row["gate_open"] for row in rows] == [0, 0]
    assert "the gate never opened" in caplog.text


def test_the_configs_device_trains(
    make_config: MakeConfig, dataset: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    def found(name: str) -> torch.device:
        asked.append(name)
        return torch.device("cpu")

    for module in (training_run, training):
        monkeypatch.setattr(module, "find_device", found)
    config = make_config(device="cpu", training={"epochs": 1})
    assert fit(config, dataset, cache=cache).device == torch.device("cpu")
    assert asked == ["cpu", "cpu"]  # the trainer's, and the predictor's


def test_an_open_gate_brings_losses_masking_and_decay(
    make_config: MakeConfig, dataset: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = {"loss": 0, "mask": 0}
    loss, mask = objective.interaction_losses, trainee.mask_at_random

    def count(name: str, function: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*args, **options)

        return counted

    monkeypatch.setattr(objective, "interaction_losses", count("loss", loss))
    monkeypatch.setattr(trainee, "mask_at_random", count("mask", mask))
    gated = {"interaction_schedule": "gated", "gate_loss": 100.0}
    rows = history_of(make_config(losses=gated), dataset, cache)
    assert [row["gate_open"] for row in rows] == [1, 1]
    assert calls["loss"] == 6  # 2 epochs of 3 steps: opened by the first step's loss
    assert calls["mask"] == 5
    assert rows[1]["learning_rate"] < rows[0]["learning_rate"]
    calls.update(loss=0, mask=0)
    history_of(make_config(losses=open_gate(interaction=0.0)), dataset, cache)
    assert calls == {"loss": 0, "mask": 6}
    calls.update(loss=0, mask=0)
    constant = make_config(losses=open_gate(), training={"mask_training": 0.0})
    history_of(constant, dataset, cache)
    assert calls == {"loss": 6, "mask": 0}
    calls.update(loss=0, mask=0)
    history_of(make_config(losses=open_gate(), model={"name": "dense"}), dataset, cache)
    assert calls == {"loss": 0, "mask": 6}


def test_schedules_follow_their_formulas():
    plain, gated = LossConfig(), LossConfig(interaction_schedule="gated")
    constant = TrainingConfig(epochs=10)
    assert {rate_factor(constant, plain, s, 100, 0) for s in range(100)} == {1.0}
    cosine = TrainingConfig(epochs=10, schedule="cosine", warmup_epochs=1)
    factors = [rate_factor(cosine, plain, s, 100, 0) for s in range(101)]
    assert factors[:10] == pytest.approx([(s + 1) / 11 for s in range(10)])
    assert factors[10] == pytest.approx(1)
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0, abs=1e-12)
    assert [rate_factor(constant, gated, s, 100, None) for s in (0, 50, 99)] == [1, 1, 1]
    decay = [rate_factor(constant, gated, s, 100, 20) for s in (20, 60, 100)]
    assert decay == pytest.approx([1, 0.5, FLOOR])


def test_the_router_has_its_own_rate(make_config: MakeConfig, dataset: Dataset):
    config = make_config(training={"learning_rate": 0.01, "router_rate": 0.1})
    predictor = fit(config, dataset)
    target = predictor.task.encode([s.labels for s in dataset.train])
    trained = Trainee(predictor.model, predictor.task, config, predictor.means, target, 10)
    rest, router = trained.configure_optimizers().param_groups
    assert (rest["base"], router["base"]) == (0.01, pytest.approx(0.001))
    named = dict(predictor.model.named_parameters())
    own = {id(p) for n, p in named.items() if n.startswith("router.")}
    assert {id(p) for p in router["params"]} == own
    assert len(rest["params"]) + len(router["params"]) == len(named)


def row(loss: float, score: float = 0.0, gate: float = 1.0) -> dict[str, float]:
    return {"val_loss": loss, "val_score": score, "gate_open": gate}


def weight(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(value)}


def test_the_best_epochs_weights_are_kept():
    history = History(TrainingConfig(patience=2))
    live = torch.zeros(1)
    improved = []
    for value, loss in enumerate([3.0, 1.0, 2.0, 1.0]):
        live += 1  # training goes on in the same tensor
        improved.append(history.add(row(loss), {"w": live}))
        assert history.out_of_patience == (value == 3)
    assert improved == [True, True, False, False]
    assert (history.best_epoch, history.best["w"].item()) == (1, 2.0)


def test_what_was_best_before_the_gate_gives_way_to_the_first_epoch_after_it():
    history = History(TrainingConfig())
    assert history.add(row(0.1, gate=0), weight(1))
    assert history.add(row(0.9, gate=1), weight(2))
    assert not history.add(row(0.95, gate=1), weight(3))
    assert history.best["w"] == 2


def test_the_score_decides_where_it_is_asked_for():
    history = History(TrainingConfig(monitor="score"))
    assert history.add(row(1.0, score=0.5), weight(1))
    assert not history.add(row(0.1, score=0.4), weight(2))
    assert not history.add(row(0.1, score=float("nan")), weight(3))
    assert history.add(row(2.0, score=0.6), weight(4))


def test_fit_returns_the_best_epoch_and_stops_early(
    make_config: MakeConfig, dataset: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[dict[str, torch.Tensor]] = []
    losses = iter([3.0, 1.0, 2.0, 4.0, 0.5])

    def scripted(self: Trainee) -> dict[str, float]:
        self.validation = []
        seen.append({k: v.clone() for k, v in self.model.state_dict().items()})
        return {"val_loss": next(losses), "val_score": 0.5}

    monkeypatch.setattr(Trainee, "take_validation", scripted)
    config = make_config(losses=open_gate(), training={"epochs": 9, "patience": 2})
    predictor = fit(config, dataset, cache=cache)
    assert len(seen) == 4
    assert same(weights(predictor), seen[1])
    assert not same(weights(predictor), seen[3])


def test_class_weights_reach_the_loss(
    make_config: MakeConfig, dataset: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    given: list[Any] = []
    losses = Task.losses

    def spy(self: Task, logits: Any, target: Any, *, weights: Any = None, smoothing: float = 0.0):
        given.append(weights)
        return losses(self, logits, target, weights=weights, smoothing=smoothing)

    monkeypatch.setattr(Task, "losses", spy)
    fit(make_config(training={"epochs": 1, "class_weights": "balanced"}), dataset, cache=cache)
    task = Task("multilabel", dataset.classes)
    positives = task.encode([s.labels for s in dataset.train]).sum(0)
    torch.testing.assert_close(given[0], (96 - positives) / positives)
    given.clear()
    fit(make_config(training={"epochs": 1}), dataset, cache=cache)
    assert set(map(type, given)) == {type(None)}


def test_a_loss_that_is_not_finite_is_one_line_and_keeps_the_last_good_weights(
    make_config: MakeConfig, dataset: Dataset, tmp_path: Path
):
    training = {"epochs": 5, "learning_rate": 1e30, "clip": None, "skip_steps": 0}
    wild = make_config(training=training)
    state = torch.get_rng_state()
    said = r"loss or gradient is not finite with the samples \d+, .* and 27 more"
    with pytest.raises(InputError, match=said) as caught:
        fit(wild, dataset, tmp_path / "run")
    assert "training step" in str(caught.value)
    assert "training.learning_rate" in str(caught.value)
    assert torch.equal(state, torch.get_rng_state())
    assert not (tmp_path / "run" / "predictor.json").exists()


def bad_steps(monkeypatch: pytest.MonkeyPatch, steps: set[int], infinite: bool) -> None:
    """Makes the loss NaN, or a gradient infinite, at some calls of `gradients`."""
    own, calls = Trainee.gradients, iter(range(10**6))

    def gradients(self: Trainee, batch: Any, backward: Any) -> torch.Tensor:
        loss = own(self, batch, backward)
        if next(calls) not in steps:
            return loss
        if infinite:
            next(p for p in self.model.parameters() if p.grad is not None).grad.fill_(math.inf)
            return loss
        return loss * math.nan

    monkeypatch.setattr(Trainee, "gradients", gradients)


@pytest.mark.parametrize("infinite", [False, True])
def test_a_bad_step_is_left_out_and_told(
    make_config: MakeConfig,
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    infinite: bool,
):
    bad_steps(monkeypatch, {1, 4}, infinite)  # one of each epoch
    rows: list[Mapping[str, float]] = []
    predictor = fit(make_config(), dataset, progress_epoch=rows.append)
    assert all(torch.isfinite(x).all() for x in predictor.model.state_dict().values())
    assert all(math.isfinite(row["train_loss"]) for row in rows)
    said = [r.getMessage() for r in caplog.records if "no step taken" in r.getMessage()]
    assert len(said) == 2
    assert all(line.startswith("no step taken (1 of 2 that may be): loss or grad") for line in said)


def test_too_many_bad_steps_of_an_epoch_stop_it(
    make_config: MakeConfig, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
):
    bad_steps(monkeypatch, {0, 1, 2}, False)  # never all of an epoch, whatever skip_steps says
    with pytest.raises(InputError, match="training step 0: loss or gradient is not finite"):
        fit(make_config(training={"skip_steps": 50}), dataset)


def test_memory_that_runs_out_costs_nothing_but_time(
    make_config: MakeConfig,
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    config = make_config(training={"micro_batch": None, "mask_training": 0.3})
    whole = fit(config, dataset)
    own = Trainee._learn_parts
    asked: list[int | None] = []

    def small(self: Trainee, batch: Any, tokens: Any, size: int | None, backward: Any) -> Any:
        asked.append(size)
        if size is None or size > 8:
            raise torch.OutOfMemoryError("full")
        return own(self, batch, tokens, size, backward)

    monkeypatch.setattr(Trainee, "_learn_parts", small)
    halved = fit(config, dataset)
    assert asked == [None, 16, *[8] * 6]
    assert sum("out of memory: from now on" in r.getMessage() for r in caplog.records) == 2
    for name, x in whole.model.state_dict().items():
        torch.testing.assert_close(halved.model.state_dict()[name], x, atol=2e-3, rtol=1e-2)

    def none(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Trainee, "_learn_parts", none)
    with pytest.raises(MachineError, match="training step 0: out of memory with one sample"):
        fit(config, dataset)


def test_good_weights_on_disk_are_never_replaced_by_nan(
    make_config: MakeConfig, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def poisoned(self: Trainee, optimizer: torch.optim.Optimizer) -> None:
        if self.global_step == 5:  # last step of epoch 2
            next(self.model.parameters()).grad.fill_(float("inf"))

    monkeypatch.setattr(Trainee, "on_before_optimizer_step", poisoned)
    with pytest.raises(InputError, match="not finite"):
        fit(make_config(training={"clip": None}), dataset, tmp_path / "run")
    kept = load_file(tmp_path / "run" / "checkpoints" / "best.safetensors")
    assert all(torch.isfinite(x).all() for x in kept.values())


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_split_is_one_line(make_config: MakeConfig, dataset: Dataset, split: str):
    rest = tuple(s for s in dataset.samples if s.split != split)
    with pytest.raises(InputError, match=f"no {split} samples; expected train and val samples"):
        fit(make_config(), replace(dataset, samples=rest))


def test_a_validation_split_without_any_positive_trains(
    make_config: MakeConfig, dataset: Dataset, tmp_path: Path
):
    samples = [replace(s, labels=()) if s.split == "val" else s for s in dataset.samples]
    fit(make_config(), replace(dataset, samples=tuple(samples)), tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "training.json").read_text())
    assert [row["val_score"] for row in summary["history"]] == [None, None]


def test_batches_are_ordered_by_seed_and_epoch(dataset: Dataset, cache: Path):
    encoders = {"text": load_encoder("builtin:words")}
    task = Task("multilabel", dataset.classes)
    samples: tuple[Sample, ...] = dataset.train[:10]
    split = encode_split(samples, encoders, task, cache)

    def rows(batches: Batches) -> list[list[float]]:
        return [row for batch in batches for row in batch.target.tolist()]

    plain = task.encode([s.labels for s in samples]).tolist()
    assert rows(Batches(split, 4, None)) == plain
    assert len(Batches(split, 4, None)) == 3
    first, second = Batches(split, 4, 7), Batches(split, 4, 7)
    epochs = [rows(first), rows(first)]
    assert epochs == [rows(second), rows(second)]
    assert epochs[0] != epochs[1]
    assert len(first) == 2  # 10 = 4 + 4 + a rest that is left out
    assert len(Batches(split, 64, 7)) == 1
    assert sorted(rows(Batches(split, 64, 7))) == sorted(plain)


def test_ctrl_c_passes_through_lightning(
    make_config: MakeConfig, dataset: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Trainee, "training_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(make_config(), dataset, cache=cache)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_a_destructor_ends_the_training_all_the_same(
    make_config: MakeConfig, dataset: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    own, steps = Trainee.training_step, []

    def step(self: Trainee, batch: Any, number: int) -> torch.Tensor:
        steps.append(number)
        if len(steps) == 2:
            with contextlib.suppress(KeyboardInterrupt):  # as Python does around a destructor
                signal.raise_signal(signal.SIGINT)
        return own(self, batch, number)

    monkeypatch.setattr(Trainee, "training_step", step)
    with pytest.raises(KeyboardInterrupt):
        fit(make_config(), dataset, cache=cache)
    assert len(steps) == 2


def test_another_exit_stays_what_it_is():
    with pytest.raises(SystemExit, match="7"), interruptible():
        raise SystemExit(7)


def test_a_trained_model_is_not_overwritten_unasked(
    make_config: MakeConfig, dataset: Dataset, tmp_path: Path
):
    config = make_config()
    fit(config, dataset, tmp_path / "run", cache=tmp_path / "cache")
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    again = config.model_copy(update={"seed": 7})
    with pytest.raises(
        InputError, match=r"holds a trained model; expected a new folder.*overwrite"
    ):
        fit(again, dataset, tmp_path / "run", cache=tmp_path / "cache")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    fit(again, dataset, tmp_path / "run", cache=tmp_path / "cache", overwrite=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != before


def test_the_names_of_pictures_are_not_read_as_text(make_config: MakeConfig, dataset: Dataset):
    pictures = {s.id: s.inputs["image"] for s in dataset.samples}
    samples = tuple(
        replace(s, inputs={**s.inputs, "text": str(pictures[s.id])}) for s in dataset.samples
    )
    with pytest.raises(InputError, match=r"data\.modalities\.text: paths of pictures.*reads text"):
        fit(make_config(), replace(dataset, samples=samples))


def test_a_router_that_has_collapsed_is_told(
    make_config: MakeConfig,
    dataset: Dataset,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    config = make_config(training={"epochs": 1})
    fit(config, dataset, cache=cache)
    assert "collapsed" not in caplog.text
    own = Trainee.validation_step

    def one_sided(self: Trainee, batch: Any, batch_idx: int) -> None:
        own(self, batch, batch_idx)
        self.weights[-1] = torch.tensor([[0.995, 0.005, 0.0, 0.0]]).expand(len(batch.rows), -1)

    monkeypatch.setattr(Trainee, "validation_step", one_sided)
    fit(config, dataset, cache=cache)
    assert "the router has collapsed: unique_text gets 99.5% of the weight" in caplog.text
    caplog.clear()
    monkeypatch.undo()
    fit(make_config(training={"epochs": 1}, model={"name": "dense"}), dataset, cache=cache)
    assert "collapsed" not in caplog.text

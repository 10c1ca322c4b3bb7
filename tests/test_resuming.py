"""A training killed at any moment goes on, and ends with the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fli2moe.config import Config
from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError
from fli2moe.predictor import Predictor
from fli2moe.training import fit

Make = Callable[..., Config]
KILLS = int(os.environ.get("FLI2MOE_KILLS", "5"))
"""Of a training in a process of its own; more by `FLI2MOE_KILLS=25 pytest ...`."""


class StopError(Exception):
    """Stands for a kill after an epoch."""


def stop_after(epoch: int) -> Callable[[Any], None]:
    def stop(row: Any) -> None:
        if row["epoch"] == epoch:
            raise StopError

    return stop


def weights(predictor: Predictor) -> dict[str, torch.Tensor]:
    return {k: x.clone() for k, x in predictor.model.state_dict().items()}


OPTIONS: list[dict[str, Any]] = [
    {"training": {"epochs": 3, "mask_training": 0.3, "patience": 5}},
    {
        "training": {"epochs": 3, "schedule": "cosine", "warmup_epochs": 1, "clip": 1.0},
        "losses": {"variant": "residual", "router": "pid", "decorrelation": "barlow"},
    },
    {
        "training": {"epochs": 3},
        "losses": {"interaction_schedule": "gated", "gate_loss": 0.69},
        "model": {"dropout": 0.2},
    },
    {"training": {"epochs": 3}, "model": {"name": "sparse_moe"}},
]


@pytest.mark.parametrize("sections", OPTIONS)
@pytest.mark.parametrize("stopped", [0, 1])
def test_what_goes_on_ends_as_what_never_stopped(
    make_config: Make, dataset: Dataset, tmp_path: Path, sections: dict[str, Any], stopped: int
):
    config = make_config(**sections)
    cache = tmp_path / "cache"
    whole = fit(config, dataset, tmp_path / "whole", cache=cache)
    with pytest.raises(StopError):
        fit(config, dataset, tmp_path / "run", cache=cache, progress_epoch=stop_after(stopped))
    assert not (tmp_path / "run" / "predictor.json").exists()
    seen: list[float] = []
    again = fit(
        config,
        dataset,
        tmp_path / "run",
        cache=cache,
        progress_epoch=lambda r: seen.append(r["epoch"]),
    )
    assert seen == list(range(stopped + 1, 3))
    for name, x in weights(whole).items():
        assert torch.equal(x, weights(again)[name]), name
    first, second = (
        json.loads((tmp_path / run / "training.json").read_text()) for run in ("whole", "run")
    )
    for key in ("history", "best_epoch", "gate_step", "fingerprint"):
        assert first[key] == second[key], key
    assert not (tmp_path / "run" / "checkpoints" / "state.safetensors").exists()
    best = (tmp_path / run / "checkpoints" / "best.safetensors" for run in ("whole", "run"))
    assert len({path.read_bytes() for path in best}) == 1


def test_another_training_does_not_go_on_from_it(
    make_config: Make, dataset: Dataset, tmp_path: Path
):
    with pytest.raises(StopError):
        fit(make_config(), dataset, tmp_path / "run", progress_epoch=stop_after(0))
    other = make_config(training={"learning_rate": 0.01}, losses={"interaction": 0.1})
    with pytest.raises(
        InputError, match=r"other losses\.interaction, training\.learning_rate; .*--overwrite"
    ):
        fit(other, dataset, tmp_path / "run")
    for change, name in (
        ({"training": {"batch_size": 16}}, "training.batch_size"),
        ({"seed": 3}, "seed"),
    ):
        with pytest.raises(InputError, match=rf"with other {name}; "):
            fit(make_config(**change), dataset, tmp_path / "run")
    fewer = replace(dataset, samples=dataset.samples[1:])
    with pytest.raises(InputError, match="with other data; "):
        fit(make_config(), fewer, tmp_path / "run")
    measured = make_config(evaluation={"samples": 7})
    fit(measured, dataset, tmp_path / "run")  # what is measured later does not matter
    with pytest.raises(StopError):
        fit(make_config(), dataset, tmp_path / "b", progress_epoch=stop_after(0))
    fit(other, dataset, tmp_path / "b", overwrite=True)


def test_a_damaged_state_is_one_line(make_config: Make, dataset: Dataset, tmp_path: Path):
    with pytest.raises(StopError):
        fit(make_config(), dataset, tmp_path / "run", progress_epoch=stop_after(0))
    path = tmp_path / "run" / "checkpoints" / "state.safetensors"
    whole = path.read_bytes()
    for content in (whole[:100], b"", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"state\.safetensors: damaged.*--overwrite"):
            fit(make_config(), dataset, tmp_path / "run")
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(InputError, match="do not match their checksum"):
        fit(make_config(), dataset, tmp_path / "run")
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="damaged"):
        fit(make_config(), dataset, tmp_path / "run")


TRAIN = "from fli2moe.cli import main; main()"


@pytest.mark.slow
def test_sigkill_at_random_moments(make_config: Make, tmp_path: Path):
    config = make_config(training={"epochs": 6, "patience": 10})
    (tmp_path / "c.yaml").write_text(config.to_yaml(), encoding="utf-8")

    def start(run: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", TRAIN, "train", str(tmp_path / "c.yaml")]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([*command, "--out", str(tmp_path / run)], **options)

    whole = start("whole")
    lines = len(whole.communicate(timeout=300)[0].splitlines())
    assert whole.returncode == 0
    rng, killed = random.Random(0), 0
    for _ in range(KILLS):
        process = start("run")
        assert process.stdout is not None
        for _ in range(rng.randrange(lines - 1)):  # to any stage, and to any moment of it
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        killed += process.wait(30) == -signal.SIGKILL
        process.stdout.close()
        if (tmp_path / "run" / "predictor.json").is_file():
            break
    if not (tmp_path / "run" / "predictor.json").is_file():
        last = start("run")
        last.communicate(timeout=300)
        assert last.returncode == 0
    assert killed > 0
    for name in ("model.safetensors", "baseline.safetensors", "config.yaml", "predictor.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert load_file(tmp_path / "run" / "model.safetensors")
    left = [p.name for p in (tmp_path / "run").rglob("*.partial")]
    assert all(name.startswith(".") for name in left)

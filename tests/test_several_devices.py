"""Training in several processes: the same samples, nearly the same model, ends that are told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fli2moe import ranks
from fli2moe.batches import Batches, encode_split
from fli2moe.config import Config
from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError, MachineError
from fli2moe.parallel.launching import launch
from fli2moe.run_folder import load_encoders
from fli2moe.training import fit
from fli2moe.training_run import OneModel

Make = Callable[..., Config]
PLAIN = {"interaction": 0.0, "interaction_schedule": "constant"}
"""Losses that are means over samples: they do not depend on the number of processes."""


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says which of two processes this one is."""

    def be(number: int) -> None:
        monkeypatch.setattr(ranks, "rank", lambda: number)
        monkeypatch.setattr(ranks, "world", lambda: 2)

    return be


@pytest.mark.parametrize("seed", [None, 3])
def test_processes_share_each_batch_and_miss_nothing(
    make_config: Make,
    dataset: Dataset,
    tmp_path: Path,
    two: Callable[[int], None],
    seed: int | None,
):
    config = make_config()
    encoders = load_encoders(config)
    from fli2moe.task import Task

    task = Task("multilabel", dataset.classes)
    split = encode_split(dataset.train[:50], encoders, task, tmp_path)
    whole = [batch.rows.tolist() for batch in Batches(split, 8, seed)]
    shares = []
    for number in (0, 1):
        two(number)
        shares.append([batch.rows.tolist() for batch in Batches(split, 8, seed)])
    for batch, first, second in zip(whole, *shares, strict=True):
        assert batch[::2] == first
        assert batch[1::2] == second
    assert len(whole) == (6 if seed is not None else 7)


def test_alone_nothing_is_asked_of_anybody():
    x = torch.arange(3.0)
    assert ranks.world() == 1
    assert ranks.rank() == 0
    assert ranks.mean_over_ranks(x) is x
    assert ranks.gather_rows(x) is x
    assert ranks.same_on_ranks(7)
    parameter = torch.nn.Parameter(x)
    parameter.grad = torch.ones(3)
    ranks.average_gradients([parameter])
    assert torch.equal(parameter.grad, torch.ones(3))


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"batch_size": 33}, "batch_size: 33 for 2 processes; expected a multiple of 2"),
        ({"batch_size": 2}, "batch_size: 2 for 2 processes"),
        ({"batch_size": 128}, "96 train samples for 2 processes; expected 128 or more"),
    ],
)
def test_what_cannot_be_shared_out_is_one_line(
    make_config: Make,
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    training: dict[str, Any],
    message: str,
):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=message):
        fit(make_config(training={**training, "devices": 2}), dataset)


def test_several_devices_in_one_process_are_refused(make_config: Make, dataset: Dataset):
    with pytest.raises(
        InputError, match=r"training\.devices: 2 in all, in a process that is alone"
    ):
        fit(make_config(training={"devices": 2}), dataset)


def test_nodes_need_to_know_where_the_first_is(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = make_config(training={"nodes": 2})
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="lacks MASTER_ADDR, MASTER_PORT, NODE_RANK"):
        launch(config, tmp_path / "run", overwrite=False, log=())
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setenv("NODE_RANK", "2")
    with pytest.raises(
        InputError, match="NODE_RANK: '2'; expected the number of this node, 0 to 1"
    ):
        launch(config, tmp_path / "run", overwrite=False, log=())


def test_lightning_leaves_the_model_unwrapped():
    strategy = OneModel()
    strategy.model = torch.nn.Linear(1, 1)
    strategy.configure_ddp()
    assert type(strategy.model) is torch.nn.Linear


# --- real processes ---


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts `fli2moe train` of a configuration into a folder below `tmp_path`."""

    def start(config: Config, out: str, *options: str, **env: str) -> subprocess.Popen[str]:
        path = tmp_path / f"{out}.yaml"
        path.write_text(config.to_yaml(), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "fli2moe",
            "train",
            str(path),
            "--out",
            str(tmp_path / out),
        ]
        return subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        )

    return start


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, complained = process.communicate(timeout=240)
    return process.returncode, said, complained


def children(process: subprocess.Popen[str]) -> list[int]:
    """The training processes of a command."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found if b"train" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def wait_for_epochs(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen += " epoch " in line
        if seen == count:
            return
    raise AssertionError(f"ended after {seen} epochs: {process.communicate()[1]}")


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def all_gone(pids: list[int], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not all(map(gone, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return all(map(gone, pids))


def history(run: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = json.loads((run / "training.json").read_text())["history"]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    "losses",
    [PLAIN, {"variant": "residual", "router": "pid", "decorrelation": "barlow"}],
    ids=["plain", "coupled"],
)
def test_two_processes_learn_what_one_learns(
    make_config: Make, start: Any, tmp_path: Path, losses: dict[str, Any]
):
    config = make_config(training={"epochs": 3, "mask_training": 0.0}, losses=losses)
    alone = ended(start(config, "alone"))
    both = ended(start(config, "both", "--devices", "2", "--log", "csv"))
    assert alone[0] == both[0] == 0, both[2]
    assert both[2] == ""
    assert both[1].count(" epoch ") == 3  # said once, not by each process
    assert both[1].count("trained: ") == 1
    first, second = history(tmp_path / "alone"), history(tmp_path / "both")
    for one, two in zip(first, second, strict=True):
        near = 1e-3 if losses is PLAIN else 0.05  # losses between samples see half the batch
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=near)
        assert one["val_loss"] == pytest.approx(two["val_loss"], rel=near)
    if losses is PLAIN:
        ours, theirs = (load_file(tmp_path / n / "model.safetensors") for n in ("alone", "both"))
        assert max(float((ours[k] - theirs[k]).abs().max()) for k in ours) < 2e-3


@pytest.mark.slow
def test_a_killed_process_ends_the_training_which_then_goes_on(
    make_config: Make, start: Any, tmp_path: Path
):
    config = make_config(training={"epochs": 6, "patience": 10, "devices": 2})
    assert ended(start(config, "whole"))[0] == 0
    for number, victim in enumerate((1, 0)):
        process = start(config, "run")
        wait_for_epochs(process, 1)
        pids = children(process)
        assert len(pids) == 2
        os.kill(pids[victim], signal.SIGKILL)
        killed = time.monotonic()
        code, _, said = ended(process)
        assert time.monotonic() - killed < 40
        assert code == 3
        lines = said.splitlines()
        assert len(lines) == 1, said
        assert f"training process {victim} of 2: was killed by SIGKILL; run the same" in said
        assert all_gone(pids)
        assert (tmp_path / "run" / "checkpoints" / "state.safetensors").is_file(), number
    code, said, _ = ended(start(config, "run"))
    assert code == 0
    assert "going on after epoch" in said
    ours, theirs = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "run"))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)  # bit for bit
    code, _, said = ended(start(config.model_copy(update={"seed": 9}), "whole"))
    assert code == 2
    assert "--overwrite" in said


@pytest.mark.slow
def test_no_process_is_left_behind(make_config: Make, start: Any):
    config = make_config(training={"epochs": 500, "patience": 500, "devices": 2})
    for how, code in ((signal.SIGTERM, 4), (signal.SIGKILL, -9)):
        process = start(config, "run")
        wait_for_epochs(process, 1)
        pids = children(process)
        process.send_signal(how)
        found, _, said = ended(process)
        assert found == code
        assert all_gone(pids)
        if how == signal.SIGTERM:
            assert said.startswith(
                "fli2moe: interrupted; run the same command again: fli2moe train"
            )
            assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_said_once(make_config: Make, start: Any):
    config = make_config(training={"epochs": 2, "devices": 2, "learning_rate": 1e30, "clip": None})
    code, _, said = ended(start(config, "run"))
    assert code == 2
    assert len(said.splitlines()) == 1, said
    assert "not finite" in said


@pytest.mark.slow
def test_other_devices_do_not_go_on_from_it(make_config: Make, start: Any):
    config = make_config(training={"epochs": 200, "patience": 200, "devices": 2})
    process = start(config, "run")
    wait_for_epochs(process, 1)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 4
    code, _, said = ended(start(config, "run", "--devices", "1"))
    assert code == 2
    assert "an unfinished training with other training.devices" in said


@pytest.mark.slow
def test_two_nodes_of_one_process(make_config: Make, start: Any, tmp_path: Path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    config = make_config(training={"epochs": 2, "nodes": 2})
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
    nodes = [start(config, "run", NODE_RANK=str(n), **meeting) for n in (0, 1)]
    results = [ended(node) for node in nodes]
    assert [code for code, _, _ in results] == [0, 0], results
    assert [said.count(" epoch ") for _, said, _ in results] == [2, 0]
    assert (tmp_path / "run" / "predictor.json").is_file()


def test_a_lost_process_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def lost(*_: Any) -> None:
        raise RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:1\nmore")

    monkeypatch.setattr(ranks, "world", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lost)
    with pytest.raises(
        MachineError, match=r"process 0 of 2: has lost the others: .*peer.*; run the"
    ):
        ranks.mean_over_ranks(torch.zeros(1))

"""A disk that is full, or can no longer be written, under work that is going on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fli2moe.config import Config
from fli2moe.errors import MachineError
from fli2moe.runs import evaluate_run, explain_run, report_run, train_run

MEASURED = {"evaluation.parts": ["interaction_share", "concentration"]}


def mount(folder: Path, *options: str) -> bool:
    command = ["mount", "-t", "tmpfs", *options, "none", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not mount(folder, "-o", "size=24m"):
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, room: int) -> Path:
    """Leaves `room` kB."""
    filler = folder / "filler"
    filler.unlink(missing_ok=True)
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    size = filler.stat().st_size - room * 1024
    with filler.open("rb+") as file:
        file.truncate(max(0, size))
    return filler


def files(run: Path) -> dict[str, bytes]:
    kept = ("model.safetensors", "predictor.json", "report.html")
    found = [run / name for name in kept] + sorted((run / "explanations").glob("*"))
    return {path.name: path.read_bytes() for path in found}


@pytest.mark.slow
def test_every_stage_says_that_the_disk_is_full_and_goes_on(
    make_config: Callable[..., Config], small: Path, tmp_path: Path
):
    config = make_config()

    def explain(run: Path) -> Any:
        return explain_run(run, limit=3, budget=60, seed=1)

    stages: list[tuple[str, Callable[[Path], Any], tuple[int, ...]]] = [
        ("train", lambda run: train_run(config, run), (4, 350, 1000, 60, 200)),
        ("evaluate", lambda run: evaluate_run(run, options=MEASURED, seed=1), (4,)),
        ("explain", explain, (4,)),
        ("report", report_run, (4, 100)),
    ]
    for name, work, rooms in stages:
        for room in rooms:
            filler = fill(small, room)
            with pytest.raises(MachineError, match=r"cannot write: .*No space left") as caught:
                work(small / "run")
            assert "\n" not in str(caught.value), name
            filler.unlink()
            assert not list(small.rglob("*.partial"))
        work(small / "run")
        work(tmp_path / "run")  # with room from the beginning
    assert files(small / "run") == files(tmp_path / "run")


@pytest.mark.slow
def test_rights_that_are_lost_on_the_way(
    make_config: Callable[..., Config], small: Path, tmp_path: Path
):
    config = make_config(training={"epochs": 3})

    def lose(name: str, row: Any) -> None:
        if row["epoch"] == 0:
            subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)

    with pytest.raises(MachineError, match=r"cannot write: .*Read-only file system"):
        train_run(config, small / "run", progress_epoch=lose)
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    train_run(config, small / "run")
    train_run(config, tmp_path / "run")
    for name in ("model.safetensors", "predictor.json"):
        assert (small / "run" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()

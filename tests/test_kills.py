"""Every command killed at random moments: it goes on, and ends with the same files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fli2moe.config import Config
from fli2moe.runs import explain_run, train_run

KILLS = int(os.environ.get("FLI2MOE_KILLS", "8"))
"""Of each command; more by `FLI2MOE_KILLS=25 pytest ...`."""
SCRIPT = Path(__file__).parent / "kills.py"
BEFORE = {"encode": 0, "train": 0, "evaluate": 1, "explain": 1, "report": 2}
"""What must be there: a trained model, its explanations."""


@pytest.fixture(scope="module")
def config(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "c.yaml"
    own = make_config(training={"epochs": 6, "patience": 9}, evaluation={"samples": 12})
    path.write_text(own.to_yaml(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def prepared(config: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders with `run` and its cache: empty, trained, explained."""
    empty, trained, explained = (tmp_path_factory.mktemp(n) for n in ("empty", "trained", "both"))
    train_run(Config.from_yaml(config), trained / "run")
    shutil.copytree(trained, explained, dirs_exist_ok=True)
    explain_run(explained / "run", limit=6, budget=120, seed=1)
    return [empty, trained, explained]


def content(folder: Path) -> dict[str, Any]:
    """{file: what it holds}, seconds left out."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        found[name] = path.read_bytes()
        if path.name in ("metrics.json", "training.json"):
            data = json.loads(found[name])
            data.pop("seconds")
            found[name] = data
    return found


@pytest.mark.slow
@pytest.mark.parametrize("stage", BEFORE)
def test_killed_at_random_moments(stage: str, config: Path, prepared: list[Path], tmp_path: Path):
    prepared_folder = prepared[BEFORE[stage]]
    folders = [tmp_path / name for name in ("killed", "whole")]
    for folder in folders:
        shutil.copytree(prepared_folder, folder)
    arguments = [stage, config, prepared_folder, *folders, KILLS, 0]
    found = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[-1])["killed"] == KILLS
    killed, whole = content(tmp_path / "killed"), content(tmp_path / "whole")
    assert list(killed) == list(whole)  # and nothing half-written among them
    for name, value in whole.items():
        assert killed[name] == value, name

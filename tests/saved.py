"""Saved folders changed by hand, with the checksums mended so that the later checks are met."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from fli2moe.config import ModelConfig
from fli2moe.errors import InputError
from fli2moe.files import file_digest
from fli2moe.model import from_pretrained


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes a JSON file in place."""
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def edit_tensors(path: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Changes a safetensors file in place, and the checksums."""
    tensors = {name: x.clone() for name, x in load_file(path).items()}
    change(tensors)
    path.unlink()
    save_file(tensors, path)
    mend(path.parent)


def mend(folder: Path) -> None:
    """Makes every checksum of a saved model or run folder right again."""
    for name in ("config.json", "predictor.json"):  # the second lists the first
        if (folder / name).is_file():

            def renew(data: dict[str, Any]) -> None:
                data["sha256"] = {file: file_digest(folder / file) for file in data["sha256"]}

            edit(folder / name, renew)


def run_usage(folder: Path) -> str:
    """Runs the three lines of Python of a folder's card in that folder; returns what they print."""
    lines = (folder / "README.md").read_text(encoding="utf-8").split("```python\n")[1]
    lines = lines.split("```")[0]
    assert len(lines.strip().splitlines()) == 3
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", lines],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(folder: Path) -> str:
    """Loads a model that must not load; returns the one line that says why."""
    with pytest.raises(InputError) as caught:
        from_pretrained(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 700
    assert caught.value.exit_code == 2
    return line


def config_of(name: str = "fli2moe", **options: Any) -> ModelConfig:
    """What `tiny_model` builds."""
    sizes = {"hidden": 8, "heads": 2, "layers": 2, "dropout": 0.0, "positions": "learned"}
    router = {"hidden": 6, "dropout": 0.0, "temperature": 1.0}
    given = {"name": name, "router": router, "attention_dropout": 0.0, **sizes, **options}
    return ModelConfig.model_validate(given)

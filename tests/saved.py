"""Saved folders changed by hand, with the checksums mended so that the later checks are met."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from fli2moe.files import file_digest


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

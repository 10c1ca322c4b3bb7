"""A training that can be killed after any step: its state after each epoch, in one file.

No pickle: tensors are safetensors, everything else is JSON in their header. The file is complete or
not there, and is removed when the trained model stands beside it. What is random in a step follows
from (seed, step), and an epoch's order from (seed, epoch): so a training that goes on from here
gives the same weights, bit for bit, as one that was never stopped (same machine, versions, options;
`16-mixed` finds its loss scale anew).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fli2moe.batches import EncodedSplit
from fli2moe.config import Config
from fli2moe.errors import InputError
from fli2moe.files import write_tensors
from fli2moe.history import rows_from_json, rows_to_json

FORMAT = "fli2moe/training/2"
IGNORED = ("evaluation", "explain", "device")
"""Sections that do not change what is learnt."""


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Everything a training knows after an epoch.

    Attributes:
        steps: optimiser steps so far.
        rows: of the history.
        best_epoch: its number.
        gate_step: when the gate opened, if it has.
        tensors: `model.`, `objective.`, `best.`, `optimizer.<parameter>.` and `running`.
    """

    steps: int
    rows: list[dict[str, float]]
    best_epoch: int
    gate_step: int | None
    tensors: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """Returns the tensors whose names begin with `name.`, without it."""
        own = {k: x for k, x in self.tensors.items() if k.startswith(f"{name}.")}
        return {k.removeprefix(f"{name}."): x for k, x in own.items()}

    def optimizer_state(self, fresh: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the optimiser's state over the parameter groups of a fresh one."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, x in self.part("optimizer").items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = x
        return {"state": state, "param_groups": fresh["param_groups"]}


def write_state(path: Path, state: TrainingState, identity: Mapping[str, Any]) -> None:
    """Writes a state with what the training is of.

    Raises:
        MachineError: when the folder cannot be written, or the disk is full.
    """
    about = {
        "format": FORMAT,
        "identity": identity,
        "steps": state.steps,
        "rows": rows_to_json(state.rows),
        "best_epoch": state.best_epoch,
        "gate_step": state.gate_step,
        "sha256": _digest(state.tensors),
    }
    write_tensors(path, state.tensors, {"state": json.dumps(about, allow_nan=False)})


def read_state(path: Path, identity: Mapping[str, Any]) -> TrainingState | None:
    """Returns the state of an interrupted training; None where there is none.

    Args:
        path: the file.
        identity: of the training that wants to go on, see `identity_of`.

    Raises:
        InputError: when the file is damaged, or is of a training with other options or data; it
            names them.
    """
    if not path.is_file():
        return None
    remedy = "say --overwrite to start anew"
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']!r}")
        rows = rows_from_json(about["rows"])
        found: Mapping[str, Any] = about["identity"]
        if about["sha256"] != _digest(tensors):
            raise ValueError("its tensors do not match their checksum")
        state = TrainingState(
            int(about["steps"]), rows, int(about["best_epoch"]), about["gate_step"], tensors
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(str(path), f"damaged: {error}", FORMAT, remedy) from None
    if found != dict(identity):
        keys = sorted(k for k in {*found, *identity} if found.get(k) != identity.get(k))
        said = f"an unfinished training with other {', '.join(keys[:5])}"
        raise InputError(str(path.parent.parent), said, "the same training", remedy)
    return state


def identity_of(config: Config, train: EncodedSplit, val: EncodedSplit) -> dict[str, Any]:
    """Returns {option: JSON value} of all that decides what is learnt, and `data`, a digest."""
    found: dict[str, Any] = {}
    for section, values in config.model_dump(mode="json").items():
        if section in IGNORED:
            continue
        pairs = values.items() if isinstance(values, dict) else [("", values)]
        found |= {f"{section}.{key}".rstrip("."): value for key, value in pairs}
    digest = hashlib.sha256()
    for split in (train, val):
        digest.update(repr(sorted(split.features.keys.items())).encode())
        digest.update(split.target.numpy().tobytes())
    plain: dict[str, Any] = json.loads(json.dumps(found | {"data": digest.hexdigest()}))
    return plain


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        digest.update(f"{name}:{x.dtype}:{tuple(x.shape)}:".encode())
        digest.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def flattened(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns {`<parameter>.<key>`: tensor} of an optimiser's state."""
    return {
        f"{index}.{key}": x if isinstance(x, Tensor) else torch.tensor(float(x))
        for index, values in state["state"].items()
        for key, x in values.items()
    }

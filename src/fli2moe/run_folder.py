"""A predictor on disk: config.yaml, predictor.json, two safetensors files, environment.json."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fli2moe import __version__
from fli2moe.config import Config, ModalityConfig
from fli2moe.encoders import Encoder, encoder_options, load_encoder
from fli2moe.errors import InputError
from fli2moe.files import complete_file, file_digest, read_json, write_json, write_text
from fli2moe.model import FusionTransformer, build_model
from fli2moe.task import Task

FORMAT = "fli2moe/predictor/1"
WEIGHTS, BASELINE, CARD = "model.safetensors", "baseline.safetensors", "predictor.json"


@dataclass(frozen=True, eq=False)
class Parts:
    """What a predictor is made of; see `Predictor` for the fields."""

    config: Config
    task: Task
    model: FusionTransformer
    encoders: Mapping[str, Encoder]
    means: Mapping[str, Tensor]


def save_parts(parts: Parts, folder: Path) -> None:
    """Writes a predictor into `folder`; `predictor.json`, written last, holds the checksums."""
    write_text(folder / "config.yaml", parts.config.to_yaml())
    state = {k: v.detach().cpu().contiguous() for k, v in parts.model.state_dict().items()}
    with complete_file(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
    with complete_file(folder / BASELINE) as temporary:
        save_file({m: x.contiguous() for m, x in parts.means.items()}, temporary)
    write_json(folder / "environment.json", environment())
    card = {
        "format": FORMAT,
        "version": __version__,
        "task": parts.task.kind,
        "classes": list(parts.task.classes),
        "modalities": {
            m: {"kind": e.kind, "width": e.width, "fingerprint": e.fingerprint}
            for m, e in parts.encoders.items()
        },
        "sha256": {name: file_digest(folder / name) for name in (WEIGHTS, BASELINE)},
    }
    write_json(folder / CARD, card)


def load_parts(folder: Path) -> Parts:
    """Reads what `save_parts` wrote.

    Raises:
        InputError: when files are missing or damaged, or an encoder is not the one that the model
            was trained with.
    """
    if not folder.is_dir():
        raise InputError(str(folder), "no such run folder", "a folder written by `fli2moe train`")
    card = read_json(folder / CARD)
    if card.get("format") != FORMAT:
        found = f"format {card.get('format')!r}"
        raise InputError(str(folder / CARD), found, FORMAT, "use the matching version")
    for name, digest in card["sha256"].items():
        path = folder / name
        if not path.is_file() or file_digest(path) != digest:
            remedy = "train again or copy the run folder anew"
            raise InputError(str(path), "missing or damaged", f"sha256 {digest[:12]}", remedy)
    config = Config.from_yaml(folder / "config.yaml")
    encoders = load_encoders(config)
    for m, known in card["modalities"].items():
        if m not in encoders or encoders[m].fingerprint != known["fingerprint"]:
            remedy = "use the same weights, options and library versions, or train again"
            found = "another encoder than at training time"
            raise InputError(f"{folder}: modality {m}", found, known["fingerprint"][:12], remedy)
    task = Task(card["task"], tuple(card["classes"]))
    widths = {m: e.width for m, e in encoders.items()}
    model = build_model(config.model, widths, len(task.classes))
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
        means = load_file(folder / BASELINE)
    except (RuntimeError, SafetensorError) as error:
        raise InputError(str(folder / WEIGHTS), str(error), "weights of this config") from None
    return Parts(config, task, model.eval(), encoders, means)


def load_encoders(config: Config) -> dict[str, Encoder]:
    """Returns the encoder of every modality that the config names."""
    return {m: _load(modality) for m, modality in config.data.modalities.items()}


def environment() -> dict[str, Any]:
    """Returns the versions that a result depends on."""
    packages = (
        "torch",
        "numpy",
        "transformers",
        "tokenizers",
        "safetensors",
        "lightning",
        "captum",
        "pillow",
        "pyarrow",
        "scikit-learn",
    )
    return {
        "fli2moe": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "packages": {name: metadata.version(name) for name in packages},
    }


def _load(modality: ModalityConfig) -> Encoder:
    accepted = encoder_options(modality.encoder, modality.kind)
    wanted = modality.model_dump(exclude={"column", "encoder", "kind"}, exclude_none=True)
    options: Any = {name: value for name, value in wanted.items() if name in accepted}
    return load_encoder(modality.encoder, kind=modality.kind, **options)

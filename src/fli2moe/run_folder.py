"""A predictor on disk: config.yaml, predictor.json, two safetensors files, environment.json."""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fli2moe import __version__
from fli2moe.config import Config, ModalityConfig
from fli2moe.devices import find_device
from fli2moe.encoders import Encoder, encoder_options, load_encoder
from fli2moe.errors import InputError, unknown_name
from fli2moe.files import file_digest, read_json, write_json, write_tensors, write_text
from fli2moe.model import FusionTransformer, build_model
from fli2moe.presets import PRESETS
from fli2moe.task import Task

FORMAT = "fli2moe/predictor/2"
WEIGHTS, BASELINE, CARD = "model.safetensors", "baseline.safetensors", "predictor.json"
ENVIRONMENT = "environment.json"
AGAIN = "train again or copy the run folder anew"

logger = logging.getLogger(__name__)


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
    write_tensors(folder / WEIGHTS, parts.model.state_dict())
    write_tensors(folder / BASELINE, parts.means)
    write_json(folder / ENVIRONMENT, environment())
    card = {
        "format": FORMAT,
        "version": __version__,
        "task": parts.task.kind,
        "classes": list(parts.task.classes),
        "modalities": {
            m: {
                "kind": e.kind,
                "width": e.width,
                "identity": e.identity,
                "fingerprint": e.fingerprint,
            }
            for m, e in parts.encoders.items()
        },
        "sha256": {name: file_digest(folder / name) for name in (WEIGHTS, BASELINE)},
    }
    write_json(folder / CARD, card)


def load_parts(folder: Path, encoders: Mapping[str, Encoder] | None = None) -> Parts:
    """Reads what `save_parts` wrote onto `config.device`; warns of other library versions.

    Args:
        folder: the run folder.
        encoders: {modality: encoder} in place of those that the config names.

    Raises:
        InputError: when files are missing or damaged, or an encoder is not the one that the model
            was trained with.
        MachineError: when the config's device is not there.
    """
    card = _read_card(folder)
    config = Config.from_yaml(folder / "config.yaml")
    encoders = load_encoders(config, encoders)
    _check_encoders(folder, card, encoders)
    widths = {m: e.width for m, e in encoders.items()}
    model = build_model(config.model, widths, len(card.task.classes))
    _fill(model, folder / WEIGHTS)
    means = _tensors(folder / BASELINE)
    return Parts(config, card.task, model.eval().to(find_device(config.device)), encoders, means)


def parts_digest(parts: Parts) -> str:
    """Returns the sha256 of the weights, the classes and the encoders."""
    digest = hashlib.sha256(repr((parts.task, parts.model.heads)).encode())
    for name, tensor in sorted(parts.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for name, encoder in sorted(parts.encoders.items()):
        digest.update(f"{name}:{encoder.fingerprint}".encode())
    return digest.hexdigest()


def run_config(folder: Path) -> Config:
    """Returns the configuration of a run folder.

    Raises:
        InputError: when there is no such folder, or its `config.yaml` is missing or damaged.
    """
    if not folder.is_dir():
        raise InputError(str(folder), "no such run folder", "a folder written by `fli2moe train`")
    return Config.from_yaml(folder / "config.yaml")


def refuse_overwriting(folder: Path) -> None:
    """Raises InputError when the folder holds a trained model."""
    if (folder / CARD).exists():
        remedy = "or give --overwrite (overwrite=True in Python)"
        raise InputError(str(folder), "holds a trained model", "a new folder", remedy)


def load_encoders(config: Config, given: Mapping[str, Encoder] | None = None) -> dict[str, Encoder]:
    """Returns the encoder of every modality that the config names.

    Args:
        config: names the encoders.
        given: {modality: encoder} that are at hand; they are not loaded.

    Raises:
        InputError: when an encoder is unknown, or an option was set that it does not have.
        MachineError: when a package, the hub or the device would be needed and is not there.
    """
    given, modalities = given or {}, config.data.modalities
    for m in given:
        if m not in modalities:
            raise unknown_name("encoders", "modality", m, modalities)
    shared = PRESETS[config.preset].get("modality", {})
    device = str(find_device(config.device))
    return {
        m: given[m] if m in given else _load(m, modalities[m], shared, device) for m in modalities
    }


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
        "regex",
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


@dataclass(frozen=True)
class _Card:
    """What `predictor.json` says: the task, and {modality: digest} of the encoders."""

    task: Task
    identities: Mapping[str, str]
    fingerprints: Mapping[str, str]


def _read_card(folder: Path) -> _Card:
    """Reads `predictor.json` and checks the files that it lists."""
    if not folder.is_dir():
        raise InputError(str(folder), "no such run folder", "a folder written by `fli2moe train`")
    path = folder / CARD
    card = read_json(path, AGAIN)
    written = card.get("format") if isinstance(card, dict) else None
    if written != FORMAT:
        expected = f"{FORMAT}, written by version {__version__}"
        raise InputError(str(path), f"format {written!r}", expected, "use the matching version")
    try:
        digests = dict(card["sha256"])
        task = Task(card["task"], tuple(card["classes"]))
        known = {
            m: (str(e["identity"]), str(e["fingerprint"])) for m, e in card["modalities"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(str(path), f"damaged: {error}", FORMAT, AGAIN) from None
    for name in (WEIGHTS, BASELINE):
        digest = digests.get(name, "")
        if not (folder / name).is_file() or file_digest(folder / name) != digest:
            found = "missing or damaged"
            raise InputError(str(folder / name), found, f"sha256 {digest[:12]}", AGAIN)
    identities, fingerprints = ({m: pair[i] for m, pair in known.items()} for i in (0, 1))
    return _Card(task, identities, fingerprints)


def _check_encoders(folder: Path, card: _Card, encoders: Mapping[str, Encoder]) -> None:
    """Refuses another encoder; warns of the same one computed by other library versions."""
    for m, identity in card.identities.items():
        if m not in encoders or encoders[m].identity != identity:
            found, remedy = (
                "another encoder than at training time",
                "use the same weights and options",
            )
            raise InputError(
                f"{folder}: modality {m}", found, identity[:12], f"{remedy}, or train again"
            )
    changed = [m for m, known in card.fingerprints.items() if encoders[m].fingerprint != known]
    if changed:
        logger.warning(
            "%s: other library versions compute the features of %s than at training time (%s)",
            folder,
            ", ".join(changed),
            _changed_versions(folder) or "which ones is not known",
        )


def _changed_versions(folder: Path) -> str:
    """Returns `pillow 11.0, now 12.0` for each library that changed since the run was written."""
    try:
        then = dict(read_json(folder / ENVIRONMENT)["packages"])
    except (InputError, KeyError, TypeError, ValueError):
        return ""  # it is there to inform; nothing else depends on it
    now = environment()["packages"]
    changed = [name for name in then if name in now and then[name] != now[name]]
    return "; ".join(f"{name} {then[name]}, now {now[name]}" for name in changed)


def _fill(model: FusionTransformer, path: Path) -> None:
    """Loads weights; names and shapes must be exactly the model's."""
    have = {name: tuple(x.shape) for name, x in _tensors(path).items()}
    want = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    wrong = sorted(n for n in have.keys() | want.keys() if have.get(n) != want.get(n))
    if wrong:
        first = ", ".join(f"{n} {have.get(n, 'missing')}" for n in wrong[:3])
        found = f"{len(wrong)} tensors do not fit config.yaml: {first}"
        expected = ", ".join(f"{want.get(n, 'none')}" for n in wrong[:3])
        raise InputError(str(path), found, expected, AGAIN)
    model.load_state_dict(_tensors(path))


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(str(path), f"not readable: {error}", "safetensors", AGAIN) from None


def _load(name: str, modality: ModalityConfig, shared: Mapping[str, Any], device: str) -> Encoder:
    """Loads one encoder with the options that were set, onto the device if it computes on one.

    A value that is the field's default, or the preset's for every modality, is left out where the
    encoder has no such option; any other value was asked for, and is then an error.
    """
    accepted = encoder_options(modality.encoder, modality.kind)
    wanted = modality.model_dump(exclude={"column", "encoder", "kind"}, exclude_none=True)
    for option, value in wanted.items():
        usual = (ModalityConfig.model_fields[option].default, shared.get(option))
        if option not in accepted and value not in usual:
            where = f"data.modalities.{name}.{option}"
            own = [o for o in ModalityConfig.model_fields if o in accepted]
            expected = f"an option of {modality.encoder} ({', '.join(own)})"
            raise InputError(where, f"{value!r}", expected, "remove it")
    wanted["device"] = device
    options: Any = {option: value for option, value in wanted.items() if option in accepted}
    return load_encoder(modality.encoder, kind=modality.kind, **options)

"""A predictor on disk: a saved model (`model/pretrained.py`) with all that reads raw inputs.

Beside the model's own files stand config.yaml, predictor.json, baseline.safetensors and
environment.json; training and evaluation add what they found.
"""

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
from torch import Tensor

from fli2moe import __version__
from fli2moe.config import Config, ModalityConfig
from fli2moe.devices import find_device
from fli2moe.encoders import Encoder, encoder_options, load_encoder
from fli2moe.errors import InputError, unknown_name
from fli2moe.files import file_digest, read_json, write_json, write_tensors, write_text
from fli2moe.model import FusionModel, check_baseline, pretrained
from fli2moe.model.pretrained import PretrainedConfig
from fli2moe.presets import PRESETS
from fli2moe.stored import AGAIN, read_format, read_tensors
from fli2moe.task import Task

FORMAT = "fli2moe/predictor/3"
SETTINGS, BASELINE, PREDICTOR = "config.yaml", "baseline.safetensors", "predictor.json"
UNFINISHED = Path("checkpoints/state.safetensors")
"""State of a training that is going on or was interrupted; it goes when all else is there."""
ENVIRONMENT, TRAINING, METRICS = "environment.json", "training.json", "metrics.json"
RUN_FILES = (*pretrained.MODEL_FILES, SETTINGS, BASELINE, PREDICTOR, ENVIRONMENT, TRAINING, METRICS)
"""What a hub is asked for: nothing in it is a pickle, and no results per sample."""
BESIDE_ENCODER = {"column", "encoder", "kind", "optional"}
"""Options of a modality that are none of its encoder's."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Parts:
    """What a predictor is made of; see `Predictor` for the fields."""

    config: Config
    task: Task
    model: FusionModel
    encoders: Mapping[str, Encoder]
    means: Mapping[str, Tensor]


def save_parts(parts: Parts, folder: Path) -> None:
    """Writes a predictor into `folder`; `predictor.json`, written last, holds the checksums.

    Raises:
        InputError: when the model's logits are not finite, or config and task name other classes.
        MachineError: when the folder cannot be written.
    """
    _check_classes("task.classes", parts.task.classes, "the config", parts.config.data.classes)
    pretrained.save_model(parts.model, parts.config.model, folder, parts.task.classes)
    write_text(folder / SETTINGS, parts.config.to_yaml())
    write_tensors(folder / BASELINE, parts.means)
    write_json(folder / ENVIRONMENT, environment())
    described = {
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
        "sha256": {name: file_digest(folder / name) for name in (pretrained.CONFIG, BASELINE)},
    }
    write_json(folder / PREDICTOR, described)


def load_parts(folder: Path, encoders: Mapping[str, Encoder] | None = None) -> Parts:
    """Reads what `save_parts` wrote onto `config.device`; warns of other library versions.

    Args:
        folder: the run folder.
        encoders: {modality: encoder} in place of those that the config names.

    Raises:
        InputError: when files are missing, damaged, of another version or do not fit each other,
            an encoder is not the one that the model was trained with, or the model does not give
            here the logits that it gave where it was saved.
        MachineError: when the config's device is not there.
    """
    known = _read_known(folder)
    config = Config.from_yaml(folder / SETTINGS)
    about = pretrained.read_config(folder)
    _check_agreement(folder, known, config, about)
    encoders = load_encoders(config, encoders)
    _check_encoders(folder, known, encoders, about.widths)
    model = pretrained.load_model(folder, about)
    means = read_tensors(folder / BASELINE, known.digests.get(BASELINE, ""))
    check_baseline(means, about.widths)
    model.to(find_device(config.device))
    if model.device.type != "cpu":
        pretrained.check_selftest(model, folder, about)
    return Parts(config, known.task, model, encoders, means)


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
    return Config.from_yaml(folder / SETTINGS)


def refuse_overwriting(folder: Path) -> None:
    """Raises InputError when the folder holds a trained model whose training is not going on."""
    if (folder / PREDICTOR).exists() and not (folder / UNFINISHED).exists():
        remedy = "or give --overwrite (overwrite=True in Python)"
        raise InputError(str(folder), "holds a trained model", "a new folder", remedy)


def forget_results(folder: Path) -> None:
    """Removes what an earlier model of this folder left: its figures are not the new model's."""
    for name in ("metrics.json", "report.html", "explanations/manifest.json"):
        (folder / name).unlink(missing_ok=True)


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
class _Known:
    """What `predictor.json` says: the task, digests of encoders by modality, and of files."""

    task: Task
    identities: Mapping[str, str]
    fingerprints: Mapping[str, str]
    digests: Mapping[str, str]


def _read_known(folder: Path) -> _Known:
    """Reads `predictor.json`; the digest of `config.json` in it covers the model's files."""
    if not folder.is_dir():
        raise InputError(str(folder), "no such run folder", "a folder written by `fli2moe train`")
    path = folder / PREDICTOR
    data = read_format(path, FORMAT)
    try:
        digests = {str(name): str(digest) for name, digest in data["sha256"].items()}
        task = Task(data["task"], tuple(data["classes"]))
        known = {
            m: (str(e["identity"]), str(e["fingerprint"])) for m, e in data["modalities"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(str(path), f"damaged: {error}", FORMAT, AGAIN) from None
    identities, fingerprints = ({m: pair[i] for m, pair in known.items()} for i in (0, 1))
    config, digest = folder / pretrained.CONFIG, digests.get(pretrained.CONFIG, "")
    if not config.is_file() or file_digest(config) != digest:
        raise InputError(str(config), "missing or damaged", f"sha256 {digest[:12]}", AGAIN)
    return _Known(task, identities, fingerprints, digests)


def _check_agreement(folder: Path, known: _Known, config: Config, about: PretrainedConfig) -> None:
    """Refuses three descriptions of one model that do not say the same."""
    settings, written = folder / SETTINGS, about.model.model_dump(mode="json")
    for key, value in config.model.model_dump(mode="json").items():
        if value != written[key]:
            expected = f"{written[key]}, with which the model was saved"
            raise InputError(f"{settings}: model.{key}", f"{value}", expected, AGAIN)
    classes, listed = known.task.classes, folder / PREDICTOR
    _check_classes(f"{listed}: classes", classes, "config.json", about.labels)
    _check_classes(f"{listed}: classes", classes, SETTINGS, config.data.classes)
    if len(classes) != about.classes:
        raise InputError(f"{listed}: classes", f"{len(classes)} names", f"{about.classes}", AGAIN)
    for path, modalities in ((listed, known.identities), (settings, config.data.modalities)):
        if set(modalities) != set(about.widths):
            expected = f"those of config.json, {list(about.widths)}"
            raise InputError(f"{path}: modalities", f"{list(modalities)}", expected, AGAIN)


def _check_classes(
    where: str, classes: tuple[str, ...], source: str, names: tuple[str, ...] | None
) -> None:
    if names is not None and names != classes:
        expected = f"those of {source}, {list(names)}"
        raise InputError(where, f"{list(classes)}", expected, AGAIN)


def _check_encoders(
    folder: Path, known: _Known, encoders: Mapping[str, Encoder], widths: Mapping[str, int]
) -> None:
    """Refuses another encoder; warns of the same one computed by other library versions."""
    for m, identity in known.identities.items():
        where, remedy = f"{folder}: modality {m}", "use the same weights and options"
        if encoders[m].identity != identity:
            found = "another encoder than at training time"
            raise InputError(where, found, identity[:12], f"{remedy}, or train again")
        if encoders[m].width != widths[m]:
            found = f"the encoder gives features of width {encoders[m].width}"
            raise InputError(where, found, f"the model's {widths[m]}", f"{remedy}, or train again")
    changed = [m for m, then in known.fingerprints.items() if encoders[m].fingerprint != then]
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


def _load(name: str, modality: ModalityConfig, shared: Mapping[str, Any], device: str) -> Encoder:
    """Loads one encoder with the options that were set, onto the device if it computes on one.

    A value that is the field's default, or the preset's for every modality, is left out where the
    encoder has no such option; any other value was asked for, and is then an error.
    """
    accepted = encoder_options(modality.encoder, modality.kind)
    wanted = modality.model_dump(exclude=BESIDE_ENCODER, exclude_none=True)
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

"""A model on disk: config.json, model.safetensors, a self-test and a card; no encoder, no pickle.

A run folder (`run_folder.py`) is such a folder with encoders, task and baseline beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, ValidationError

from fli2moe import __version__
from fli2moe.config import ModelConfig
from fli2moe.errors import InputError
from fli2moe.files import file_digest, write_json, write_tensors, write_text
from fli2moe.hub import HubOptions, find_pretrained
from fli2moe.model.base import FusionModel
from fli2moe.model.models import parameter_count
from fli2moe.model.rebuild import rebuild
from fli2moe.model.selftest import (
    make_selftest,
    read_selftest,
    selftest_difference,
    selftest_tolerance,
)
from fli2moe.model_card import README, ModelCard, write_card
from fli2moe.stored import AGAIN, read_format, read_tensors
from fli2moe.strict import Strict
from fli2moe.validation import explain_validation

FORMAT = "fli2moe/model/1"
CONFIG, WEIGHTS, SELFTEST = "config.json", "model.safetensors", "selftest.safetensors"
MODEL_FILES = (CONFIG, WEIGHTS, SELFTEST, README)

USAGE = """\
from fli2moe.model import from_pretrained
model = from_pretrained(".")  # this folder, or its `owner/name` on the Hugging Face hub
print(model.widths, model.experts)"""

logger = logging.getLogger(__name__)


class PretrainedConfig(Strict):
    """What `config.json` says of a saved model."""

    format: str = Field(description="name and number of the layout")
    version: str = Field(description="of this library, when it was saved")
    torch: str = Field(description="version of PyTorch, when it was saved")
    model: ModelConfig = Field(description="the model section, every value written out")
    widths: dict[str, Annotated[int, Field(strict=True, ge=1)]] = Field(description="{modality: D}")
    classes: int = Field(ge=1, strict=True, description="C")
    labels: tuple[str, ...] | None = Field(None, description="names of the classes")
    sha256: dict[str, str] = Field(description="{file: digest}")


def save_pretrained(
    model: FusionModel,
    config: ModelConfig,
    folder: str | Path,
    *,
    labels: Sequence[str] | None = None,
    card: str | None = None,
) -> Path:
    """Writes a model into a folder that `from_pretrained` reads, and returns the folder.

    Args:
        model: the trained model.
        config: what it was built from.
        folder: made when it is not there.
        labels: names of the C classes.
        card: text of the README.md; by default one that describes the model, unless a person
            wrote or edited the one that is there.

    Raises:
        InputError: when config or labels are not the model's, or its logits are not finite.
        MachineError: when the folder cannot be written.
    """
    folder = Path(folder)
    save_model(model, config, folder, labels)
    if card is not None:
        write_text(folder / README, card)
    else:
        described = ModelCard(
            model=config.name,
            modalities=model.widths,
            experts=model.experts,
            parameters=parameter_count(model),
            classes=model.classes,
            usage=USAGE,
            labels=tuple(labels or ()),
            settings={"model": config.model_dump(mode="json")},
        )
        write_card(folder, described.to_markdown())
    return folder


def from_pretrained(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> FusionModel:
    """Returns the model of a saved folder, on the CPU in evaluation mode.

    Args:
        name_or_path: the folder; `owner/name`, where there is no such folder, is fetched from the
            Hugging Face hub.
        revision: branch, tag or commit on the hub.
        token: of an account that may read the model on the hub.
        cache_dir: where downloads are kept.
        local_files_only: take what an earlier download left, and never use the network.

    Raises:
        InputError: when files are missing, damaged, of another format or do not fit each other, or
            when the model does not give here the logits that it gave where it was saved.
        MachineError: when the hub cannot be reached.
    """
    options = HubOptions(revision, token, cache_dir, local_files_only)
    folder = find_pretrained(name_or_path, MODEL_FILES, options)
    return load_model(folder, read_config(folder))


def save_model(
    model: FusionModel,
    config: ModelConfig,
    folder: Path,
    labels: Sequence[str] | None = None,
) -> None:
    """Writes weights and self-test, then `config.json`, which holds their checksums.

    Raises:
        InputError: when config or labels are not the model's, or its logits are not finite.
        MachineError: when the folder cannot be written.
    """
    names = None if labels is None else tuple(labels)
    _check_labels("labels", names, model.classes)
    state = {name: x.detach().cpu() for name, x in model.state_dict().items()}
    test = make_selftest(model)
    again = rebuild(config, model.widths, model.classes, state, "model")
    if again.experts != model.experts or not (
        selftest_difference(test, again) <= selftest_tolerance(again)
    ):
        found = f"a {config.name} of this configuration gives other logits than the model"
        raise InputError("config", found, "the configuration that the model was built from")
    write_tensors(folder / WEIGHTS, state)
    write_tensors(folder / SELFTEST, test.tensors())
    about = PretrainedConfig(
        format=FORMAT,
        version=__version__,
        torch=torch.__version__,
        model=config,
        widths=model.widths,
        classes=model.classes,
        labels=names,
        sha256={name: file_digest(folder / name) for name in (WEIGHTS, SELFTEST)},
    )
    write_json(folder / CONFIG, about.model_dump(mode="json"))


def read_config(folder: Path) -> PretrainedConfig:
    """Reads `config.json` alone: sizes and labels of a saved model.

    Raises:
        InputError: when it is missing, damaged or of another format.
    """
    path = folder / CONFIG
    data = read_format(path, FORMAT)
    try:
        about = PretrainedConfig.model_validate(data)
    except ValidationError as error:
        wrong = explain_validation(error, PretrainedConfig, str(path))
        if data["version"] == __version__:
            raise wrong from None
        remedy = f"it was saved by fli2moe {data['version']}, and this is {__version__}"
        raise InputError(wrong.where, wrong.found, wrong.expected, remedy) from None
    _check_labels(f"{path}: labels", about.labels, about.classes)
    return about


def load_model(folder: Path, about: PretrainedConfig) -> FusionModel:
    """Returns the model that `folder` holds, on the CPU in evaluation mode, self-test passed.

    Raises:
        InputError: when files are missing or damaged, do not fit `about`, or the model does not
            give the stored logits.
    """
    state = read_tensors(folder / WEIGHTS, about.sha256.get(WEIGHTS, ""))
    where = f"{folder / WEIGHTS}"
    model = rebuild(about.model, about.widths, about.classes, state, where).eval()
    check_selftest(model, folder, about)
    return model


def check_selftest(model: FusionModel, folder: Path, about: PretrainedConfig) -> None:
    """Runs the stored batch where the model is, and compares with the stored logits.

    Raises:
        InputError: when they differ by more than rounding, or are not finite.
    """
    path = folder / SELFTEST
    tensors = read_tensors(path, about.sha256.get(SELFTEST, ""))
    test = read_selftest(tensors, model, str(path), AGAIN)
    difference, allowed = selftest_difference(test, model), selftest_tolerance(model)
    versions = (
        f"saved by fli2moe {about.version} and torch {about.torch}, "
        f"here {__version__} and {torch.__version__}"
    )
    if not difference <= allowed:
        found = (
            f"on {model.device} the logits differ by {difference:.1e} of the largest from those "
            "where the model was saved"
        )
        remedy = (
            "this machine or library computes other numbers than where the model was saved "
            f"({versions}): use those versions, or train again"
        )
        raise InputError(str(path), found, f"at most {allowed:.0e}", remedy)
    if difference > allowed / 10:
        told = "%s: the logits differ by %.1e of the largest from those where it was saved (%s)"
        logger.warning(told, folder, difference, versions)


def _check_labels(where: str, labels: tuple[str, ...] | None, classes: int) -> None:
    if labels is not None and (len(labels) != classes or len(set(labels)) < len(labels)):
        found = f"{len(labels)} names, {len(set(labels))} of them different"
        raise InputError(where, found, f"{classes} different names, one for each class")

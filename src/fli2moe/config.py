"""Strict, typed configuration, YAML in and out; an unknown key is an error that helps."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from fli2moe.errors import InputError, unknown_name
from fli2moe.model_sections import ModelConfig, RouterConfig, SparseConfig
from fli2moe.presets import PRESETS
from fli2moe.sections import (
    DataConfig,
    EvaluationConfig,
    ExplainConfig,
    LossConfig,
    ModalityConfig,
    TrainingConfig,
)
from fli2moe.strict import Strict
from fli2moe.validation import explain_validation
from fli2moe.yaml_file import read_yaml

__all__ = [
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "ExplainConfig",
    "LossConfig",
    "ModalityConfig",
    "ModelConfig",
    "RouterConfig",
    "SparseConfig",
    "TrainingConfig",
]


BESIDE_PRESET = ("data", "seed", "device")
"""What a configuration says that no preset does."""
AFTER_TRAINING = ("explain", "evaluation")
"""The sections that may differ from call to call: the model does not depend on them."""


class Config(Strict):
    """Everything a run needs."""

    preset: Literal["paper", "small", "demo", "specialised", "specialised_labels"] = Field(
        "small", description="defaults to start from"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of everything random")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where encoders and model compute; auto: CUDA where available"
    )
    data: DataConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    losses: LossConfig = Field(default_factory=LossConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    explain: ExplainConfig = Field(default_factory=ExplainConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    @staticmethod
    def from_dict(data: Mapping[str, Any], *, where: str = "config") -> Config:
        """Returns the configuration; the preset's values stand below the given ones.

        Raises:
            InputError: naming the key, what was found, what was expected, and the closest match.
        """
        preset = data.get("preset", "small")
        if not isinstance(preset, str) or preset not in PRESETS:
            name = preset if isinstance(preset, str) else reprlib.repr(preset)
            raise unknown_name(f"{where}: preset", "preset", name, PRESETS)
        defaults = dict(PRESETS[preset])
        shared = defaults.pop("modality", {})  # a preset's defaults for every modality
        merged = _merge(defaults, data)
        source = merged.get("data")
        if isinstance(source, Mapping) and isinstance(source.get("modalities"), Mapping):
            modalities = {
                name: _merge(shared, value) if isinstance(value, Mapping) else value
                for name, value in source["modalities"].items()
            }
            merged["data"] = {**source, "modalities": modalities}
        try:
            return Config.model_validate(merged)
        except ValidationError as error:
            raise explain_validation(error, Config, where) from None

    @staticmethod
    def from_yaml(
        path: str | Path, *, overrides: Mapping[str, Any] | None = None, preset: str | None = None
    ) -> Config:
        """Reads a YAML file; relative paths in it are taken from the file's folder.

        Args:
            path: the file.
            overrides: {"training.epochs": 3, ...}, put over the file's values.
            preset: in place of the file's; of the file only `data`, `seed` and `device` then count.

        Raises:
            InputError: when it cannot be read or is not valid.
        """
        path = Path(path)
        data: dict[str, Any] = read_yaml(path)
        if preset is not None:
            data = {k: v for k, v in data.items() if k in BESIDE_PRESET} | {"preset": preset}
        for key, value in (overrides or {}).items():
            data = _put(data, key.split("."), value, key)
        return Config.from_dict(data, where=str(path)).resolved(path.parent)

    def after_training(self, options: Mapping[str, Any]) -> Config:
        """Returns the configuration with other options of how it is explained and evaluated.

        Args:
            options: {"explain.steps": 64, ...}.

        Raises:
            InputError: when one is unknown or not valid, or was fixed when the model was trained.
        """
        for key in options:
            section = key.partition(".")[0]
            if section not in AFTER_TRAINING:
                expected = " or ".join(f"{name}.key=value" for name in AFTER_TRAINING)
                known = section in type(self).model_fields
                found = "fixed when the model was trained" if known else "no such section"
                raise InputError(f"--set {key}", found, expected)
        return self.with_options(options)

    def with_options(self, options: Mapping[str, Any]) -> Config:
        """Returns the configuration with other values, {"training.epochs": 3, ...}.

        Raises:
            InputError: when one is unknown or not valid.
        """
        data: dict[str, Any] = self.model_dump(mode="json")
        for key, value in options.items():
            data = _put(data, key.split("."), value, key)
        return Config.from_dict(data, where="--set")

    def resolved(self, folder: Path) -> Config:
        """Returns the configuration with relative paths made absolute from `folder`.

        Raises:
            InputError: when a path cannot be one (an unknown home folder, a NUL character).
        """

        def absolute(key: str, value: str) -> str:
            try:
                return str((folder / Path(value).expanduser()).resolve())
            except (OSError, RuntimeError, ValueError) as error:
                raise InputError(key, repr(value), "a path", str(error)) from None

        def encoder(key: str, value: str) -> str:
            if value.startswith((".", "/", "~")):
                return absolute(key, value)
            path = Path(absolute(key, value))
            return str(path) if path.is_dir() else value

        data = self.model_dump()
        data["data"]["path"] = absolute("data.path", self.data.path)
        if self.data.image_root is not None:
            data["data"]["image_root"] = absolute("data.image_root", self.data.image_root)
        for name, modality in self.data.modalities.items():
            key = f"data.modalities.{name}.encoder"
            data["data"]["modalities"][name]["encoder"] = encoder(key, modality.encoder)
        return Config.model_validate(data)

    def to_yaml(self) -> str:
        """Returns the whole configuration, every value written out, as YAML."""
        values = self.model_dump(mode="json")
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        if yaml.safe_load(text) != values:  # YAML folds some line separators, such as U+0085
            text = yaml.safe_dump(values, sort_keys=False)
        return text


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested mappings joined, the values of `above` winning; neither is changed."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            value = _merge(inner, value)
        merged[key] = value
    return merged


def _put(section: Mapping[str, Any], path: list[str], value: Any, key: str) -> dict[str, Any]:
    """Returns a copy of `section` with `value` at `path`; sections shared by aliases stay apart."""
    first, *rest = path
    if not rest:
        return {**section, first: value}
    inner = section.get(first, {})
    if not isinstance(inner, Mapping):
        raise InputError(f"--set {key}", f"{first} is no section", "section.key=value")
    return {**section, first: _put(inner, rest, value, key)}

"""Strict, typed configuration: YAML in and out; an unknown key is an error with the closest match.

Every field's description is its comment, its API documentation and its help.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fli2moe.errors import InputError, closest
from fli2moe.presets import PRESETS
from fli2moe.yaml_file import read_yaml

Attributions = Literal[
    "attention_gradient",
    "attention_rollout",
    "integrated_gradients",
    "gradient_x_input",
    "random",
]


class Strict(BaseModel):
    """Base of every section: no unknown keys, no changes after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModalityConfig(Strict):
    """One modality: where its raw input stands and which frozen encoder reads it."""

    column: str | None = Field(None, description="manifest column; the modality's name by default")
    encoder: str = Field(
        description="builtin:words, builtin:patches, vector, or a Hugging Face "
        "name or folder (relative to the config file)"
    )
    kind: Literal["text", "image", "vector"] | None = Field(
        None, description="which tower of a two-tower encoder to use"
    )
    max_tokens: int | None = Field(None, ge=1, description="text is cut after this many tokens")
    pool: int = Field(1, ge=1, description="average blocks of pool x pool patches into one token")
    patch: int = Field(16, ge=1, description="patch side in pixels (builtin:patches)")
    width: int = Field(64, ge=1, description="feature width (builtin encoders)")
    structural_tokens: Literal["drop", "keep"] = Field(
        "drop", description="leave CLS and SEP out of the sequence, or keep them"
    )


class DataConfig(Strict):
    """Where the samples come from."""

    source: Literal["manifest", "enrico"] = Field("manifest", description="layout of the data")
    path: str = Field(description="manifest file or data folder, relative to the config file")
    id_column: str = Field("id", description="column of the sample's id")
    label_column: str = Field("label", description="column of the label")
    split_column: str = Field("split", description="column with train, val or test")
    split_seed: int = Field(0, ge=0, description="of the split where there is no split column")
    label_separator: str = Field("|", description="between several labels of one row")
    image_root: str | None = Field(None, description="folder that picture paths are relative to")
    allow_outside: bool = Field(False, description="allow pictures outside the image root")
    labels: Literal["multiclass", "multilabel"] = Field("multiclass", description="kind of labels")
    classes: tuple[str, ...] | None = Field(
        None, description="class names in the model's order; the training labels by default"
    )
    modalities: dict[str, ModalityConfig] = Field(description="{name: where and which encoder}")


class RouterConfig(Strict):
    """The router's MLP."""

    hidden: int = Field(256, ge=1, description="hidden width")
    layers: int = Field(2, ge=1, description="linear layers")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout")
    temperature: float = Field(2.0, gt=0, description="of the softmax; higher is flatter")
    normalize: Literal["l2", "none"] = Field("l2", description="scale of the modality means")


class ModelConfig(Strict):
    """Sizes of the experts."""

    name: Literal["fli2moe", "dense"] = Field("fli2moe", description="the model")
    hidden: int = Field(256, ge=1, description="width H")
    layers: int = Field(2, ge=1, description="transformer layers per expert")
    heads: int = Field(4, ge=1, description="attention heads; must divide hidden")
    feed_forward: int = Field(2, ge=1, description="feed-forward width as a multiple of hidden")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout inside the experts")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on projected tokens")
    positions: Literal["sinusoidal", "learned", "none"] = Field(
        "sinusoidal", description="position encoding, counted per modality"
    )
    max_positions: int = Field(512, ge=1, description="longest sequence of learned positions")
    standardise: bool = Field(True, description="standardise features with training statistics")
    router: RouterConfig = Field(default_factory=RouterConfig, description="the router")


class LossConfig(Strict):
    """Interaction losses and when they act."""

    interaction: float = Field(0.5, ge=0, description="weight lambda_int of the interaction losses")
    interaction_schedule: Literal["constant", "gated"] = Field(
        "constant",
        description="gated: interaction losses and masking start once the worst "
        "label's training loss is below gate_loss; the learning rate then falls linearly",
    )
    gate_loss: float = Field(0.5, gt=0, description="threshold of the gate, in nats")
    synergy_floor: float | None = Field(
        None, ge=-1, le=1, description="the synergy term is max(floor, cos); none leaves it plain"
    )
    noise_fraction: float = Field(
        1.0, gt=0, le=1, description="share of the batch that noise passes use"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="label smoothing of the task loss")


class TrainingConfig(Strict):
    """The optimisation."""

    epochs: int = Field(40, ge=1, description="at most this many epochs")
    batch_size: int = Field(32, ge=2, description="samples per step")
    optimizer: Literal["adam", "adamw"] = Field("adam", description="optimiser")
    learning_rate: float = Field(1e-4, gt=0, description="learning rate")
    router_rate: float = Field(1.0, gt=0, description="router's learning rate as a multiple")
    weight_decay: float = Field(0.0, ge=0, description="weight decay")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="learning rate over time"
    )
    warmup_epochs: float = Field(0.0, ge=0, description="linear warm-up")
    clip: float | None = Field(None, gt=0, description="gradient norm is clipped to this")
    patience: int = Field(10, ge=1, description="epochs without improvement before stopping")
    monitor: Literal["loss", "score"] = Field(
        "loss", description="best checkpoint by validation loss, or accuracy (macro F1 multi-label)"
    )
    mask_training: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of samples whose tokens are hidden at random by the baseline",
    )
    class_weights: Literal["none", "balanced"] = Field("none", description="weights in the loss")
    precision: Literal["32", "bf16-mixed", "16-mixed"] = Field("32", description="precision")


class ExplainConfig(Strict):
    """How samples are explained."""

    attribution: Attributions = Field("attention_gradient", description="attribution method")
    baseline: Literal["mean", "zero", "drop"] = Field(
        "mean", description="stands for a hidden token"
    )
    budget: int = Field(2000, ge=8, description="model evaluations per sample and target")
    contexts: Literal["shapley", "banzhaf", "full"] = Field("shapley", description="contexts' law")
    score: Literal["auto", "logit", "centred"] = Field("auto", description="score of a target")
    batch_size: int = Field(256, ge=1, description="coalitions per forward pass")


class EvaluationConfig(Strict):
    """What `evaluate` measures."""

    attributions: tuple[Attributions, ...] = Field(
        ("attention_gradient", "gradient_x_input"), description="methods whose faithfulness counts"
    )
    samples: int = Field(300, ge=1, description="test samples of the masking curves, seeded choice")
    pair_samples: int = Field(
        50, ge=1, description="test samples of the pair probes, seeded choice"
    )
    budget: int = Field(500, ge=8, description="model evaluations per sample of the pair probes")
    random_draws: int = Field(10, ge=1, description="random rankings averaged as control")
    probe: bool = Field(True, description="fit a linear probe on the mean-pooled features")


class Config(Strict):
    """Everything a run needs."""

    preset: Literal["paper", "small", "demo"] = Field("paper", description="defaults to start from")
    seed: int = Field(0, ge=0, description="of everything random")
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
        preset = data.get("preset", "paper")
        if preset not in PRESETS:
            names = ", ".join(PRESETS)
            match = closest(str(preset), PRESETS)
            remedy = f"did you mean {match!r}?" if match else ""
            raise InputError(f"{where}: preset", f"{preset!r}", f"one of {names}", remedy)
        merged = _merge(PRESETS[preset], data)
        shared = merged.pop("modality", {})  # a preset's defaults for every modality
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
            raise _explain(error, where) from None

    @staticmethod
    def from_yaml(path: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Config:
        """Reads a YAML file; relative paths in it are taken from the file's folder.

        Args:
            path: the file.
            overrides: {"training.epochs": 3, ...}, put over the file's values.

        Raises:
            InputError: when it cannot be read or is not valid.
        """
        path = Path(path)
        data = read_yaml(path)
        for key, value in (overrides or {}).items():
            *parents, last = key.split(".")
            node = data
            for parent in parents:
                node = node.setdefault(parent, {})
                if not isinstance(node, dict):
                    raise InputError(f"--set {key}", f"{parent} is no section", "section.key=value")
            node[last] = value
        return Config.from_dict(data, where=str(path)).resolved(path.parent)

    def resolved(self, folder: Path) -> Config:
        """Returns the configuration with relative paths made absolute from `folder`."""

        def absolute(value: str | None) -> str | None:
            return None if value is None else str((folder / Path(value).expanduser()).resolve())

        def encoder(value: str) -> str:
            is_path = value.startswith((".", "/", "~")) or (folder / value).is_dir()
            return absolute(value) or value if is_path else value

        data = self.model_dump()
        data["data"]["path"] = absolute(self.data.path)
        data["data"]["image_root"] = absolute(self.data.image_root)
        for name, modality in self.data.modalities.items():
            data["data"]["modalities"][name]["encoder"] = encoder(modality.encoder)
        return Config.model_validate(data)

    def to_yaml(self) -> str:
        """Returns the whole configuration, every value written out, as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def _explain(error: ValidationError, where: str) -> InputError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        section: Any = Config
        for part in path[:-1]:
            field = section.model_fields.get(part) if hasattr(section, "model_fields") else None
            section = field.annotation if field else ModalityConfig
        names = list(getattr(section, "model_fields", ModalityConfig.model_fields))
        match = closest(path[-1], names)
        remedy = f"did you mean {match!r}?" if match else "remove it"
        return InputError(f"{where}: {key}", "unknown key", f"one of {', '.join(names)}", remedy)
    found = "missing" if first["type"] == "missing" else f"{first['input']!r}"
    return InputError(f"{where}: {key}", found, first["msg"].removeprefix("Input should be "))

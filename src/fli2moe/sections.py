"""The sections of a configuration but the model's, strict and typed.

Every field's description is its comment, its API documentation and its help.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import (
    Field,
    PositiveFloat,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from fli2moe.strict import Strict

Attributions = Literal[
    "attention_gradient",
    "attention_rollout",
    "integrated_gradients",
    "gradient_x_input",
    "random",
]


class ModalityConfig(Strict):
    """One modality: where its raw input stands and which frozen encoder reads it."""

    column: str | None = Field(None, description="manifest column; the modality's name by default")
    encoder: str = Field(
        min_length=1,
        description="builtin:words, builtin:patches, vector, or a Hugging Face "
        "name or folder (relative to the config file)",
    )
    kind: Literal["text", "image", "vector"] | None = Field(
        None, description="which tower of a two-tower encoder to use"
    )
    optional: bool = Field(False, description="an empty cell is a sample without this modality")
    max_tokens: int | None = Field(None, ge=1, description="text is cut after this many tokens")
    pool: int = Field(1, ge=1, description="average blocks of pool x pool patches into one token")
    patch: int = Field(16, ge=1, description="patch side in pixels (builtin:patches)")
    width: int = Field(64, ge=1, description="feature width (builtin encoders)")
    structural_tokens: Literal["drop", "keep"] = Field(
        "drop", description="leave CLS and SEP out of the sequence, or keep them"
    )


class DataConfig(Strict):
    """Where the samples come from."""

    source: Literal["manifest", "enrico", "mmimdb", "mmhs150k"] = Field(
        "manifest", description="layout of the data"
    )
    path: str = Field(
        min_length=1, description="manifest file or data folder, relative to the config file"
    )
    encoding: str = Field("utf-8", description="of a CSV or JSONL manifest")
    id_column: str = Field("id", description="column of the sample's id")
    label_column: str = Field("label", description="column of the label")
    split_column: str = Field("split", description="column with train, val or test")
    split_seed: int = Field(
        0, ge=0, lt=2**32, description="of the split where there is no split column"
    )
    label_separator: str = Field("|", description="between several labels of one row")
    image_root: str | None = Field(None, description="folder that picture paths are relative to")
    allow_outside: bool = Field(False, description="allow pictures outside the image root")
    on_bad: Literal["stop", "skip"] = Field(
        "stop", description="at a sample that cannot be read: stop, or leave it out and say so"
    )
    max_bad_share: float = Field(
        0.05, ge=0, le=1, description="stop where a larger share of the samples is left out"
    )
    labels: Literal["multiclass", "multilabel", "binary"] = Field(
        "multiclass",
        description="kind of labels; binary: the second of two classes is the positive",
        validate_default=True,
    )
    classes: tuple[str, ...] | None = Field(
        None, description="class names in the model's order; the training labels by default"
    )
    ocr: bool = Field(
        False, description="mmhs150k: append the text found in the picture to the tweet's"
    )
    modalities: dict[str, ModalityConfig] = Field(description="{name: where and which encoder}")

    @field_validator("labels")
    @classmethod
    def _labels_of_source(cls, labels: str, info: ValidationInfo) -> str:
        kinds = {"mmimdb": ("multilabel",), "mmhs150k": ("multiclass", "binary")}
        source = info.data.get("source", "manifest")
        if source in kinds and labels not in kinds[source]:
            message = "{kinds} where data.source is {source}"
            values = {"kinds": " or ".join(kinds[source]), "source": source}
            raise PydanticCustomError("labels", message, values)
        return labels

    @field_validator("classes")
    @classmethod
    def _own_classes(
        cls, classes: tuple[str, ...] | None, info: ValidationInfo
    ) -> tuple[str, ...] | None:
        source = info.data.get("source", "manifest")
        if classes is not None and source in ("mmimdb", "mmhs150k"):
            message = "nothing: {source} has classes of its own"
            raise PydanticCustomError("unused", message, {"source": source})
        return classes

    @field_validator("ocr")
    @classmethod
    def _ocr_of_source(cls, ocr: bool, info: ValidationInfo) -> bool:
        source = info.data.get("source", "mmhs150k")
        if ocr and source != "mmhs150k":
            message = "false where data.source is {source}"
            raise PydanticCustomError("unused", message, {"source": source})
        return ocr

    @field_validator("modalities")
    @classmethod
    def _plain_names(cls, value: dict[str, ModalityConfig]) -> dict[str, ModalityConfig]:
        if bad := [name for name in value if not name.strip() or "." in name]:
            message = "names without dots (`column` may differ), not {name}"
            raise PydanticCustomError("name", message, {"name": repr(bad[0])})
        return value


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
    variant: Literal["paper", "swap", "predictive", "residual", "complete"] = Field(
        "paper",
        description="swap: another sample's modality in place of noise; predictive, residual, "
        "complete: experts predict what their name says",
    )
    space: Literal["latent", "logit"] = Field(
        "latent", description="what paper and swap compare; the others use logits"
    )
    replacement: Literal["noise", "zero", "mean"] = Field(
        "noise", description="what paper puts in a modality's place, in the projected space"
    )
    decorrelation: Literal["none", "cos", "cka", "barlow", "cka_debiased", "barlow_full"] = Field(
        "none", description="penalty on experts with similar latents"
    )
    decorrelation_weight: float | None = Field(
        None, ge=0, description="weight lambda_dec; the published one of the kind by default"
    )
    barlow_warmup_epochs: int = Field(
        5, ge=0, description="barlow, barlow_full: the weight rises linearly from 0 over these"
    )
    router: Literal["learned", "pid"] = Field(
        "learned", description="pid: the router follows what auxiliary heads find (two modalities)"
    )
    balance: float = Field(
        0.01, ge=0, description="weight of the load-balancing loss of sparse_moe"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="label smoothing of the task loss")

    @field_validator("replacement")
    @classmethod
    def _used(cls, replacement: str, info: ValidationInfo) -> str:
        variant = info.data.get("variant", "paper")
        if replacement != "noise" and variant != "paper":
            message = "nothing else than noise where losses.variant is {variant}"
            raise PydanticCustomError("unused", message, {"variant": variant})
        return replacement


class TrainingConfig(Strict):
    """The optimisation."""

    epochs: int = Field(40, ge=1, description="at most this many epochs")
    batch_size: int = Field(32, ge=2, description="samples per step, of all devices together")
    devices: int = Field(1, ge=1, le=64, description="of each node, a process each")
    nodes: int = Field(1, ge=1, le=1024, description="machines, which share the run folder")
    micro_batch: int | Literal["auto"] | None = Field(
        "auto",
        description="samples that run at once within a step, for the same gradients; null: all; "
        "auto: all on a GPU or with losses between samples, else about 1,300 tokens; dropout draws "
        "depend on it",
    )
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
    class_weights: Literal["none", "balanced"] | dict[str, PositiveFloat] = Field(
        "none", description="weights in the loss: none, balanced, or {class: weight}"
    )
    precision: Literal["32", "bf16-mixed", "16-mixed"] = Field("32", description="precision")
    skip_steps: int = Field(
        3,
        ge=0,
        description="steps of an epoch that may be left out for a loss or gradient not finite",
    )
    permute_labels: bool = Field(
        False, description="a control: labels of train and val change places among the samples"
    )

    @property
    def processes(self) -> int:
        """Devices of all nodes."""
        return self.devices * self.nodes

    @field_validator("micro_batch", mode="wrap")
    @classmethod
    def _one_error(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        """Says in one line what all members of the union would say apart."""
        try:
            size = check(value)
        except ValidationError:
            size = 0
        if isinstance(size, int) and size < 1:
            raise PydanticCustomError("micro_batch", "auto, null or a number from 1")
        return size

    @field_validator("class_weights", mode="wrap")
    @classmethod
    def _weights(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(value)
        except ValidationError:
            message = "none, balanced or {class: a weight above 0}"
            raise PydanticCustomError("class_weights", message) from None

    @field_validator("precision", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return "32" if value == 32 else value  # YAML reads 32 as a number


class ExplainConfig(Strict):
    """How samples are explained."""

    attribution: Attributions = Field("attention_gradient", description="attribution method")
    baseline: Literal["mean", "zero", "drop"] = Field(
        "mean", description="stands for a hidden token"
    )
    budget: int = Field(2000, ge=8, description="model evaluations per sample and target")
    contexts: Literal["shapley", "banzhaf", "full"] = Field("shapley", description="contexts' law")
    score: Literal["auto", "logit", "centred"] = Field("auto", description="score of a target")
    steps: int = Field(32, ge=16, description="steps of integrated gradients")
    reduction: Literal["signed_sum", "abs_mean"] = Field(
        "signed_sum", description="of integrated gradients over a token's features"
    )
    batch_size: int = Field(256, ge=1, description="coalitions per forward pass")


EvaluationParts = Literal[
    "interaction_share",
    "faithfulness",
    "concentration",
    "pair_masking",
    "planted",
    "sanity",
    "stability",
]


class EvaluationConfig(Strict):
    """What `evaluate` measures."""

    parts: tuple[EvaluationParts, ...] = Field(
        get_args(EvaluationParts),
        description="what is measured beside the task",
    )
    attributions: tuple[Attributions, ...] = Field(
        ("attention_gradient", "attention_rollout", "integrated_gradients", "gradient_x_input"),
        description="methods whose faithfulness counts",
    )
    baselines: tuple[Literal["mean", "zero", "drop"], ...] = Field(
        ("mean", "zero", "drop"), description="absences that every head's faithfulness is shown for"
    )
    samples: int = Field(300, ge=1, description="test samples of the masking curves, seeded choice")
    head_samples: int = Field(
        50, ge=1, description="test samples of the masking curves of every head and baseline"
    )
    pair_samples: int = Field(
        100, ge=1, description="test samples of the pair probes, seeded choice"
    )
    budget: int = Field(500, ge=16, description="model evaluations per sample of the pair probes")
    pair_contexts: int = Field(
        16, ge=2, description="fresh contexts in which chosen pairs are compared with others"
    )
    check_samples: int = Field(
        12, ge=2, description="test samples of the sanity checks and of the stability of rankings"
    )
    random_draws: int = Field(10, ge=1, description="random rankings averaged as control")
    probe: bool = Field(True, description="fit a linear probe on the mean-pooled features")

"""The section of a configuration that describes the model, strict and typed.

Every field's description is its comment, its API documentation and its help.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from fli2moe.strict import Strict


class RouterConfig(Strict):
    """The router and its MLP."""

    kind: Literal["learned", "uniform"] = Field(
        "learned", description="uniform: every expert weighs the same, and nothing is learned"
    )
    hidden: int = Field(256, ge=1, description="hidden width")
    layers: int = Field(2, ge=1, description="linear layers")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout")
    temperature: float = Field(2.0, gt=0, description="of the softmax; higher is flatter")
    normalize: Literal["l2", "none"] = Field("l2", description="scale of the modality means")


class SparseConfig(Strict):
    """The feed-forward experts of `sparse_moe`, of which each token is sent to two."""

    experts: int = Field(4, ge=2, description="feed-forward experts per layer")
    capacity_factor: float | None = Field(
        1.25,
        gt=0,
        description="tokens of a sample that an expert takes in training, as a multiple of an even "
        "share; what is over passes it by; null: all",
    )


class ModelConfig(Strict):
    """Sizes of the experts."""

    name: Literal["fli2moe", "dense", "sparse_moe", "late_fusion", "early_fusion"] = Field(
        "fli2moe", description="the model"
    )
    hidden: int = Field(256, ge=1, description="width H")
    layers: int = Field(2, ge=1, description="transformer layers per expert")
    heads: int = Field(
        4, ge=1, description="attention heads; must divide hidden", validate_default=True
    )
    feed_forward: int = Field(2, ge=1, description="feed-forward width as a multiple of hidden")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout inside the experts")
    attention_dropout: float = Field(0.5, ge=0, lt=1, description="dropout on attention weights")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on projected tokens")
    final_norm: bool = Field(False, description="a layer norm after the last layer")
    pooling: Literal["mean", "attention"] = Field(
        "mean", description="how an expert's tokens become one vector per modality"
    )
    positions: Literal["sinusoidal", "learned", "none"] = Field(
        "sinusoidal", description="position encoding, counted per modality"
    )
    max_positions: int = Field(512, ge=1, description="longest sequence of learned positions")
    standardise: bool = Field(True, description="standardise features with training statistics")
    experts: Literal["all"] | tuple[str, ...] = Field(
        "all", description="experts of the mixture: all, or some of their names"
    )
    isolated: bool = Field(False, description="a unique expert sees its own modality only")
    router: RouterConfig = Field(default_factory=RouterConfig, description="the router")
    sparse: SparseConfig = Field(default_factory=SparseConfig, description="of sparse_moe")

    @field_validator("heads")
    @classmethod
    def _heads_divide(cls, heads: int, info: ValidationInfo) -> int:
        hidden = info.data.get("hidden", heads)
        if hidden % heads:
            message = "a divisor of model.hidden ({hidden})"
            raise PydanticCustomError("divisor", message, {"hidden": hidden})
        return heads

    @field_validator("experts", mode="wrap")
    @classmethod
    def _some(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        """Says in one line what both members of the union would say apart."""
        try:
            names = check(value)
        except ValidationError:
            names = ()
        if not names or (names != "all" and len(set(names)) < len(names)):
            raise PydanticCustomError("experts", "all, or a list of different experts' names")
        return names

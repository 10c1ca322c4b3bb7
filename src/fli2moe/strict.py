"""The base of every section of a configuration."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo


class Strict(BaseModel):
    """Base of every section: no unknown keys, no changes after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses true and false (YAML: also yes, no, on, off) where a number would take them."""
        takes_bool = cls.model_fields[info.field_name or ""].annotation is bool
        if isinstance(value, bool) and not takes_bool:
            raise PydanticCustomError("switch", "a value other than true and false")
        return value

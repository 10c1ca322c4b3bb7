"""Cells of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_error(value: Mapping[str, Any], sign: str = "") -> str:
    """Returns `mean ± standard error` of {mean, standard_error}; `+` as sign shows it always."""
    if value["mean"] is None:
        return "n/a"
    error = value["standard_error"]
    return f"{value['mean']:{sign}.3f}" + ("" if error is None else f" ± {error:.3f}")

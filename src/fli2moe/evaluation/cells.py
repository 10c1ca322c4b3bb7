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


def cell(value: Any) -> str:
    """Returns what a cell shows: `n/a` for None, numbers to three decimals, small p as `<.001`."""
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return "<.001" if 0.0 < value < 0.0005 else f"{value:.3f}"
    return str(value)


def mean_and_spread(mean: float | None, sd: float | None) -> str:
    """Returns `mean ± sd`, `mean` of a single value, `n/a` of none."""
    if mean is None:
        return "n/a"
    return f"{mean:.3f}" + ("" if sd is None else f" ± {sd:.3f}")

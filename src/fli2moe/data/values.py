"""The string that stands for a typed value of JSONL or Parquet."""

from __future__ import annotations

import json
import math


class FieldError(ValueError):
    """A value that no string stands for."""


def as_text(value: object) -> str:
    """Returns the string that stands for `value`.

    Null and NaN give the empty string, booleans `true` and `false`, lists and mappings JSON text,
    everything else its Python spelling.
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)

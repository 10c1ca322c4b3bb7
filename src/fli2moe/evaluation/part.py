"""What one part of an evaluation found: a summary, and values of single samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Rows = Mapping[int, Mapping[str, float]]
"""{index of a test sample: {column: value}}; a sample or column that is not there is missing."""

Table = dict[str, Any]
"""{`columns`: names, `rows`: lists of cells, `note`: a sentence}; a cell of None is `n/a`."""


@dataclass(frozen=True)
class Part:
    """The result of one part.

    Attributes:
        summary: JSON values, a section of `metrics.json`; None where something was not measured.
        rows: columns of `samples.parquet`, each named `part.what`.
    """

    summary: Mapping[str, Any]
    rows: Rows = field(default_factory=dict)

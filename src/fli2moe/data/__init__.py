"""Data sets: samples with their raw inputs and labels, and the readers of each layout."""

from __future__ import annotations

from collections.abc import Callable

from fli2moe.data.causes import causes_as_json, parse_causes
from fli2moe.data.check import Report, check_manifest
from fli2moe.data.enrico import read_enrico
from fli2moe.data.load import load_dataset
from fli2moe.data.manifest import read_manifest
from fli2moe.data.mmhs150k import read_mmhs150k
from fli2moe.data.mmimdb import read_mmimdb
from fli2moe.data.problems import Problem
from fli2moe.data.sample import SPLITS, Cause, Dataset, Sample

DATASETS: dict[str, Callable[..., Dataset]] = {
    "manifest": read_manifest,
    "enrico": read_enrico,
    "mmimdb": read_mmimdb,
    "mmhs150k": read_mmhs150k,
}
"""Readers by name; each takes a path first, and its options as keywords."""

__all__ = [
    "DATASETS",
    "SPLITS",
    "Cause",
    "Dataset",
    "Problem",
    "Report",
    "Sample",
    "causes_as_json",
    "check_manifest",
    "load_dataset",
    "parse_causes",
    "read_enrico",
    "read_manifest",
    "read_mmhs150k",
    "read_mmimdb",
]

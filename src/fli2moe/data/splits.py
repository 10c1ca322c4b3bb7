"""The split column, and the seeded split that stands in for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fli2moe.data.problems import RowFaults, shown
from fli2moe.data.sample import SPLITS
from fli2moe.errors import closest

VAL_SHARE = TEST_SHARE = 0.15
OTHER_NAMES = {
    "dev": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
    "training": "train",
    "testing": "test",
}


def parse_split(cell: str, column: str, faults: RowFaults) -> str | None:
    """Returns the split that a cell names, or None after reporting that it names none."""
    if cell in SPLITS:
        return cell
    match = OTHER_NAMES.get(cell.strip().casefold()) or closest(cell, SPLITS)
    found = f"unknown split {shown(cell)}" if cell.strip() else "no split"
    remedy = f"did you mean {match!r}?" if match else "name a split in each row, or drop the column"
    faults(column, found, "one of " + ", ".join(SPLITS), remedy)
    return None


def seeded_split(labels: Mapping[str, tuple[str, ...]], seed: int) -> dict[str, str]:
    """Divides samples 70/15/15 into train, val and test.

    Samples are ranked by the SHA-256 of `seed:id`; the first 15% (rounded, at least one) are val,
    the next 15% test, the rest train. So the split depends on the ids and the seed alone, not on
    the order of the rows, and adding rows moves few of the others. Last, each label that no
    training sample carries has its highest ranked sample moved to train.

    Args:
        labels: {sample id: its labels}.
        seed: any integer.
    """
    ranked = sorted(labels, key=lambda id: hashlib.sha256(f"{seed}:{id}".encode()).digest())
    val = max(1, round(VAL_SHARE * len(ranked)))
    test = max(1, round(TEST_SHARE * len(ranked)))
    names = ["val"] * val + ["test"] * test + ["train"] * len(ranked)
    splits = dict(zip(ranked, names, strict=False))
    trained = {name for id, split in splits.items() if split == "train" for name in labels[id]}
    for id in ranked:
        if not trained.issuperset(labels[id]):
            splits[id] = "train"
            trained.update(labels[id])
    return splits

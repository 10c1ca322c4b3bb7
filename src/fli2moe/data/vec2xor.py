"""VEC2XOR: two fair bits, their XOR as label, and where the bits are known (after InterSHAP).

Wenderoth et al. 2025 (InterSHAP) hold modality interactions to data whose mechanism is controlled:
two modalities of 200 and 100 numbers, 20,000 samples. Re-created from that description, and cut
into tokens: 8 and 4 of width 25. How a bit enters the numbers is ours: each bit has one fixed
direction in each modality's vector, taken with sign, among standard normal noise.

| setting             | first holds | second holds | expert that should win |
|---------------------|-------------|--------------|------------------------|
| `uniqueness_first`  | both bits   | noise        | `unique_first`         |
| `uniqueness_second` | noise       | both bits    | `unique_second`        |
| `synergy`           | bit 1       | bit 2        | `synergy`              |
| `redundancy`        | both bits   | both bits    | `redundancy`           |

`mixed` (ours) holds all four in one data set: a label for each mechanism, named as its setting, the
XOR of two bits of its own; multi-label.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import InputError, unknown_name
from fli2moe.files import complete_file

TOKENS: Mapping[str, int] = {"first": 8, "second": 4}
"""Tokens of each modality; 25 numbers each make the 200 and 100 of the original."""
WIDTH = 25
SIZE = 20_000
SHARES = (0.70, 0.15, 0.15)  # train, val, test
STRENGTH = 5.0  # length of a bit's direction in a whole vector, beside noise of deviation one
DIRECTIONS = 2025  # seed of the directions: the same in every setting

HOLDS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "uniqueness_first": {"first": (0, 1), "second": ()},
    "uniqueness_second": {"first": (), "second": (0, 1)},
    "synergy": {"first": (0,), "second": (1,)},
    "redundancy": {"first": (0, 1), "second": (0, 1)},
}
"""{setting: {modality: bits that it holds}}."""
SETTINGS = tuple(HOLDS)
MIXED = "mixed"
"""All four at once; not one of `SETTINGS`, as its winner differs between labels."""
WINNERS: Mapping[str, str] = {
    "uniqueness_first": "unique_first",
    "uniqueness_second": "unique_second",
    "synergy": "synergy",
    "redundancy": "redundancy",
}
"""{setting, or label of `mixed`: expert named after its mechanism}."""


def draw_vec2xor(
    setting: str, size: int, seed: int
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    """Returns {modality: (N, T, 25)} and (N, 2) bits; the label is their XOR.

    Of `mixed`, (N, 8) bits: two for each of `SETTINGS`, in that order.

    Args:
        setting: one of `SETTINGS`, or `mixed`.
        size: N.
        seed: of bits and noise.

    Raises:
        InputError: for an unknown setting.
    """
    if setting not in (*SETTINGS, MIXED):
        raise unknown_name("vec2xor", "setting", setting, (*SETTINGS, MIXED))
    random, fixed = np.random.default_rng(seed), np.random.default_rng(DIRECTIONS)
    mechanisms = SETTINGS if setting == MIXED else (setting,)
    bits = random.integers(0, 2, size=(size, 2 * len(mechanisms)))
    vectors = {}
    for modality, tokens in TOKENS.items():
        directions = fixed.normal(size=(bits.shape[1], tokens * WIDTH))
        directions *= STRENGTH / np.linalg.norm(directions, axis=1, keepdims=True)
        vector = random.normal(size=(size, tokens * WIDTH))
        for number, mechanism in enumerate(mechanisms):
            for bit in HOLDS[mechanism][modality]:
                column = 2 * number + bit
                vector += (2 * bits[:, [column]] - 1) * directions[column]
        vectors[modality] = vector.reshape(size, tokens, WIDTH).astype(np.float32)
    return vectors, bits


def write_vec2xor(folder: str | Path, setting: str, size: int = SIZE, seed: int = 0) -> Path:
    """Writes a manifest with one `.npy` of (T, 25) per sample and modality; returns its path.

    Args:
        folder: made if missing; arrays go to `folder/first` and `folder/second`.
        setting: one of `SETTINGS`, or `mixed`.
        size: samples, split 70 / 15 / 15 in order.
        seed: of everything random but the directions.

    Raises:
        InputError: for an unknown setting, or too few samples for three splits.
        MachineError: when the folder cannot be written.
    """
    if size < 20:
        raise InputError("vec2xor", f"{size} samples", "at least 20")
    vectors, bits = draw_vec2xor(setting, size, seed)
    train, val = round(SHARES[0] * size), round((SHARES[0] + SHARES[1]) * size)
    manifest = Path(folder) / "manifest.csv"  # appears only when all arrays are there
    with (
        complete_file(manifest) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        for modality in TOKENS:
            (Path(folder) / modality).mkdir(exist_ok=True)
        writer = csv.writer(file)
        writer.writerow(["id", *TOKENS, "label", "split"])
        for n in range(size):
            names = {m: f"{m}/{n:05d}.npy" for m in TOKENS}
            for modality, name in names.items():
                np.save(Path(folder) / name, vectors[modality][n])
            split = "train" if n < train else "val" if n < val else "test"
            writer.writerow([f"{n:05d}", *names.values(), _label(setting, bits[n]), split])
    return manifest


def _label(setting: str, bits: NDArray[np.int64]) -> str:
    differs = bits[::2] != bits[1::2]  # of each mechanism
    if setting == MIXED:
        return "|".join(name for name, holds in zip(SETTINGS, differs, strict=True) if holds)
    return "different" if differs[0] else "same"

"""`planted`: plain token features whose labels have known causes (our own generator).

A sample has two modalities, `first` and `second`, of eight tokens each. A token is one of 16
symbols, orthogonal vectors of +-1 in 16 channels, beside normal noise. In each modality one token
is a `key` (four symbols), one a `twin` and one its `own` (two symbols each, on and off), in random
places; the other five are fillers, drawn independently. Four labels, each true for half of the
samples, independently of the others:

| label        | interaction     | cause                           | ideal evidence | share |
|--------------|-----------------|---------------------------------|----------------|-------|
| `match`      | synergy         | the two keys are the same       | AND of the two | 1/3   |
| `twin`       | redundancy      | the twins, which agree, are on  | OR of the two  | 1/3   |
| `own_first`  | `unique_first`  | the `own` of `first` is on      | that token     | 0     |
| `own_second` | `unique_second` | the `own` of `second` is on     | that token     | 0     |

Every kind of token is there once in every sample, and the kinds are drawn independently of each
other, so hiding a cause leaves nothing that reveals it. So a model that answers as well as can be
from whatever tokens it is shown has, up to a factor, the evidence of the table for a label that
holds, and its negative for one that does not: its log odds are 0 while the tokens shown do not
tell. `share` is what interactions explain of the variance of that evidence, each token shown with
probability 1/2 (`Item.evidence(label).shares()`, exact). The recipe is ours (design 3.9).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fli2moe.data.planted_score import PlantedScore, Term
from fli2moe.errors import InputError, unknown_name
from fli2moe.files import complete_file

MODALITIES = ("first", "second")
TOKENS, WIDTH = 8, 16
NOISE = 0.5  # standard deviation in each channel, where symbols are +-1
LABELS: Mapping[str, str] = {
    "match": "synergy",
    "twin": "redundancy",
    "own_first": "unique_first",
    "own_second": "unique_second",
}
"""{label: interaction}."""

_KEYS = (0, 1, 2, 3)
_TWINS, _OWNS = (4, 5), (6, 7)  # off, on
_FILLERS = tuple(range(8, WIDTH))


@dataclass(frozen=True)
class Item:
    """What one sample holds; two of everything, of `first` and of `second`.

    Attributes:
        keys: symbols of the keys.
        twin: whether the twins are on.
        own: whether each modality's own token is on.
        fillers: symbols of the other five tokens.
        places: positions of key, twin, own and fillers.
    """

    keys: tuple[int, int]
    twin: bool
    own: tuple[bool, bool]
    fillers: tuple[tuple[int, ...], tuple[int, ...]]
    places: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that hold, in the order of `LABELS`."""
        first, second = self.own
        holds = {"match": self.keys[0] == self.keys[1], "twin": self.twin}
        holds |= {"own_first": first, "own_second": second}
        return tuple(name for name in LABELS if holds[name])

    @property
    def symbols(self) -> NDArray[np.int64]:
        """(2, T) symbols of the tokens of `first` and `second`, in their places."""
        symbols = np.empty((len(MODALITIES), TOKENS), dtype=np.int64)
        for m, places in enumerate(self.places):
            causes = (self.keys[m], _TWINS[self.twin], _OWNS[self.own[m]])
            symbols[m, list(places)] = (*causes, *self.fillers[m])
        return symbols

    def cause(self, label: str) -> dict[str, int]:
        """Returns {modality: position of the token that causes a label}.

        Raises:
            InputError: for an unknown label.
        """
        if label not in LABELS:
            raise unknown_name("planted", "label", label, LABELS)
        kind = {"match": 0, "twin": 1}.get(label, 2)
        return {
            modality: self.places[m][kind]
            for m, modality in enumerate(MODALITIES)
            if kind < 2 or label == f"own_{modality}"
        }

    @property
    def causes(self) -> list[dict[str, object]]:
        """The cause of every label, whether it holds or not, as the manifest's JSON."""
        return [
            {
                "label": label,
                "interaction": interaction,
                "spans": {m: [[t, t + 1]] for m, t in self.cause(label).items()},
            }
            for label, interaction in LABELS.items()
        ]

    def evidence(self, label: str) -> PlantedScore:
        """Returns an ideal model's evidence for a label, up to a factor.

        Its players are the tokens of `first`, then those of `second`.

        Raises:
            InputError: for an unknown label.
        """
        places = self.cause(label)
        members = tuple(MODALITIES.index(m) * TOKENS + t for m, t in places.items())
        kind = "or" if LABELS[label] == "redundancy" else "and"
        sign = 1.0 if label in self.labels else -1.0
        return PlantedScore(len(MODALITIES) * TOKENS, (Term(members, kind, sign),))


def draw_item(random: np.random.Generator) -> Item:
    """Returns a random item; every label holds with probability 1/2, independently.

    Given the key of `first`, that of `second` is the same half of the time and each other one
    equally often else, so that neither modality alone tells the label `match`.
    """
    first = int(random.choice(_KEYS))
    rest = [key for key in _KEYS if key != first]
    second = first if random.random() < 0.5 else int(random.choice(rest))
    twin, own_first, own_second = (bool(x) for x in random.random(3) < 0.5)
    fillers = random.choice(_FILLERS, size=(len(MODALITIES), TOKENS - 3))
    return Item(
        keys=(first, second),
        twin=twin,
        own=(own_first, own_second),
        fillers=(_whole(fillers[0]), _whole(fillers[1])),
        places=(_whole(random.permutation(TOKENS)), _whole(random.permutation(TOKENS))),
    )


def features(item: Item, random: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Returns {modality: (T, D)} token features of an item, with noise."""
    vectors = _codes()[item.symbols]  # (2, T, D)
    noisy = (vectors + NOISE * random.normal(size=vectors.shape)).astype(np.float32)
    return dict(zip(MODALITIES, noisy, strict=True))


def write_planted(
    folder: str | Path, *, sizes: tuple[int, int, int] = (5000, 500, 500), seed: int = 0
) -> Path:
    """Writes a manifest with one `.npy` of (8, 16) per sample and modality; returns its path.

    Args:
        folder: made if missing; arrays go to `folder/first` and `folder/second`.
        sizes: number of training, validation and test samples.
        seed: of everything random.

    Raises:
        InputError: when a size is not positive.
        MachineError: when the folder cannot be written.
    """
    if min(sizes) < 1:
        raise InputError("planted", f"sizes {sizes}", "at least one sample in each split")
    folder, random = Path(folder), np.random.default_rng(seed)
    splits = [s for s, n in zip(("train", "val", "test"), sizes, strict=True) for _ in range(n)]
    manifest = folder / "manifest.csv"  # appears only when all arrays are there
    with (
        complete_file(manifest) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        for modality in MODALITIES:
            (folder / modality).mkdir(exist_ok=True)
        writer = csv.writer(file)
        writer.writerow(["id", *MODALITIES, "label", "split", "causes"])
        for number, split in enumerate(splits):
            item = draw_item(random)
            names = {m: f"{m}/{number:05d}.npy" for m in MODALITIES}
            for modality, array in features(item, random).items():
                np.save(folder / names[modality], array)
            labels, causes = "|".join(item.labels), json.dumps(item.causes)
            writer.writerow([f"{number:05d}", *names.values(), labels, split, causes])
    return manifest


def _codes() -> NDArray[np.float64]:
    """(16, D) the vectors of the symbols: rows of a Hadamard matrix."""
    codes: NDArray[np.float64] = np.ones((1, 1))
    while len(codes) < WIDTH:
        codes = np.kron(codes, np.array([[1.0, 1.0], [1.0, -1.0]]))
    return codes


def _whole(values: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)

"""Games of networks: the demo's trained mixture, and a two-tower model with random weights.

`network-14`: words in 6 runs and 8 pairs of neighbouring patches, 14 players: exact truth, and
every coalition in a table. `network-full`: every word and patch by itself. `two-tower`: 12 words
and 25 patches of a small CLIP. The last two are held to the mean of two independent long runs of
`monte_carlo`; half of the difference between the two tells the variance of their mean.

The mixture's head is scored. Network and data have a seed of their own (`SEED`); the samples are
the first of the test split with each predicted label.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from probe_cases import Case, Evaluate, Values
from probe_methods import in_child
from torch import Tensor

from fli2moe.data import load_dataset
from fli2moe.data.shapes import write_shapes
from fli2moe.demo import DEMO_SIZES, demo_config
from fli2moe.explain import TokenGame, exact_interactions, shapley_interactions
from fli2moe.predictor import Predictor
from fli2moe.runs import train_run

SEED = 1000
LONG_SEED = 5000  # of the long runs; the methods' seeds start at 1000
RUNS_OF_TEXT, PAIRS_OF_PATCHES = 6, 8
TOP_OF_14, TOP = 10, 15  # pairs to be found
ORDER = ("match", "sunny", "dog", "star")


def trained(folder: Path) -> Predictor:
    """The demo's mixture on `shapes`, trained in another process unless the folder holds it."""
    if not (folder / "predictor.json").is_file():

        def train() -> str:
            manifest = write_shapes(folder / "data", sizes=DEMO_SIZES, seed=SEED)
            train_run(demo_config(manifest, SEED), folder, overwrite=True)
            return "done"

        if (answer := in_child(train, memory=16)) != "done":
            raise RuntimeError(answer)
    return Predictor.load(folder)


def targets(predictor: Predictor, number: int) -> list[tuple[dict[str, Any], str, str]]:
    """(inputs, label, id): the first samples predicted to have each label, labels in turn."""
    rows = [s for s in load_dataset(predictor.config.data).samples if s.split == "test"]
    found: dict[str, list[tuple[dict[str, Any], str, str]]] = {label: [] for label in ORDER}
    for sample in rows:
        if min(len(x) for x in found.values()) * len(ORDER) >= number:
            break
        for label in predictor(sample.inputs).labels:
            found[label].append((dict(sample.inputs), label, sample.id))
    return [found[ORDER[i % len(ORDER)]][i // len(ORDER)] for i in range(number)]


def network_14(folder: Path, number: int) -> list[Case]:
    """Cases with exact truth, kept in `network-14.npz` beside the run."""
    path = folder.with_name("network-14.npz")
    predictor = trained(folder)
    chosen = targets(predictor, number)
    kept = dict(np.load(path)) if path.is_file() else {}
    for inputs, label, name in chosen:
        if f"{name}:{label}" not in kept:
            kept[f"{name}:{label}"] = _table(predictor.game(inputs, label))
            np.savez(path, **kept)
    return [_case_14(kept[f"{name}:{label}"], f"{name}:{label}") for _, label, name in chosen]


def _table(game: TokenGame) -> Values:
    """(2^14,) the mixture's value of every coalition; player p is present where bit p is set."""
    text = [p for p, player in enumerate(game.players) if player.modality == "text"]
    patches = [p for p, player in enumerate(game.players) if player.modality == "image"]
    runs = np.array_split(text, RUNS_OF_TEXT), np.array_split(patches, PAIRS_OF_PATCHES)
    grouped = game.grouped([list(map(int, group)) for part in runs for group in part])
    codes = np.arange(2**grouped.n_players)
    return grouped.on("mixture")((codes[:, None] >> np.arange(grouped.n_players)) & 1 == 1)


def _case_14(table: Values, name: str) -> Case:
    sizes = {"text": RUNS_OF_TEXT, "image": PAIRS_OF_PATCHES}
    bits = 2 ** torch.arange(sum(sizes.values()))
    values = torch.from_numpy(table)

    def look_up(coalitions: Tensor) -> Tensor:
        return values[(coalitions * bits).sum(1)]

    truth = exact_interactions(TokenGame.from_callable(look_up, sizes, batch_size=4096)).sii.value
    return Case(sizes, lambda: look_up, truth, TOP_OF_14, about={"sample": name})


def network_full(folder: Path, number: int, evaluations: int) -> list[Case]:
    """Cases with every word and patch, against a long run kept in `network-full.npz`."""
    predictor = trained(folder)
    path = folder.with_name("network-full.npz")

    def make(inputs: dict[str, Any], label: str) -> Callable[[], TokenGame]:
        return lambda: predictor.game(inputs, label).on("mixture")

    games = {f"{name}:{label}": make(x, label) for x, label, name in targets(predictor, number)}
    return _referenced(path, games, evaluations)


def two_tower(folder: Path, number: int, evaluations: int) -> list[Case]:
    """Cases of a CLIP with random weights, against a long run kept in `two-tower.npz`."""
    from probe_towers import tower_game

    def make(seed: int) -> Callable[[], TokenGame]:
        return lambda: tower_game(seed)

    games = {f"weights {SEED + i}": make(SEED + i) for i in range(number)}
    return _referenced(folder.with_name("two-tower.npz"), games, evaluations)


def _referenced(
    path: Path, games: dict[str, Callable[[], TokenGame]], evaluations: int
) -> list[Case]:
    kept = dict(np.load(path)) if path.is_file() else {}
    cases = []
    for name, make in games.items():
        key = f"{name}:{evaluations}"
        if key not in kept:
            kept[key] = np.stack([_long_run(make(), evaluations // 2, r) for r in range(2)])
            np.savez(path, **kept)
        cases.append(_case(make, kept[key], name, evaluations))
    return cases


def _long_run(game: TokenGame, budget: int, run: int) -> Values:
    seed = LONG_SEED + run
    found = shapley_interactions(game, budget, "monte_carlo", seed=seed, heads=[game.head])
    return found.value


def _case(make: Callable[[], TokenGame], runs: Values, name: str, evaluations: int) -> Case:
    players = make().players
    modalities = [player.modality for player in players]
    sizes = {m: modalities.count(m) for m in dict.fromkeys(modalities)}
    if [m for m in sizes for _ in range(sizes[m])] != modalities:
        raise RuntimeError("players of a modality do not stand side by side")

    def function() -> Evaluate:
        game = make()
        return lambda coalitions: torch.from_numpy(game(coalitions.numpy()))

    variance = (runs[0] - runs[1]) ** 2 / 4  # unbiased for the variance of the mean of two
    about = {"sample": name, "reference_evaluations": evaluations}
    return Case(sizes, function, runs.mean(0), TOP, variance=variance, about=about)

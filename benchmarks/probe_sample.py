"""Seconds of the pair probe of one real sample: 64 tokens of text and 196 patches, all heads.

ENRICO's screenshot and its text under frozen ViT-Tiny and MiniLM, one player a token, the `small`
mixture on 14 x 14 patches that are not pooled. The model is trained for a few epochs on a few
hundred samples: enough for a time, not for an answer. It needs the data and weights in `../shared`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from fli2moe.config import Config
from fli2moe.data import load_dataset
from fli2moe.explain import TokenGame
from fli2moe.explain.pieces import Probed, probe_pairs
from fli2moe.predictor import Predictor
from fli2moe.runs import train_run
from fli2moe.tokens import Player, TokenBatch

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "enrico_text.yaml"
LARGEST = 2000  # budget
THREADS, REPEATS = 2, 3
SAMPLES, EPOCHS = 240, 4
SIZES = {"text": 64, "screenshot": 196}


def sample_seconds(runs: Path, budget: int) -> dict[str, Any]:
    """Returns wall seconds of the probe in all, of the model and of the rest, in fp32.

    Of `REPEATS` runs it is the one of median wall seconds; `wall_of_all` and `cpu_of_all` tell how
    much others on the machine had to do with it.
    """
    torch.set_num_threads(THREADS)
    with threadpool_limits(THREADS):
        predictor = _predictor(runs / "enrico")
        tokens, inputs, target = _sample(predictor)
        rows = []
        for _ in range(REPEATS):
            game = predictor.game(inputs, target, tokens=tokens, players=_players())
            rows.append(_timed(game, budget))
    ordered = sorted(rows, key=lambda row: row["wall_seconds"])
    return {
        **ordered[REPEATS // 2],
        "wall_of_all": [row["wall_seconds"] for row in rows],
        "cpu_of_all": [row["cpu_seconds"] for row in rows],
        "threads": THREADS,
        "about": {"trained_on": SAMPLES, "epochs": EPOCHS, "precision": "fp32"},
    }


def _timed(inner: TokenGame, budget: int) -> dict[str, Any]:
    counted = _Timed(inner)
    game = counted.outer()
    inner.heads(torch.zeros(8, game.n_players, dtype=torch.bool))  # to warm up
    started, used = time.perf_counter(), time.process_time()
    found = _probe(game, budget)
    seconds = time.perf_counter() - started
    return {
        "wall_seconds": seconds,
        "cpu_seconds": time.process_time() - used,
        "model_seconds": counted.seconds,
        "own_seconds": seconds - counted.seconds,
        "evaluations": counted.rows,
        "heads": list(game.head_names),
        "players": len(found.players),
        "pairs": {name: len(table) for name, table in found.pairs.items()},
        "notes": list(found.notes),
    }


def _probe(game: TokenGame, budget: int) -> Probed:
    """What `Predictor.explain` does with the game of a sample."""
    return probe_pairs(game, budget, "shapley", 1000)


class _Timed:
    """Passes coalitions on to a game; wall seconds inside it, and rows."""

    def __init__(self, inner: TokenGame) -> None:
        self.inner, self.seconds, self.rows = inner, 0.0, 0

    def __call__(self, coalitions: Tensor) -> Tensor:
        started = time.perf_counter()
        values = torch.from_numpy(self.inner.heads(coalitions.numpy()))
        self.seconds += time.perf_counter() - started
        self.rows += len(coalitions)
        return values

    def outer(self) -> TokenGame:
        """The game that the probe sees."""
        size = self.inner.batch_size
        return TokenGame(self, self.inner.players, self.inner.head_names, batch_size=size)


def _predictor(folder: Path) -> Predictor:
    if not (folder / "predictor.json").is_file():
        whole = Config.from_yaml(CONFIG)
        rows = pandas.read_csv(whole.data.path, dtype=str, keep_default_na=False)
        part = pandas.concat(
            [rows[rows["split"] == "train"][:SAMPLES], rows[rows["split"] != "train"][:120]]
        )
        folder.mkdir(parents=True, exist_ok=True)
        part.to_csv(folder / "manifest.csv", index=False)
        overrides = {
            "data.path": str(folder / "manifest.csv"),
            "data.image_root": str(Path(whole.data.path).parent),
            "data.modalities.screenshot.pool": 1,
            "data.modalities.text.max_tokens": SIZES["text"] + 2,  # CLS and SEP, which are dropped
            "training.epochs": EPOCHS,
        }
        train_run(Config.from_yaml(CONFIG, overrides=overrides), folder, overwrite=True)
    return Predictor.load(folder)


def _sample(predictor: Predictor) -> tuple[TokenBatch, dict[str, Any], str]:
    """The first test sample whose text fills its 64 tokens, and the class predicted for it."""
    for sample in load_dataset(predictor.config.data).samples:
        if sample.split == "test" and len(sample.inputs["text"]) > 6 * SIZES["text"]:
            tokens = predictor.encode([sample.inputs])
            found = {m: int(t.content.sum()) for m, t in tokens.items()}
            if found == SIZES:
                return tokens, dict(sample.inputs), predictor(sample.inputs).labels[0]
    raise RuntimeError(f"no test sample has {SIZES} tokens")


def _players() -> list[Player]:
    return [Player(m, (t,), name=f"{m}[{t}]") for m, size in SIZES.items() for t in range(size)]

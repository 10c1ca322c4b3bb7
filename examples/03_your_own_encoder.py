"""A frozen encoder of your own: any object with these six members reads a modality.

This one turns a text into one vector for each word, from counts of its letters. Spans say where a
token stands in the raw text; explanations point there.
"""

import hashlib
import re
import string
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fli2moe import Predictor, fit, load_dataset
from fli2moe.data.shapes import write_shapes
from fli2moe.demo import demo_config
from fli2moe.tokens import Tokens


class LetterCounts:
    """Words as counts of their letters: D = 26."""

    kind = "text"
    width = 26
    identity = hashlib.sha256(b"letter counts 1").hexdigest()  # change it when the features change
    fingerprint = identity

    def encode(self, inputs: Sequence[Any]) -> Tokens:
        """Returns features (B, T, 26); an empty text has no content token."""
        return Tokens.stack([self._row(str(text)) for text in inputs])

    def unseen(self, raw: Any) -> tuple[tuple[float, ...], ...]:
        """Everything is read."""
        return ()

    def _row(self, text: str) -> Tokens:
        words = list(re.finditer(r"\w+", text)) or [None]
        counts = [
            [w[0].lower().count(c) if w else 0 for c in string.ascii_lowercase] for w in words
        ]
        spans = [(w.start(), w.end()) if w else (-1, -1) for w in words]
        return Tokens(
            torch.tensor([counts], dtype=torch.float32),
            torch.ones(1, len(words), dtype=torch.bool),
            torch.tensor([spans]),
        )


def main(folder: Path, sizes: tuple[int, int, int] = (1500, 150, 50), epochs: int = 4) -> float:
    """Trains on `shapes` with it, loads the model again, and returns a probability."""
    config = demo_config(write_shapes(folder / "data", sizes=sizes))
    config = config.with_options({"training.epochs": epochs})
    dataset = load_dataset(config.data)
    encoders = {"text": LetterCounts()}
    fit(config, dataset, out=folder / "run", overwrite=True, encoders=encoders)
    predictor = Predictor.load(folder / "run", encoders=encoders)
    sample = dataset.test[0]
    explanation = predictor.explain(sample.inputs, "dog", budget=500)
    print(sample.inputs["text"])
    scores = explanation.player_scores("mixture")
    for player, score in zip(explanation.players, scores, strict=True):
        if player.modality == "text":
            print(f"  {player!s:10} {score:+.3f}")
    return predictor(sample.inputs).probabilities["dog"]


if __name__ == "__main__":
    print("dog:", main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example-encoder")))

"""Three modalities: a caption, a picture, and features that something else computed.

The third is a reading of two sensors as an array (T, D) in a `.npy` file. The label is true where
the caption names the colour of the picture *and* the second sensor is high.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fli2moe import Config, Explanation, fit, load_dataset, report

COLOURS = {"red": (210, 60, 50), "blue": (50, 90, 210)}


def write_data(folder: Path, rows: int) -> Path:
    """Writes a JSONL manifest with its pictures and arrays."""
    rng, lines = random.Random(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(rows):
        shown, said, high = rng.choice(list(COLOURS)), rng.choice(list(COLOURS)), rng.random() < 0.7
        Image.new("RGB", (32, 32), COLOURS[shown]).save(folder / f"{k}.png")
        readings = np.array([[rng.random(), 0.0], [0.0, 1.0 if high else -1.0]], dtype=np.float32)
        np.save(folder / f"{k}.npy", readings)
        row = {"id": str(k), "image": f"{k}.png", "sensors": f"{k}.npy"}
        row |= {"text": f"a {said} lamp is on", "label": "yes" if shown == said and high else "no"}
        lines.append(json.dumps(row))
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main(folder: Path, rows: int = 800, epochs: int = 20) -> Explanation:
    """Trains and returns the explanation of one test sample."""
    modalities = {
        "text": {"encoder": "builtin:words"},
        "image": {"encoder": "builtin:patches"},
        "sensors": {"encoder": "vector", "width": 2},
    }
    data = {"path": str(write_data(folder / "data", rows)), "modalities": modalities}
    config = Config.from_dict({"preset": "demo", "data": data})
    config = config.with_options({"training.epochs": epochs, "training.patience": epochs})
    dataset = load_dataset(config.data)
    predictor = fit(config, dataset, out=folder / "run", overwrite=True)
    sample = next(s for s in dataset.test if "yes" in s.labels)
    explanation = predictor.explain(sample.inputs, "yes", sample_id=sample.id, budget=1000)
    print(explanation.expert_weights)
    for kind in ("synergy", "redundancy"):
        print(kind, *explanation.top_pairs(kind, k=3), sep="\n  ")
    print("open", report.write([explanation], [sample], folder / "report.html"))
    return explanation


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example-three"))

"""From a table of your own to an explained prediction: guess a configuration, train, explain.

The table here is made on the spot: pictures of one colour with a remark; the label says whether
picture and remark agree.
"""

import csv
import random
import sys
from pathlib import Path

from PIL import Image

from fli2moe import Config, fit, load_dataset, report
from fli2moe.data.guess import guess_table

COLOURS = {"red": (210, 60, 50), "blue": (50, 90, 210)}


def write_table(folder: Path, rows: int) -> Path:
    """Writes pictures and a CSV that names them."""
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "remarks.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "picture", "remark", "label"])
        for k in range(rows):
            shown, said = rng.choice(list(COLOURS)), rng.choice(list(COLOURS))
            Image.new("RGB", (32, 32), COLOURS[shown]).save(folder / f"{k}.png")
            remark = f"a {said} square on a wall of the {rng.choice(['old', 'new'])} house"
            table.writerow([k, f"{k}.png", remark, "agree" if shown == said else "differ"])
    return path


def main(folder: Path, rows: int = 600, epochs: int = 25) -> str:
    """Returns the strongest synergistic pair of one test sample."""
    table = write_table(folder / "data", rows)
    guess = guess_table(table)
    config_path = table.with_suffix(".yaml")  # as `fli2moe init remarks.csv` writes it
    config_path.write_text(guess.to_yaml(table.parent), encoding="utf-8")
    options = {"training.epochs": epochs, "training.patience": epochs}
    options |= {"model.dropout": 0.0, "model.input_dropout": 0.0, "model.layers": 2}
    config = Config.from_yaml(config_path, overrides=options)
    dataset = load_dataset(config.data)
    predictor = fit(config, dataset, out=folder / "run", overwrite=True)

    sample = dataset.test[0]
    print(sample.inputs["remark"], "->", predictor(sample.inputs).labels, "true:", sample.labels)
    explanation = predictor.explain(sample.inputs, budget=1000, sample_id=sample.id)
    for pair in explanation.top_pairs("synergy", k=3):
        print(" ", pair)
    print("open", report.write([explanation], [sample], folder / "report.html"))
    return str(explanation.top_pairs("synergy", k=1)[0])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example-csv"))

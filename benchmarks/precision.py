"""Does training in bfloat16 reach the validation score of float32? On `shapes` and ENRICO.

    python benchmarks/precision.py --seeds 3

Each run is trained once and kept under `runs/precision`; a second call goes on where the first
stopped. The best epoch's validation score of every run (macro F1 of `shapes`, accuracy of ENRICO)
goes to `benchmarks/results/precision.json`. For speed see `layer.py`.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

from fli2moe.config import Config
from fli2moe.data.shapes import write_shapes
from fli2moe.demo import DEMO_SIZES, demo_config
from fli2moe.files import read_json, write_json
from fli2moe.run_folder import environment
from fli2moe.runs import train_run

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = ("32", "bf16-mixed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=["shapes", "enrico"])
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "precision")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "precision.json"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[dict[str, Any]] = []
    for data in arguments.data:
        for seed in range(arguments.seeds):
            for precision in PRECISIONS:
                folder = arguments.runs / f"{data}-{precision}-{seed}"
                row = measure(config_of(data, seed, precision, arguments.runs), folder)
                rows.append({"data": data, "precision": precision, "seed": seed, **row})
                print(rows[-1], flush=True)
    summary = [summarise(data, rows) for data in arguments.data]
    for line in summary:
        print(line)
    result = {"environment": environment(), "runs": rows, "summary": summary}
    write_json(arguments.out, result)


def config_of(data: str, seed: int, precision: str, runs: Path) -> Config:
    """The demo's configuration over one set of shapes, or that of ENRICO."""
    if data == "shapes":
        manifest = write_shapes(runs / "data", sizes=DEMO_SIZES, seed=0)
        config = demo_config(manifest, seed)
    else:
        config = Config.from_yaml(ROOT / "configs" / f"{data}.yaml", overrides={"seed": seed})
    training = config.training.model_copy(update={"precision": precision})
    return config.model_copy(update={"training": training})


def measure(config: Config, folder: Path) -> dict[str, float]:
    """Trains unless the folder holds the model; returns the best epoch's figures."""
    if not (folder / "training.json").exists():
        train_run(config, folder, overwrite=True)
    done = read_json(folder / "training.json")
    best = done["history"][done["best_epoch"]]
    return {
        "val_score": best["val_score"],
        "val_loss": best["val_loss"],
        "epochs": len(done["history"]),
    }


def summarise(data: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of each precision, and the paired differences over seeds."""
    scores = {
        p: [r["val_score"] for r in rows if r["data"] == data and r["precision"] == p]
        for p in PRECISIONS
    }
    differences = [b - a for a, b in zip(*scores.values(), strict=True)]
    spread = {
        p: {"mean": statistics.fmean(x), "sd": statistics.stdev(x) if len(x) > 1 else None}
        for p, x in scores.items()
    }
    return {"data": data, **spread, "bf16 - 32": differences}


if __name__ == "__main__":
    main()

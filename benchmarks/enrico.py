"""ENRICO over seeds: FL-I2MoE, the dense baseline and a linear probe, on both configurations.

    python benchmarks/enrico.py --seeds 3

Each run is trained and evaluated once and kept under `runs/study`; a second call goes on where the
first stopped. The summary is written to `benchmarks/results/enrico.json`. Accuracy is that of the
whole test split; faithfulness is measured on a seeded choice of `--samples`, the interaction share
on `--pair-samples`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from fli2moe.config import Config
from fli2moe.files import read_json, write_json
from fli2moe.run_folder import environment
from fli2moe.runs import evaluate_run, train_run

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "enrico.json"
CONFIGS = {"screenshot + wireframe": "enrico.yaml", "screenshot + text": "enrico_text.yaml"}
MODELS = ("dense", "fli2moe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--pair-samples", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "study")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measured = {
        "evaluation.samples": arguments.samples,
        "evaluation.pair_samples": arguments.pair_samples,
    }
    rows: list[dict[str, Any]] = []
    for name, file in CONFIGS.items():
        for model in MODELS:
            for seed in range(arguments.seeds):
                folder = arguments.out / f"{Path(file).stem}-{model}-{seed}"
                rows.append(
                    {
                        "data": name,
                        "model": model,
                        "seed": seed,
                        **measure(file, model, seed, folder, measured),
                    }
                )
                print(
                    f"{name}, {model}, seed {seed}: accuracy {rows[-1]['accuracy']:.3f}", flush=True
                )
    summary = [summarise(rows, name, model) for name in CONFIGS for model in MODELS]
    result = {
        "environment": environment(),
        "seeds": arguments.seeds,
        "summary": summary,
        "runs": rows,
    }
    write_json(RESULTS, result)
    for line in summary:
        print(line)


def measure(
    file: str, model: str, seed: int, folder: Path, measured: dict[str, int]
) -> dict[str, Any]:
    """Trains and evaluates one run, or reads what an earlier call left."""
    done = folder / "study.json"
    if done.is_file():
        kept: dict[str, Any] = read_json(done)
        return kept
    overrides = {"model.name": model, "seed": seed, **measured}
    started = time.perf_counter()
    config = Config.from_yaml(ROOT / "configs" / file, overrides=overrides, preset="small")
    train_run(config, folder, overwrite=True)
    trained = time.perf_counter()
    metrics = evaluate_run(folder, seed=seed)
    curves = metrics["faithfulness"]["attention_gradient"]
    row = {
        "accuracy": metrics["task"]["accuracy"],
        "macro_f1": metrics["task"]["macro_f1"],
        "linear_probe": {view: p["accuracy"] for view, p in metrics["linear_probe"].items()},
        "comprehensiveness_gap": {m: c["comprehensiveness_gap"]["mean"] for m, c in curves.items()},
        "sufficiency_gap": {m: c["sufficiency_gap"]["mean"] for m, c in curves.items()},
        "interaction_share": metrics["interaction_share"]["mixture"]["mean"],
        "weights": {e: f["weight"] for e, f in metrics["experts"].items()},
        "seconds": {"train": trained - started, "evaluate": time.perf_counter() - trained},
    }
    write_json(done, row)
    return row


def summarise(rows: list[dict[str, Any]], data: str, model: str) -> dict[str, Any]:
    """Mean and standard deviation over seeds of one model on one configuration."""
    mine = [row for row in rows if row["data"] == data and row["model"] == model]
    return {
        "data": data,
        "model": model,
        "accuracy": spread([r["accuracy"] for r in mine]),
        "macro_f1": spread([r["macro_f1"] for r in mine]),
        "linear_probe": mine[0]["linear_probe"],
        "comprehensiveness_gap": {
            m: spread([r["comprehensiveness_gap"][m] for r in mine])
            for m in mine[0]["comprehensiveness_gap"]
        },
        "sufficiency_gap": {
            m: spread([r["sufficiency_gap"][m] for r in mine]) for m in mine[0]["sufficiency_gap"]
        },
        "interaction_share": spread([r["interaction_share"] for r in mine]),
        "train_seconds": spread([r["seconds"]["train"] for r in mine]),
        "evaluate_seconds": spread([r["seconds"]["evaluate"] for r in mine]),
    }


def spread(values: list[float]) -> dict[str, float | None]:
    """Mean and standard deviation (None for a single value)."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "sd": sd}


if __name__ == "__main__":
    main()

"""What many samples cost: explanations by one and two processes, memory against manifest size.

    python benchmarks/scale.py            # writes benchmarks/results/scale.json

Throughput is measured in one interleaved run (one process, two, one, two, ...), each time in a
fresh folder, start of the workers included. Memory is the peak of a process of its own that reads a
manifest of so many rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from fli2moe import __version__
from fli2moe.data.shapes import write_shapes
from fli2moe.demo import demo_config
from fli2moe.runs import explain_run, train_run

RESULT = Path(__file__).parent / "results" / "scale.json"
READ = """
import resource, sys, time
from fli2moe.data import read_manifest
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
rows = len(read_manifest(sys.argv[1]))
took = time.perf_counter() - started
print(rows, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, took)
"""


def manifest_memory(folder: Path, rows: int) -> dict[str, float]:
    path = folder / f"{rows}.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("id,text,label,split\n")
        for k in range(rows):
            split = ("train", "train", "val", "test")[k % 4]
            file.write(f"s{k},a short text of some words number {k},{'ab'[k % 2]},{split}\n")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True
    )
    path.unlink()
    read, before, after, took = map(float, done.stdout.split())
    return {
        "rows": int(read),
        "peak_mb": round(after / 1024, 1),
        "bytes_a_row": round(1024 * (after - before) / read),
        "seconds": round(took, 2),
    }


def throughput(run: Path, workers: str, samples: int, budget: int) -> float:
    shutil.rmtree(run / "explanations", ignore_errors=True)
    started = time.perf_counter()
    explain_run(run, limit=samples, budget=budget, workers=workers)
    return samples / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        memory = [manifest_memory(folder, rows) for rows in options.rows]
        run = folder / "run"
        config = demo_config(write_shapes(folder / "data", sizes=(512, 64, options.samples)))
        train_run(config.with_options({"training.epochs": 1}), run)
        found: dict[str, list[float]] = {"1": [], "2": []}
        for _ in range(options.repeats):
            for workers, rates in found.items():
                rates.append(throughput(run, workers, options.samples, options.budget))
        size = sum(p.stat().st_size for p in (run / "explanations").iterdir())
    ratios = [b / a for a, b in zip(found["1"], found["2"], strict=True)]
    result = {
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "threads_a_process": torch.get_num_threads(),
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"fli2moe": __version__, "torch": torch.__version__},
        "samples": options.samples,
        "budget": options.budget,
        "samples_a_second": {k: [round(x, 3) for x in v] for k, v in found.items()},
        "two_over_one": {
            "each": [round(r, 2) for r in ratios],
            "median": round(statistics.median(ratios), 2),
        },
        "bytes_a_sample": round(size / options.samples),
        "manifest": memory,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

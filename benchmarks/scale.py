"""What many samples cost: throughput by processes, memory against rows and features.

    python benchmarks/scale.py            # writes benchmarks/results/scale.json

Throughput is measured in one interleaved run (one process, two, a simulated cluster of two nodes,
one, ...), each time in a fresh folder, start of the workers included; training by the seconds that
it says itself, without the start of its processes. Memory: see `scale_memory.py`.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from scale_memory import feature_memory, manifest_memory

from fli2moe import __version__
from fli2moe.config import Config
from fli2moe.data.shapes import write_shapes
from fli2moe.demo import demo_config
from fli2moe.runs import encode_data, explain_run, train_run

RESULT = Path(__file__).parent / "results" / "scale.json"


def explaining(run: Path, workers: str, samples: int, budget: int) -> float:
    """Samples explained a second."""
    shutil.rmtree(run / "explanations", ignore_errors=True)
    started = time.perf_counter()
    explain_run(run, limit=samples, budget=budget, workers=workers)
    return samples / (time.perf_counter() - started)


def vision_encoder(folder: Path) -> Path:
    """A ViT-Tiny with random weights: as much work as a real one."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 192, "intermediate_size": 768, "num_attention_heads": 3}
    ViTModel(ViTConfig(**sizes), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)
    return folder


def encoding(config: Config, out: Path, workers: str, rows: int) -> float:
    """Samples encoded a second: the picture by a ViT-Tiny, the text by a table."""
    shutil.rmtree(out.parent / "features", ignore_errors=True)
    started = time.perf_counter()
    encode_data(config, out, workers=workers)
    return rows / (time.perf_counter() - started)


def training(config: Config, out: Path, devices: int, rows: int) -> float:
    """Samples seen a second, validation included."""
    shutil.rmtree(out, ignore_errors=True)
    path = out.with_suffix(".yaml")
    path.write_text(config.to_yaml(), encoding="utf-8")
    command = [sys.executable, "-m", "fli2moe", "train", str(path), "--out", str(out)]
    subprocess.run([*command, "--devices", str(devices)], check=True, capture_output=True)
    took = json.loads((out / "training.json").read_text())["seconds"]["train"]
    return config.training.epochs * rows / float(took)


@contextmanager
def simulated_cluster() -> Iterator[None]:
    """Two nodes of one CPU each, on this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    variables = {"env_vars": {"OMP_NUM_THREADS": "1"}}
    ray.init(address=made.address, log_to_driver=False, runtime_env=variables)
    try:
        yield
    finally:
        ray.shutdown()
        made.shutdown()


def interleaved(
    ways: dict[str, Callable[[], float]], repeats: int
) -> dict[str, dict[str, float | list[float]]]:
    """{way: rates, their median, and the median ratio to the first way of the same turn}."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, measure in ways.items():
            rates[name].append(measure())
    first = next(iter(rates.values()))
    return {
        name: {
            "a_second": [round(rate, 3) for rate in found],
            "median": round(statistics.median(found), 3),
            "times_one": round(
                statistics.median(b / a for a, b in zip(first, found, strict=True)), 2
            ),
        }
        for name, found in rates.items()
    }


def main() -> None:
    """Measures, writes and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--encoded-samples", type=int, default=624)
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--training-samples", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--feature-rows", type=int, default=4096)
    parser.add_argument("--limit-mb", type=int, default=1024)
    options = parser.parse_args()
    result: dict[str, Any] = {
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "threads_a_process": torch.get_num_threads(),
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"fli2moe": __version__, "torch": torch.__version__},
        "settings": {**vars(options), "seed": 0, "data": "shapes", "preset": "demo"},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def keep() -> None:
            RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")

        result["manifest"] = [manifest_memory(folder, rows) for rows in options.rows]
        made = folder / "made"
        result["features"] = feature_memory(made, options.feature_rows, options.limit_mb)
        shutil.rmtree(made)
        keep()
        sizes = (options.training_samples, 256, options.samples)
        config = demo_config(write_shapes(folder / "data", sizes=sizes))
        config = config.with_options({"training.epochs": 2})
        out, few = folder / "run", (options.encoded_samples, 8, 8)

        def encode(workers: str) -> Callable[[], float]:
            return lambda: encoding(seeing, folder / "encoded" / "run", workers, sum(few))

        def train(devices: int) -> Callable[[], float]:
            return lambda: training(config, folder / "trained", devices, options.training_samples)

        def explain(workers: str) -> Callable[[], float]:
            return lambda: explaining(out, workers, options.samples, options.budget)

        values = config.model_dump(mode="json")
        values["data"]["path"] = str(write_shapes(folder / "few", sizes=few))
        values["data"]["modalities"]["image"] = {"encoder": str(vision_encoder(folder / "vit"))}
        seeing = Config.from_dict(values)
        result["encoding"] = interleaved({w: encode(w) for w in ("1", "2")}, options.repeats)
        keep()
        train_run(config, out)
        result["training"] = interleaved({str(d): train(d) for d in (1, 2)}, options.repeats)
        keep()
        with simulated_cluster():
            ways = {w: explain(w) for w in ("1", "2", "ray")}
            result["explaining"] = interleaved(ways, options.repeats)
        size = sum(p.stat().st_size for p in (out / "explanations").iterdir())
        result["bytes_an_explained_sample"] = round(size / options.samples)
        model = (out / "model.safetensors").stat().st_size
        result["bytes_of_the_model"] = model
        keep()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

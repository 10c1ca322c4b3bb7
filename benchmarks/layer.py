"""The layer against its oracle: time and memory of training, inference and explanation.

    python benchmarks/layer.py                    # everything but growth
    python benchmarks/layer.py --only A3 forward  # rows whose setting and work are named
    python benchmarks/layer.py --growth           # against tokens, experts and batch size

The oracle (`tests/oracles`) is the definition written out: a pass per expert and view, attention
maps materialised, padding shipped along. It always runs in fp32; the library runs in fp32 and under
bf16 autocast. Within a row all of them take turns in one process on one thread, in an order that
changes from round to round; seconds are CPU time. A ratio is the oracle's seconds in fp32 divided
by the library's of the same round; the highest possible one is that of a library for which only
products of matrices take time (`layer_roofline.py`). Machines are shared: only ratios mean
something elsewhere.

The result is written to `benchmarks/results/layer.json`; rows that are not measured this time stay
as they are there. `--growth` draws `docs/layer-growth.png`.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from layer_growth import draw, growth_rows
from layer_point import measure
from layer_roofline import products
from layer_work import COALITIONS, MASKED, ROOT, SETTINGS, WHO, Work, masked_works, works

from fli2moe.files import read_json, write_json
from fli2moe.run_folder import environment

RESULTS = ROOT / "benchmarks" / "results" / "layer.json"
MEMORY = "memory: step of A1, batch 32"
FLAGS = ("avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[], help="words that a row's name must hold")
    parser.add_argument("--rounds", type=int, default=5, help="after one round to warm up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--time-limit", type=float, default=120, help="seconds per growth point")
    parser.add_argument("--memory-limit", type=float, default=12, help="gigabytes per process")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "layer-growth.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = read_json(arguments.out) if arguments.out.is_file() else {}
    result |= {"machine": machine(), "environment": environment()}
    arguments.gigaflops = result["machine"]["gigaflops"]
    if arguments.growth:
        rows = growth_rows(
            arguments.rounds,
            arguments.seed,
            time_limit=arguments.time_limit,
            memory_limit=arguments.memory_limit,
        )
        result["growth"] = {"rounds": arguments.rounds, "seed": arguments.seed, "rows": rows}
        draw(rows, arguments.plot)
    else:
        kept = {r["name"]: r for r in result.get("layer", [])}
        for name, make in chosen(arguments.only).items():
            kept[name] = row(name, make, arguments)
        if wanted(MEMORY, arguments.only):
            kept[MEMORY] = peaks(arguments)
        result["layer"] = list(kept.values())
    write_json(arguments.out, result)


def wanted(name: str, words: list[str]) -> bool:
    """Whether a row's name holds every word, each as a word of its own."""
    return set(words) <= set(name.replace(":", " ").replace(",", " ").split())


def chosen(only: list[str]) -> dict[str, Callable[[int, str], Work]]:
    """{name of a row: what makes its work}."""
    rows = {f"{s}: {name}": make for s in SETTINGS for name, make in works(SETTINGS[s]).items()}
    rows |= {f"{MASKED.name}: {name}": make for name, make in masked_works().items()}
    return {name: make for name, make in rows.items() if wanted(name, only)}


def row(
    name: str, make: Callable[[int, str], Work], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Times one row: everybody in turns."""
    seconds = take_turns({who: make(arguments.seed, who) for who in WHO}, arguments.rounds)
    found: dict[str, Any] = {"name": name, "rounds": arguments.rounds, "seed": arguments.seed}
    found["seconds"] = {who: spread(values) for who, values in seconds.items()}
    found["ratio"] = {
        who: spread([a / b for a, b in zip(seconds["oracle"], seconds[who], strict=True)])
        for who in WHO[1:]
    }
    if name.startswith(MASKED.name):
        found["evaluations_per_second"] = {
            who: COALITIONS / statistics.median(values) for who, values in seconds.items()
        }
    setting = MASKED if name.startswith(MASKED.name) else SETTINGS[name.partition(":")[0]]
    operations = products(setting, name.partition(": ")[2])
    floor = operations / arguments.gigaflops["float32"] / 1e9
    found["products"] = {
        "gigaflop": operations / 1e9,
        "float32_seconds": floor,
        "highest_ratio": found["seconds"]["oracle"]["median"] / floor,
    }
    told = ", ".join(f"{who} {x['median']:.2f}x" for who, x in found["ratio"].items())
    most = found["products"]["highest_ratio"]
    seconds_of_oracle = found["seconds"]["oracle"]["median"]
    print(f"{name}: oracle {seconds_of_oracle:.3f} s; {told}; at most {most:.2f}x", flush=True)
    return found


def take_turns(work: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """{who: CPU seconds of each round}; the first round is not counted, every second is turned."""
    seconds: dict[str, list[float]] = {who: [] for who in work}
    for number in range(rounds + 1):
        for who in list(work) if number % 2 else reversed(list(work)):
            gc.collect()
            started = time.process_time()
            work[who](number)
            if number:
                seconds[who].append(time.process_time() - started)
    return seconds


def peaks(arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of one training step of A1 with 32 samples, each in a process of its own."""
    setting = dataclasses.replace(SETTINGS["A1"], batch=32)
    options = {"seed": arguments.seed, "memory_limit": arguments.memory_limit}
    found = {who: measure(setting, "step", who, rounds=0, **options) for who in WHO}
    megabytes = {who: x and x["peak_megabytes"] for who, x in found.items()}
    print(f"{MEMORY}: {megabytes}", flush=True)
    return {"name": MEMORY, "seed": arguments.seed, "megabytes": megabytes}


def machine() -> dict[str, Any]:
    """The processor, what it knows, and what a large product of matrices reaches on one thread."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    about = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = set(about.get("flags", "").split())
    return {
        "processor": about.get("model name", "unknown"),
        "flags": {flag: flag in flags for flag in FLAGS},
        "gigaflops": {
            "float32": gigaflops(torch.float32),
            "bfloat16": gigaflops(torch.bfloat16),
        },
    }


def gigaflops(kind: torch.dtype, size: int = 2048) -> float:
    """Median speed of a product of two square matrices."""
    a, b, c = (torch.randn(size, size).to(kind) for _ in range(3))
    seconds = take_turns({"product": lambda number: torch.mm(a, b, out=c)}, 5)["product"]
    return 2 * size**3 / statistics.median(seconds) / 1e9


def spread(values: list[float]) -> dict[str, float]:
    """Least, median and greatest."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


if __name__ == "__main__":
    main()

"""Time and peak memory of one piece of work in a process of its own.

    python benchmarks/layer_point.py '{"work": "step", "who": "fp32", "rounds": 2, ...}'

Called by `layer.py`; prints one line of JSON. Memory is the process's peak during the first
work minus what it held before: gradients and activations count, model, batch and libraries do not.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from layer_work import Setting, forward, step

GIGABYTE = 2**30


def main() -> None:
    request = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    limit = int(request["memory_limit"] * GIGABYTE)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    setting, who = Setting(**request["setting"]), request["who"]
    if request["work"] == "step":
        work = step(setting, 0.5, request["seed"], who)
    else:
        work = forward(setting, request["seed"], who)
    gc.collect()
    before = restart_peak()
    work(0)
    memory = peak() - before
    seconds = []
    for number in range(1, request["rounds"] + 1):
        started = time.process_time()
        work(number)
        seconds.append(time.process_time() - started)
    typical = statistics.median(seconds) if seconds else None
    print(json.dumps({"seconds": typical, "peak_megabytes": memory}))


def restart_peak() -> float:
    """Forgets the peak so far and returns the resident set, in megabytes.

    A process starts with the peak of the one it was forked from.
    """
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> float:
    """Largest resident set of this process since `restart_peak`, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def measure(
    setting: Setting,
    work: str,
    who: str,
    *,
    rounds: int,
    seed: int = 0,
    memory_limit: float = 16,
    time_limit: float | None = None,
) -> dict[str, Any] | None:
    """Runs this file on one request; None when it ran out of time or memory."""
    request = {
        "setting": dataclasses.asdict(setting),
        "work": work,
        "who": who,
        "rounds": rounds,
        "seed": seed,
        "memory_limit": memory_limit,
    }
    command = [sys.executable, str(Path(__file__).resolve()), json.dumps(request)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=time_limit)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        if "memory" in done.stderr.lower() or done.returncode < 0:
            return None
        raise RuntimeError(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()

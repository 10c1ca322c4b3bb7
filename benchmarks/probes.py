"""Pair probes against the pair-by-pair probe and shapiq: precision, error, evaluations and time.

    pip install -e ".[bench]"                               # ProxySPEX needs lightgbm
    python benchmarks/probes.py --summarise                 # everything, then the summary
    python benchmarks/probes.py --scenario planted-40 --method sparse auto --seeds 2
    python benchmarks/probes.py --only-summarise            # of what was measured so far

Every run (scenario, method, budget, seed) is a process of its own on one thread with a limit of CPU
seconds, and becomes a line of `runs/probes/results.jsonl`; a second call goes on where the first
stopped, `--again` measures anew. Evaluations are counted in the game's function, not taken from
the method; a method's own seconds are CPU time without that function's. `probe_plan.py` holds
scenarios, budgets and seeds, `probe_cases.py` says what the figures mean. Games and methods are
drawn from seeds that nothing was developed on. `sample` times the probe of one real sample on two
threads (`probe_sample.py`).

`--summarise` writes `benchmarks/results/probes.json` and draws `benchmarks/results/probes.png`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from probe_methods import NOT_KNOWN, OURS, PEERS, in_child, load_peers, measured
from probe_plan import PLAN, case_maker, units
from probe_plot import draw
from probe_sample import LARGEST, sample_seconds
from probe_summary import summary
from threadpoolctl import threadpool_limits

from fli2moe.files import write_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
Key = tuple[str, str, int, int]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*PLAN, "sample"]
    parser.add_argument("--scenario", nargs="+", choices=names, default=names)
    parser.add_argument("--method", nargs="+", choices=[*OURS, *PEERS])
    parser.add_argument("--seeds", type=int, help="at most so many, where the plan has more")
    parser.add_argument("--limit", type=float, default=120, help="CPU seconds of one run")
    parser.add_argument(
        "--reference",
        type=int,
        default=120_000,
        help="evaluations of a long run, where it is truth",
    )
    parser.add_argument("--again", action="store_true", help="measure what was measured")
    parser.add_argument("--summarise", action="store_true")
    parser.add_argument("--only-summarise", action="store_true")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "probes")
    parser.add_argument("--out", type=Path, default=RESULTS / "probes.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load_peers()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    lines = arguments.runs / "results.jsonl"
    with threadpool_limits(1):
        for scenario in [] if arguments.only_summarise else arguments.scenario:
            if scenario == "sample":
                measure_sample(lines, arguments)
            else:
                measure(scenario, lines, arguments)
    if arguments.summarise or arguments.only_summarise:
        settings = {"limit_seconds": arguments.limit, "reference": arguments.reference}
        result = summary(list(read(lines).values()), settings)
        write_json(arguments.out, result)
        draw(result, arguments.out.with_suffix(".png"))
        for target in result["targets"]:
            print(json.dumps(target))


def read(path: Path) -> dict[Key, dict[str, Any]]:
    """{key: row}, the last line of a key; a line cut off by a kill is left out."""
    rows: dict[Key, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["scenario"], row["method"], row["budget"], row["seed"]] = row
    return rows


def settled(path: Path) -> set[Key]:
    """Keys that need no run: whose last run did not fail, and was not refused."""
    again = ("failed", "refused", "ended")
    return {key for key, row in read(path).items() if not row["status"].startswith(again)}


def measure(scenario: str, lines: Path, arguments: argparse.Namespace) -> None:
    """Makes the runs of a scenario that have no line yet."""
    done = set() if arguments.again else settled(lines)
    left = [
        unit
        for unit in units(scenario, arguments.method, arguments.seeds)
        if (scenario, *unit) not in done
    ]
    if not left:
        return
    make = case_maker(scenario, arguments.runs, arguments.reference, arguments.seeds)
    for method, budget, seed in left:
        case = make(seed)
        started = time.perf_counter()
        figures = measured(case, method, budget, seed, arguments.limit)
        if figures["status"] == NOT_KNOWN:
            continue
        row = {"scenario": scenario, "method": method, "budget": budget, "seed": seed, **figures}
        row |= {"wall_seconds": time.perf_counter() - started, "about": case.about}
        add(lines, row)


def measure_sample(lines: Path, arguments: argparse.Namespace) -> None:
    """Times one real sample, on two threads."""
    done = set() if arguments.again else settled(lines)
    if ("sample", "auto", LARGEST, 0) in done or arguments.method not in (None, ["auto"]):
        return
    answer = in_child(lambda: sample_seconds(arguments.runs, LARGEST), memory=16)
    row = {"scenario": "sample", "method": "auto", "budget": LARGEST, "seed": 0}
    row |= {"status": "ok", **answer} if isinstance(answer, dict) else {"status": answer}
    add(lines, row)


def add(lines: Path, row: dict[str, Any]) -> None:
    """Appends a line; `commit` says which code was measured."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    row["commit"] = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    with lines.open("a") as file:
        file.write(json.dumps(row) + "\n")
    shown = ("precision", "nmse", "missed", "evaluations", "own_seconds", "wall_seconds")
    told = ", ".join(f"{n} {row[n]:.4g}" for n in shown if row.get(n) is not None)
    name = f"{row['scenario']} {row['method']} {row['budget']} seed {row['seed']}"
    print(f"{name}: {row['status']} {told}", flush=True)


if __name__ == "__main__":
    main()

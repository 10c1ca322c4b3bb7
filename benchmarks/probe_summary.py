"""From rows to figures: means over seeds, evaluations for a precision, the table of targets."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from probe_methods import OURS, PEERS
from probe_plan import ABOUT, FIRST_SEED, PLAN
from probe_targets import targets

from fli2moe.run_folder import environment

Row = dict[str, Any]
SHOWN = (
    "evaluations",
    "precision",
    "nmse",
    "rank",
    "own_seconds",
    "coverage",
    "coverage_audited",
    "audited",
    "missed",
    "reference_noise",
)
LEVEL = 0.9
DRAWS = 10_000  # of the bootstrap
NOTES = (
    "precision, nmse, rank, coverage: see benchmarks/probe_cases.py",
    "slow peers are run on fewer seeds: see `seeds` of each line",
    "shapiq runs with pairing_trick=True where a method has it, ProxySPEX without hpo",
    "rank is Spearman's correlation of the signed values over all cross-modal pairs",
)


def summary(rows: Sequence[Row], settings: Row) -> Row:
    """Returns everything that is written."""
    lines = [_line(key, group) for key, group in _grouped(rows).items()]
    needed = [_needed(s, m, rows) for s in ("planted-260", "planted-40") for m in (*OURS, *PEERS)]
    needed = [line for line in needed if line is not None]
    ratios = [
        ratio
        for scenario, slow in (("planted-260", ("direct",)), ("planted-40", (*PEERS, "direct")))
        for method in ("sparse", "quadblock", "auto")
        if (ratio := _ratio(scenario, slow, method, needed)) is not None
    ]
    return {
        "environment": environment(),
        "commits": sorted({row["commit"] for row in rows}),
        "settings": {**settings, "first_seed": FIRST_SEED, "notes": NOTES, "scenarios": ABOUT},
        "targets": targets(lines, ratios, rows),
        "evaluations_for_precision": {"level": LEVEL, "methods": needed, "ratios": ratios},
        "sample": [row for row in rows if row["scenario"] == "sample"],
        "summary": lines,
    }


def _grouped(rows: Iterable[Row]) -> dict[tuple[str, str, int], list[Row]]:
    """{(scenario, method, budget): rows}, in the order of the plan."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    place = {name: i for i, name in enumerate((*PLAN, "sample", *OURS, *PEERS))}
    for row in sorted(
        rows, key=lambda r: (place[r["scenario"]], place[r["method"]], r["budget"], r["seed"])
    ):
        groups.setdefault((row["scenario"], row["method"], row["budget"]), []).append(row)
    return groups


def _line(key: tuple[str, str, int], rows: list[Row]) -> Row:
    scenario, method, budget = key
    good = [row for row in rows if row["status"] == "ok"]
    line: Row = {"scenario": scenario, "method": method, "budget": budget, "seeds": len(good)}
    failed = Counter(row["status"] for row in rows if row["status"] != "ok")
    if failed:
        line["no_answer"] = dict(failed)
    for name in SHOWN:
        values = [row[name] for row in good if row.get(name) is not None]
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else None
            line[name] = {"mean": statistics.fmean(values), "sd": spread}
            line[name]["median"] = statistics.median(values)
    return line


def evaluations_for(
    points: Sequence[tuple[float, float]], level: float = LEVEL
) -> tuple[float, str]:
    """Returns (evaluations, bound) at which precision first reaches a level.

    Between the two measured points around it precision is taken as linear in the logarithm of
    evaluations. The bound is `=`; `<=` where the first point is there already, `>` where none is.

    Args:
        points: (evaluations, precision) of one seed.
        level: the precision.
    """
    ordered = sorted(points)
    if ordered[0][1] >= level:
        return ordered[0][0], "<="
    for (e0, p0), (e1, p1) in pairwise(ordered):
        if p1 >= level:
            share = (level - p0) / (p1 - p0)
            return math.exp(math.log(e0) + share * (math.log(e1) - math.log(e0))), "="
    return ordered[-1][0], ">"


def _needed(scenario: str, method: str, rows: Sequence[Row]) -> Row | None:
    points: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        if (row["scenario"], row["method"], row["status"]) == (scenario, method, "ok"):
            points.setdefault(row["seed"], []).append((row["evaluations"], row["precision"]))
    if not points:
        return None
    found = {seed: evaluations_for(points[seed]) for seed in sorted(points)}
    mean = math.exp(statistics.fmean(math.log(e) for e, _ in found.values()))
    return {
        "scenario": scenario,
        "method": method,
        "geometric_mean": mean,
        "never": sum(bound == ">" for _, bound in found.values()),
        "by_seed": {str(seed): list(pair) for seed, pair in found.items()},
    }


def _ratio(scenario: str, slow: Sequence[str], method: str, needed: Sequence[Row]) -> Row | None:
    """How many times as many evaluations the best of `slow` needs, by seeds that both have.

    Geometric mean over seeds with a 95% bootstrap interval. A method counts among the best only
    with all of the seeds; where it never reaches the level, with its largest number: a bound.
    """
    by_method = {line["method"]: line for line in needed if line["scenario"] == scenario}
    if method not in by_method:
        return None
    fast = by_method[method]["by_seed"]
    able = [m for m in slow if m in by_method and set(by_method[m]["by_seed"]) >= set(fast)]
    results = []
    for peers in ([m for m in able if m != "direct"], [m for m in able if m == "direct"]):
        if peers:
            best = min(peers, key=lambda m: (by_method[m]["never"], by_method[m]["geometric_mean"]))
            logs = np.array([math.log(by_method[best]["by_seed"][s][0] / fast[s][0]) for s in fast])
            draws = np.random.default_rng(0).integers(len(logs), size=(DRAWS, len(logs)))
            low, high = np.exp(np.quantile(logs[draws].mean(1), [0.025, 0.975]))
            results.append(
                {
                    "against": best,
                    "never": by_method[best]["never"],
                    "ratio": float(np.exp(logs.mean())),
                    "interval": [float(low), float(high)],
                }
            )
    bounds = sorted({pair[1] for pair in fast.values()})
    return {"scenario": scenario, "method": method, "bounds": bounds, "ratios": results}

"""The table of targets with the figures that were measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from probe_methods import PEERS

Row = dict[str, Any]
SAMPLE = ("wall_seconds", "model_seconds", "own_seconds", "players")
LIBRARY = ("sparse", "quadblock", "kernel", "auto")


def targets(lines: Sequence[Row], ratios: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """One entry per target: what, the target, each of our methods' figures and whether it is met.

    Args:
        lines: means over seeds by scenario, method and budget.
        ratios: how many times as many evaluations others need.
        rows: single runs, for the real sample.
    """
    by_key = {(line["scenario"], line["method"], line["budget"]): line for line in lines}

    def means(scenario: str, budget: int, *names: str) -> dict[str, list[float]]:
        found = {m: by_key.get((scenario, m, budget), {}) for m in LIBRARY}
        return {
            m: [line[n]["mean"] for n in names]
            for m, line in found.items()
            if set(names) <= {*line}
        }

    table = [
        _entry(
            "planted-260, 2,000 evaluations: p@k, NMSE",
            "p@k >= .90, NMSE <= .02",
            means("planted-260", 2000, "precision", "nmse"),
            lambda x: x[0] >= 0.9 and x[1] <= 0.02,
        ),
        _entry(
            "planted-260: evaluations for p@k .9, direct / ours (interval over seeds)",
            ">= 200",
            _against(ratios, "planted-260", "direct"),
            lambda x: x["ratio"] >= 200,
        ),
        *(
            _entry(
                f"{scenario}, 4,000 evaluations: p@k",
                "p@k >= .75",
                means(scenario, 4000, "precision"),
                lambda x: x[0] >= 0.75,
            )
            for scenario in ("dense-260", "dense-within-260")
        ),
        _entry(
            "planted-40, 500 evaluations: p@k",
            "p@k >= .90",
            means("planted-40", 500, "precision"),
            lambda x: x[0] >= 0.9,
        ),
        _entry(
            "planted-40: evaluations for p@k .9, best of shapiq / ours (interval over seeds)",
            ">= 4",
            _against(ratios, "planted-40", *PEERS),
            lambda x: x["ratio"] >= 4,
        ),
        *(_network(by_key, budget) for budget in (200, 400, 1600)),
        _entry(
            "planted-260, 2,000 evaluations: own CPU seconds on one core",
            "<= 2",
            means("planted-260", 2000, "own_seconds"),
            lambda x: x[0] <= 2,
        ),
        _entry(
            "one real sample, 64 + 196 players, budget 2,000, all heads: seconds, players",
            "<= 20 s fp32, no player grouped",
            {
                row["method"]: [row[n] for n in SAMPLE]
                for row in rows
                if row["scenario"] == "sample" and row["status"] == "ok"
            },
            lambda x: x[0] <= 20 and x[-1] == 64 + 196,
        ),
        *(
            _entry(
                f"gaps-260, {budget} evaluations: share of the true top 20 not on the shortlist",
                "<= .10",
                means("gaps-260", budget, "missed"),
                lambda x: x[0] <= 0.1,
            )
            for budget in (2000, 4000)
        ),
    ]
    return table


def _entry(what: str, target: str, found: dict[str, Any], met: Callable[[Any], bool]) -> Row:
    verdicts = {method: bool(met(x)) for method, x in found.items()}
    return {"what": what, "target": target, "measured": found, "met": verdicts}


def _against(ratios: Sequence[Row], scenario: str, *others: str) -> dict[str, Row]:
    return {
        line["method"]: {**found, "bounds": line["bounds"]}
        for line in ratios
        if line["scenario"] == scenario
        for found in line["ratios"]
        if found["against"] in others
    }


def _network(
    by_key: dict[tuple[str, str, int], Row],
    budget: int,
) -> Row:
    def over_cases(methods: Sequence[str]) -> dict[str, list[float]]:
        lines = {m: by_key.get(("network-14", m, budget), {}) for m in methods}
        return {
            m: [line["nmse"]["mean"], line["nmse"]["median"]]
            for m, line in lines.items()
            if "nmse" in line
        }

    peers = over_cases(PEERS)
    entry = _entry(
        f"network-14, {budget} evaluations: NMSE, mean and median over cases",
        "each below the lowest of shapiq",
        over_cases(LIBRARY),
        lambda x: all(
            x[i] < min((peer[i] for peer in peers.values()), default=0.0) for i in range(2)
        ),
    )
    return {**entry, "shapiq": peers}

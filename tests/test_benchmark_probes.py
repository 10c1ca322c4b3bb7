"""The benchmark of the pair probes: its figures on known answers, and one run of it."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("probe_cases", "probe_games", "probe_methods", "probe_summary")
    return {name: __import__(name) for name in names}


def case(modules: dict[str, ModuleType], truth: list[float], k: int) -> object:
    values = np.array(truth)
    return modules["probe_cases"].Case({"text": 1, "image": len(values)}, lambda: None, values, k)


def test_a_value_of_zero_is_not_found_and_a_missing_one_counts_as_zero(
    modules: dict[str, ModuleType],
) -> None:
    cases = modules["probe_cases"]
    value = np.array([1.0, np.nan, 0.0, 0.0])
    error = np.array([0.1, np.nan, 0.1, 0.1])
    audited = np.array([True, False, False, False])
    found = cases.figures(
        case(modules, [1.5, -2.0, 0.0, 0.0], 2), cases.Estimate(value, error, audited, 9, 0.0)
    )
    assert found["precision"] == 0.5
    assert found["nmse"] == pytest.approx((0.25 + 4.0) / 6.25)
    assert found["coverage"] == 0.5
    assert found["coverage_audited"] == 0.0
    assert found["missed"] == 0.5


def test_the_noise_of_a_reference_is_taken_off(modules: dict[str, ModuleType]) -> None:
    cases, random = modules["probe_cases"], np.random.default_rng(0)
    exact = random.normal(size=4000)
    runs = exact + 0.5 * random.normal(size=(2, 4000))
    variance = (runs[0] - runs[1]) ** 2 / 4
    known = cases.Case({"text": 1, "image": 4000}, None, runs.mean(0), 10, variance=variance)
    estimate = cases.Estimate(exact + 0.3 * random.normal(size=4000), None, None, 1, 0.0)
    found = cases.figures(known, estimate)
    assert found["nmse"] == pytest.approx(0.09, abs=0.015)
    assert found["nmse_raw"] > 0.18
    assert found["reference_noise"] == pytest.approx(0.125 / 1.125, abs=0.015)


def test_evaluations_are_interpolated_in_their_logarithm(modules: dict[str, ModuleType]) -> None:
    evaluations_for = modules["probe_summary"].evaluations_for
    points = [(100.0, 0.8), (400.0, 1.0)]
    assert evaluations_for(points) == (pytest.approx(math.sqrt(100 * 400)), "=")
    assert evaluations_for(points[1:]) == (400.0, "<=")
    assert evaluations_for(points[:1]) == (100.0, ">")


def test_a_run_counts_the_evaluations_made(modules: dict[str, ModuleType]) -> None:
    methods = modules["probe_methods"]
    game = modules["probe_games"].planted(0, text=5, image=5, n_terms=3)
    known = modules["probe_cases"].Case({"text": 5, "image": 5}, lambda: game, game.pair_truth(), 3)
    row = methods.measured(known, "monte_carlo", 400, 0)
    assert row["status"] == "ok"
    assert 0 < row["evaluations"] <= 400
    assert row["nmse"] < 0.3
    assert row["coverage"] > 0.5


def test_a_run_that_takes_too_long_is_ended(modules: dict[str, ModuleType]) -> None:
    def forever() -> None:
        while True:
            pass

    assert modules["probe_methods"].in_child(forever, limit=0.0) == "no answer in 0 s"


def test_shapiq_is_read_pair_by_pair(modules: dict[str, ModuleType]) -> None:
    pytest.importorskip("shapiq")
    game = modules["probe_games"].planted(5, text=4, image=4, n_terms=3, orders=(2,))
    known = modules["probe_cases"].Case({"text": 4, "image": 4}, lambda: game, game.pair_truth(), 3)
    row = modules["probe_methods"].measured(known, "InconsistentKernelSHAPIQ", 256, 0)
    assert row["status"] == "ok"
    assert row["evaluations"] <= 257
    assert row["nmse"] < 1e-6

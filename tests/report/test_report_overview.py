"""Charts of a data set and its most frequent pairs."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_made import EVIL, shapes, text_only

from fli2moe import report
from fli2moe.report.charts import Series, line_chart, stacked_bars, ticks
from fli2moe.report.overview import charts, frequent_pairs


def mean(value: float | None, error: float | None = 0.1) -> dict[str, Any]:
    return {"mean": value, "standard_error": error}


CURVE = {
    "comprehensiveness": [0.2, 0.4],
    "sufficiency": [0.3, None],
    "random_comprehensiveness": [0.1, 0.1],
    "random_sufficiency": [0.4, 0.2],
}
MEASURED: dict[str, Any] = {
    "experts": {
        "synergy": {"weight": 0.75, "weight_per_label": {"dog": 0.5, EVIL: None}},
        "redundancy": {"weight": 0.25, "weight_per_label": {"dog": 0.5, EVIL: None}},
    },
    "interaction_share": {
        "mixture": {**mean(0.2), "n": 3},
        "synergy": {**mean(0.4), "n": 3},
        "orders": {"mixture": {"main": mean(0.8)}},
        "per_label": {},
    },
    "faithfulness": {
        "percents": [5.0, 10.0],
        "baseline": "mean",
        "attention_gradient": {"text": CURVE},
        "random": {"text": CURVE},
        "by_head": [],
    },
    "pair_masking": {
        "drops": [
            {
                "kind": "synergy",
                "head": "mixture",
                "m": m,
                "ranked": {"score": mean(1.0 + m)},
                "random_pairs": {"score": mean(0.5)},
                "same_players": {"score": mean(None, None)},
                "top_players": {"score": mean(2.0)},
            }
            for m in (1, 2)
        ]
    },
}


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-0.3, 2.4), (0.0, 0.0), (0.0, 1e-7), (-500.0, 3.0)]
)
def test_ticks_are_round_and_enclose(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert 2 <= len(found) <= 8
    steps = {float(f"{b - a:.6g}") for a, b in pairwise(found)}
    assert len(steps) == 1


def test_points_lie_where_their_values_are() -> None:
    chart = line_chart("t", ["a", "b"], [Series("s", [0.0, 1.0], 0)], across="x", up="y")
    (points,) = re.findall(r'<polyline points="([^"]+)"', chart.picture)
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in points.split())
    zero = re.search(r'<line class="zero"[^>]* y1="([\d.]+)"', chart.picture)
    assert zero is not None
    assert float(zero[1]) == y0 > y1
    assert x1 > x0


def test_what_was_not_measured_is_a_gap_and_no_zero() -> None:
    chart = line_chart("t", ["a", "b"], [Series("s", [None, 1.0], 0)], across="x", up="y")
    assert chart.picture.count("<circle") == 1
    bars = stacked_bars("t", {"dog": {"a": None, "b": None}, "cat": {"a": 0.25, "b": 0.75}})
    assert bars.picture.count(">n/a<") == 1
    widths = [float(w) + 1 for w in re.findall(r'<rect[^>]* width="([\d.]+)"', bars.picture)]
    assert widths[1] == pytest.approx(3 * widths[0], abs=0.2)


def test_a_chart_for_all_that_was_measured(tmp_path: Path) -> None:
    explanation, _ = shapes(tmp_path)
    found = {chart.title: chart for chart in charts(MEASURED, [explanation])}
    assert list(found) == [
        "How much interactions explain",
        "Expert weights by class",
        "Comprehensiveness: text",
        "Sufficiency: text",
        "Hiding synergy pairs, ranked on mixture",
    ]
    assert [name for _, name in found["Comprehensiveness: text"].legend] == [
        "attention gradient",
        "random parts",
    ]
    assert "<script" not in found["Expert weights by class"].picture
    shown = charts({}, [explanation])
    assert [chart.title for chart in shown] == ["Expert weights by class"]
    assert "on this page" in shown[0].note


def test_frequent_pairs_are_counted_over_samples(tmp_path: Path) -> None:
    made = [shapes(tmp_path, f"shapes-{k}", k) for k in (1, 2, 3)]
    groups = {e.sample_id: [e] for e, _ in made}
    found = frequent_pairs(groups, {s.id: s for _, s in made})
    first = found["Most frequent synergy pairs"]["rows"][0]
    assert first[:4] == ["red", "patch at the middle right", "colour match", 3]
    assert first[4] == pytest.approx(1.84)
    first = found["Most frequent redundancy pairs"]["rows"][0]
    assert first[:4] == ["sunny", "patch at the upper left", "colour match", 3]
    explanation, sample = text_only("nothing here")
    assert frequent_pairs({sample.id: [explanation]}, {sample.id: sample}) == {}


def test_the_page_shows_charts_and_keeps_names_text(tmp_path: Path) -> None:
    explanation, sample = shapes(tmp_path)
    html = report.render([explanation], [sample], measured=MEASURED)
    assert html.count('<svg class="chart" viewBox="0 0 440') == 5
    assert "Most frequent synergy pairs" in html
    assert "<script>document.title" not in html

"""Draws error and precision of the pair probes against evaluations, one column per scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from probe_methods import OURS, PEERS
from probe_plan import PLAN

OURS_COLOURS = ("#E69F00", "#8C6D31", "#0072B2", "#009E73", "#000000")
PEER_COLOURS = ("#999999", "#CC79A7", "#D55E00", "#56B4E9", "#A0A000", "#7B3294")
MARKERS = "osD^*" + "vPXp<>"
ROWS = {"nmse": "NMSE", "precision": "precision@k"}
FLOOR = 1e-5  # of what is drawn on the logarithmic axis


def draw(result: dict[str, Any], path: Path) -> None:
    """Draws means and standard deviations over seeds; nothing without matplotlib.

    Ours are solid lines, shapiq's dashed; each method has a colour (after Okabe and Ito) and a
    marker of its own.
    """
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no plot")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [line for line in result["summary"] if "nmse" in line]
    scenarios = [name for name in PLAN if any(line["scenario"] == name for line in lines)]
    if not scenarios:
        return
    size = (3.1 * len(scenarios) + 0.6, 7.2)
    figure, grid = pyplot.subplots(
        2, len(scenarios), figsize=size, sharex="col", sharey="row", squeeze=False
    )
    colours = (*OURS_COLOURS, *PEER_COLOURS)
    drawn: dict[str, Any] = {}
    for column, scenario in enumerate(scenarios):
        for axes, name in zip(grid[:, column], ROWS, strict=True):
            for number, method in enumerate((*OURS, *PEERS)):
                points = [x for x in lines if (x["scenario"], x["method"]) == (scenario, method)]
                if points:
                    drawn[method] = _curve(axes, points, name, colours[number], MARKERS[number])
            axes.set_xscale("log")
            axes.grid(alpha=0.3)
            axes.tick_params(labelsize=10)
        grid[0, column].set_title(scenario, fontsize=12)
        grid[0, column].set_yscale("log")
        grid[1, column].set_xlabel("evaluations", fontsize=11)
    grid[0, 0].set_ylim(1e-4, 3)
    grid[1, 0].set_ylim(-0.03, 1.03)
    for axes, label in zip(grid[:, 0], ROWS.values(), strict=True):
        axes.set_ylabel(label, fontsize=12)
    names = [method if method in OURS else f"shapiq {method}" for method in drawn]
    figure.legend(drawn.values(), names, loc="lower center", ncols=6, fontsize=10, frameon=False)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _curve(axes: Any, points: list[dict[str, Any]], name: str, colour: str, marker: str) -> Any:
    x = [point["evaluations"]["mean"] for point in points]
    y = [max(point[name]["mean"], FLOOR) for point in points]
    sd = [point[name]["sd"] or 0.0 for point in points]
    ours = points[0]["method"] in OURS
    low = [max(a - b, FLOOR if name == "nmse" else 0.0) for a, b in zip(y, sd, strict=True)]
    high = [a + b if name == "nmse" else min(a + b, 1.0) for a, b in zip(y, sd, strict=True)]
    (line,) = axes.plot(
        x,
        y,
        color=colour,
        marker=marker,
        markersize=6 if ours else 5,
        linestyle="-" if ours else "--",
        linewidth=1.8 if ours else 1.2,
    )
    axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    return line

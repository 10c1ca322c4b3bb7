"""Draws error and precision of the pair probes against evaluations, a pair of panels a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from probe_methods import OURS, PEERS
from probe_plan import PLAN

OURS_COLOURS = ("#E69F00", "#8C6D31", "#0072B2", "#009E73", "#332288", "#000000")
PEER_COLOURS = ("#999999", "#CC79A7", "#D55E00", "#56B4E9", "#A0A000", "#7B3294")
MARKERS = "osD^h*" + "vPXp<>"
COLUMNS = 4
ROWS = {"nmse": "NMSE (median)", "precision": "precision@k (mean)"}
LOWEST, HIGHEST = 1e-4, 3.0  # drawn errors


def draw(result: dict[str, Any], path: Path) -> None:
    """Draws medians of the error and means of the precision over seeds; none without matplotlib.

    Ours are solid lines, with a band of one standard deviation of the precision; shapiq's are
    dashed. Each method has a colour (after Okabe and Ito) and a marker of its own.
    """
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no plot")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    lines = [line for line in result["summary"] if "nmse" in line]
    scenarios = [name for name in PLAN if any(line["scenario"] == name for line in lines)]
    if not scenarios:
        return
    bands = -(-len(scenarios) // COLUMNS)
    figure, grid = pyplot.subplots(
        2 * bands, COLUMNS, figsize=(15, 5.6 * bands + 0.8), squeeze=False
    )
    drawn: dict[str, Any] = {}
    for place in range(bands * COLUMNS):
        panels = grid[2 * (place // COLUMNS) : 2 * (place // COLUMNS) + 2, place % COLUMNS]
        if place >= len(scenarios):
            for axes in panels:
                axes.set_axis_off()
            continue
        scenario = scenarios[place]
        for axes, name in zip(panels, ROWS, strict=True):
            drawn |= _panel(axes, [x for x in lines if x["scenario"] == scenario], name)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=20))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _thousands(x)))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(labelsize=9)
            axes.tick_params(axis="x", rotation=45)
            axes.grid(alpha=0.3)
            if place % COLUMNS == 0:
                axes.set_ylabel(ROWS[name], fontsize=11)
        panels[0].set_title(scenario, fontsize=12)
        panels[0].set_yscale("log")
        panels[0].set_ylim(LOWEST, HIGHEST)
        panels[1].set_ylim(-0.03, 1.03)
        panels[1].set_xlabel("evaluations", fontsize=10)
    methods = [method for method in (*OURS, *PEERS) if method in drawn]
    names = [method if method in OURS else f"shapiq {method}" for method in methods]
    handles = [drawn[method] for method in methods]
    figure.legend(handles, names, loc="lower center", ncols=6, fontsize=10, frameon=False)
    figure.tight_layout(rect=(0, 0.09 / bands, 1, 1))
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _panel(axes: Any, lines: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Draws one figure of one scenario; {method: its line}."""
    drawn = {}
    for number, method in enumerate((*OURS, *PEERS)):
        points = [line for line in lines if line["method"] == method]
        if not points:
            continue
        ours = method in OURS
        x = [point["evaluations"]["mean"] for point in points]
        kind = "median" if name == "nmse" else "mean"
        y = [point[name][kind] for point in points]
        colour = (*OURS_COLOURS, *PEER_COLOURS)[number]
        (drawn[method],) = axes.plot(
            x,
            [max(value, LOWEST) for value in y] if name == "nmse" else y,
            color=colour,
            marker=MARKERS[number],
            markersize=6 if ours else 5,
            linestyle="-" if ours else "--",
            linewidth=1.8 if ours else 1.2,
        )
        if ours and name == "precision":
            sd = [point[name]["sd"] or 0.0 for point in points]
            low = [value - s for value, s in zip(y, sd, strict=True)]
            high = [value + s for value, s in zip(y, sd, strict=True)]
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    return drawn


def _thousands(x: float) -> str:
    return f"{x / 1000:g}k" if x >= 1000 else f"{x:g}"

"""The figure of several runs compared."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from fli2moe.errors import InputError
from fli2moe.plot.drawing import (
    COLOURS,
    GREY,
    REMEDY,
    WIDTH,
    legend,
    missing_row,
    name_of,
    name_rows,
    panels_of,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVEL = 0.05
"""p values below it are drawn as a difference."""


def plot_comparison(comparison: Mapping[str, Any]) -> Figure:
    """Draws every figure of every group of runs, a panel per figure: mean and sd over seeds.

    A dashed line stands at the reference. Filled: differs from it sample by sample (p after Holm
    below .05); hollow: does not, or was not tested. Figures that no group has measured are left
    out.

    Args:
        comparison: as `Comparison.to_json` returns it.

    Raises:
        InputError: when nothing was measured.
        MachineError: when matplotlib is not installed.
    """
    groups = comparison["groups"]
    every = dict.fromkeys(figure for group in groups for figure in group["figures"])
    shown = [f for f in every if any(_spread(group, f)["mean"] is not None for group in groups)]
    if not shown:
        raise InputError("plot", "a comparison without any figure", "evaluated runs", REMEDY)
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    with styled():
        lines = max(name_of(group["name"], WIDTH).count("\n") + 1 for group in groups)
        height = 0.55 + len(groups) * (0.1 + 0.15 * lines)
        figure, panels = panels_of(rows, columns, 2.6, height, sharey=True)
        every_panel = list(chain(*panels))
        for panel, name in zip(every_panel, shown, strict=False):
            panel.set_title(name_of(name, 36), fontsize=8.5)
            for y, group in enumerate(groups):
                _dot(panel, y, group, name, group["name"] == comparison["reference"])
            panel.locator_params(axis="x", nbins=4)
        for panel in every_panel[len(shown) :]:
            panel.set_visible(False)
        first = every_panel[0]
        name_rows(first, [group["name"] for group in groups])
        first.plot([], [], "o", color=COLOURS[0], label="differs from the reference")
        first.plot([], [], "o", color=COLOURS[0], mfc="white", label="does not, or not tested")
        first.plot([], [], "--", color=GREY, label=name_of(comparison["reference"], 40))
        legend(figure, [first], "mean over seeds, with their standard deviation")
    return figure


def _dot(panel: Axes, y: int, group: Mapping[str, Any], figure: str, reference: bool) -> None:
    found = _spread(group, figure)
    if found["mean"] is None:
        missing_row(panel, y)
        return
    p = {d["figure"]: d["p_holm"] for d in group["differences"]}.get(figure)
    filled = p is not None and p < LEVEL
    colour = "black" if reference else COLOURS[0]
    panel.errorbar(
        found["mean"],
        y,
        xerr=found["sd"],
        fmt="o",
        color=colour,
        mfc=colour if filled or reference else "white",
    )
    if reference:
        panel.axvline(found["mean"], color=GREY, linestyle="--", linewidth=1.0, zorder=1)


def _spread(group: Mapping[str, Any], figure: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = group["figures"].get(figure, {"mean": None})
    return found

"""What every figure shares: the style, panels, rows, what is missing, and the file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fli2moe.errors import InputError, MachineError, one_line
from fli2moe.files import complete_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""For colour-blind readers, too (Okabe & Ito 2008); black and grey stand beside them."""
MARKERS = "osD^vP"
GREY = "#707070"
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#e2e2e2",
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "errorbar.capsize": 2.0,
    "legend.frameon": False,
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.hashsalt": "fli2moe",  # else identifiers are drawn at random
}
FORMATS: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Creator": None, "Date": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
"""{suffix: metadata left out of the file, which tell when and by which version it was made}."""
_DPI = 150
WIDTH = 28  # characters of a row's name in one line
REMEDY = "run `fli2moe evaluate` with this part"


def can_plot() -> bool:
    """Returns whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, SVG or PDF, complete or not at all; the same figure, the same bytes.

    Args:
        figure: of this module.
        path: the file, whose suffix names the format.

    Raises:
        InputError: for another suffix.
        MachineError: when the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        expected = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(str(path), f"a figure as {path.suffix or 'nothing'!r}", expected)
    with styled(), complete_file(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=FORMATS[kind], dpi=_DPI)


def panels_of(
    rows: int,
    columns: int,
    width: float,
    height: float,
    *,
    sharex: bool = False,
    sharey: bool | Literal["row"] = False,
) -> tuple[Figure, list[list[Axes]]]:
    """Returns a figure and its rows of panels, each about width x height inches."""
    from matplotlib.figure import Figure

    size = (columns * width + 1.2, rows * height + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    return figure, panels.tolist()


def name_rows(panel: Axes, names: Sequence[str]) -> None:
    """Names the rows, the first at the top."""
    panel.set_yticks(range(len(names)), [name_of(name, WIDTH) for name in names])
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False, axis="y")


def missing(panel: Axes, x: float) -> None:
    """Says at one place of the horizontal axis that nothing was measured."""
    where = panel.get_xaxis_transform()
    panel.text(x, 0.04, "n/a", transform=where, ha="center", color=GREY, fontsize=8)


def missing_row(panel: Axes, y: float) -> None:
    """Says in one row that nothing was measured."""
    where = panel.get_yaxis_transform()
    panel.text(0.5, y, "n/a", transform=where, ha="center", va="center", color=GREY, fontsize=8)


def legend(figure: Figure, panels: Iterable[Axes], title: str | None = None) -> None:
    """Draws one legend for all panels, below them, in as many columns as there is room for."""
    entries: dict[str, Any] = {}
    for panel in panels:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    if not entries:
        return
    widest = 0.75 + 0.075 * max(len(name) for name in entries)  # inches
    columns = min(len(entries), max(1, int(figure.get_figwidth() / widest)))
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=columns,
        title=title,
        title_fontsize=9,
    )


def name_of(text: str, width: int) -> str:
    """Returns a name with control characters made visible, broken where it is too wide."""
    return textwrap.fill(one_line(text), width)


@contextmanager
def styled() -> Iterator[None]:
    """Holds matplotlib's defaults and our style while a figure is made or saved."""
    check_installed()
    from matplotlib import style

    with style.context(["default", _STYLE]):
        yield


def check_installed() -> None:
    """Raises MachineError when matplotlib is not installed."""
    if not can_plot():
        remedy = 'pip install "fli2moe[plot]"'
        raise MachineError("package:matplotlib", "is not installed", "", remedy)

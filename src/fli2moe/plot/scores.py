"""Pair scores as a heat map, and their error against the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fli2moe.errors import InputError, one_line, unknown_name
from fli2moe.explain.scores import PairScores
from fli2moe.plot.drawing import COLOURS, MARKERS, check_installed, legend, panels_of, styled
from fli2moe.plot.fonts import drawable, fonts_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 0.24  # inches
MOST = 60  # players of a side


def plot_pair_scores(
    scores: PairScores, *, head: str | None = None, modalities: tuple[str, str] | None = None
) -> Figure:
    """Draws cross-modal pair scores as a heat map; a pair that was never sampled is hatched.

    Args:
        scores: of any index.
        head: whose; the first by default.
        modalities: those of the rows and of the columns; the first two by default. Of a side with
            more than 60 players those with the largest |value| are shown.

    Raises:
        InputError: when there is no such head or modality, or no pair between them.
        MachineError: when matplotlib is not installed.
    """
    found = list(dict.fromkeys(p.modality for p in scores.players))
    down, across = modalities or (*found, "", "")[:2]
    for name in (down, across):
        if name not in found:
            raise unknown_name("plot", "modality", name, found)
    own = scores.for_head(head or (scores.heads[0] if len(scores) else ""))
    check_installed()
    rows, columns = (
        [i for i, p in enumerate(scores.players) if p.modality == m] for m in (down, across)
    )
    table = np.full((len(scores.players), len(scores.players)), np.nan)
    table[own.first, own.second] = table[own.second, own.first] = own.value
    table = table[np.ix_(rows, columns)]
    if np.isnan(table).all():
        where = f"plot: {down} and {across}"
        raise InputError(where, "no pair was scored", "scores of pairs between them")
    keep = [np.sort(_strongest(table, axis)) for axis in (1, 0)]
    table = table[np.ix_(*keep)]
    names = [
        [one_line(str(scores.players[side[k]])) for k in kept]
        for side, kept in zip((rows, columns), keep, strict=True)
    ]
    families = fonts_for("".join(name for side in names for name in side))
    with styled():
        height, width = (max(1.2, CELL * size) for size in table.shape)
        figure, panels = panels_of(1, 1, width + 1.6, height + 1.2)
        panel = panels[0][0]
        limit = float(np.nanmax(np.abs(table))) or 1.0
        panel.set_facecolor("#e8e8e8")
        panel.patch.set_hatch("///")
        drawn = panel.imshow(table, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        for axis, labels in zip((panel.yaxis, panel.xaxis), names, strict=True):
            shown = [drawable(label, families) for label in labels]
            axis.set_ticks(range(len(labels)), shown, fontfamily=families, fontsize=7)
        panel.tick_params(axis="x", rotation=90)
        panel.grid(visible=False)
        panel.set_title(f"{scores.index.replace('_', ' ')}, {own.heads[0]}")
        figure.colorbar(drawn, ax=panel, label="units of the score")
    return figure


def plot_error(estimates: Mapping[str, Sequence[PairScores]], *, head: str | None = None) -> Figure:
    """Draws the median standard error of the pairs against the evaluations they took.

    Args:
        estimates: {name: estimates of the same pairs with several budgets}; the settings of each
            say how many evaluations it took.
        head: whose; the first by default.

    Raises:
        InputError: when there is nothing to draw, or an estimate does not say what it took.
        MachineError: when matplotlib is not installed.
    """
    if not any(estimates.values()):
        raise InputError("plot", "no estimates", "estimates with several budgets")
    points: dict[str, list[tuple[float, float]]] = {}
    for name, found in estimates.items():
        for scores in found:
            took = scores.settings.get("evaluations")
            if took is None:
                expected = "settings with `evaluations`"
                raise InputError(f"plot: {name}", "an estimate without its cost", expected)
            error = scores.for_head(head or scores.heads[0]).standard_error
            known = error[~np.isnan(error)]
            if len(known):
                points.setdefault(name, []).append((float(took), float(np.median(known))))
    check_installed()
    with styled():
        figure, panels = panels_of(1, 1, 4.2, 2.8)
        panel = panels[0][0]
        for n, (name, line) in enumerate(points.items()):
            x, y = zip(*sorted(line), strict=True)
            colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]
            panel.plot(x, y, f"-{marker}", color=colour, label=one_line(name))
        panel.set_xscale("log")
        if all(y > 0 for line in points.values() for _, y in line):
            panel.set_yscale("log")
        panel.set_xlabel("model evaluations")
        panel.set_ylabel("median standard error")
        legend(figure, [panel])
    return figure


def _strongest(table: np.ndarray, axis: int) -> np.ndarray:
    """The rows (axis 1) or columns (axis 0) with the largest values, at most `MOST`."""
    size = np.nan_to_num(np.abs(table)).max(axis=axis)
    found: np.ndarray = np.argsort(-size, kind="stable")[:MOST]
    return found

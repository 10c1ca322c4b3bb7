"""Figures of `metrics.json`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, cycle
from typing import TYPE_CHECKING, Any

from fli2moe.errors import InputError
from fli2moe.plot.drawing import (
    COLOURS,
    GREY,
    MARKERS,
    REMEDY,
    check_installed,
    legend,
    missing,
    missing_row,
    name_of,
    name_rows,
    panels_of,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HALF = 1.96  # standard errors: half a 95% interval
_HIDDEN = {
    "ranked": "top pairs",
    "random_pairs": "random pairs",
    "same_players": "random players, as many",
    "top_players": "top players, as many",
}
_ORDERS = {"main": "main effects", "pairs": "pairs", "higher": "higher orders"}


def metric_figures(metrics: Mapping[str, Any]) -> dict[str, Figure]:
    """Returns {section: figure} of all sections of `metrics.json` that were measured (`PLOTS`).

    Raises:
        MachineError: when matplotlib is not installed.
    """
    check_installed()
    figures = {}
    for section, plot in PLOTS.items():
        with suppress(InputError):  # not measured
            figures[section] = plot(metrics)
    return figures


def plot_faithfulness(metrics: Mapping[str, Any]) -> Figure:
    """Draws comprehensiveness and sufficiency of the mixture over K, a column per modality.

    Solid lines are players that a method identified, dashed ones of its colour random players.

    Args:
        metrics: of `evaluate`.

    Raises:
        InputError: when faithfulness was not measured.
        MachineError: when matplotlib is not installed.
    """
    section = metrics.get("faithfulness", {})
    methods = {name: found for name, found in section.items() if isinstance(found, Mapping)}
    modalities = list(dict.fromkeys(m for found in methods.values() for m in found))
    if not modalities:
        raise _not_measured("faithfulness")
    curves = {
        "comprehensiveness": "drop of p, top K% hidden\n(higher is better)",
        "sufficiency": "drop of p, only top K% kept\n(lower is better)",
    }
    with styled():
        figure, panels = panels_of(2, len(modalities), 3.1, 2.3, sharex=True, sharey="row")
        for row, (kind, axis) in enumerate(curves.items()):
            for panel, modality in zip(panels[row], modalities, strict=True):
                colours = cycle(COLOURS)
                for (method, found), colour in zip(methods.items(), colours, strict=False):
                    own = GREY if method == "random" else colour
                    if modality in found:
                        _curve(panel, section["percents"], found[modality], kind, method, own)
                panel.set_title(name_of(f"{modality}: {kind}", 40))
                panel.set_xticks(section["percents"])
            panels[row][0].set_ylabel(axis)
        for panel in panels[-1]:
            panel.set_xlabel("K, % of the modality's players")
        panels[0][0].plot([], [], "--", color="black", linewidth=1.0, label="random players")
        legend(figure, chain(*panels))
    return figure


def _curve(
    panel: Axes,
    percents: Sequence[float],
    found: Mapping[str, Any],
    kind: str,
    method: str,
    colour: str,
) -> None:
    name = name_of(method, 40)
    panel.plot(percents, found[kind], "-o", color=colour, markersize=3.5, label=name)
    panel.plot(percents, found[f"random_{kind}"], "--", color=colour, linewidth=1.0)


def plot_pair_masking(metrics: Mapping[str, Any]) -> Figure:
    """Draws what hiding the top m pairs does, against the controls; a column per ranking.

    Above: falls of the score of the head that ranked, with 95% intervals (1.96 standard errors).
    Below: the comparison that decides, with edge-swapped pairs, with its bootstrap interval and
    its p value adjusted by Holm.

    Args:
        metrics: of `evaluate`.

    Raises:
        InputError: when pair masking was not measured.
        MachineError: when matplotlib is not installed.
    """
    section = metrics.get("pair_masking", {})
    drops = section.get("drops", ())
    rankings = list(dict.fromkeys((entry["kind"], entry["head"]) for entry in drops))
    if not rankings:
        raise _not_measured("pair_masking")
    with styled():
        figure, panels = panels_of(2, len(rankings), 2.9, 2.3)
        for (kind, head), above, below in zip(rankings, *panels, strict=True):
            above.set_title(name_of(f"{kind} pairs, ranked on {head}", 34))
            _drops(above, [e for e in drops if (e["kind"], e["head"]) == (kind, head)])
            own = [
                e
                for e in section["primary"]
                if (e["kind"], e["head"]) == (kind, head) and e.get("pairs", "top") == "top"
            ]
            _contrasts(below, own)
        panels[0][0].set_ylabel("fall of the score")
        panels[1][0].set_ylabel("interaction or gap,\ntop minus edge-swapped")
        legend(figure, chain(*panels))
    return figure


def _drops(panel: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    """One series of intervals per control, side by side."""
    counts = _counts(panel, entries)
    marks = zip(_HIDDEN.items(), (COLOURS[0], GREY, *COLOURS[1:]), MARKERS, strict=False)
    for n, ((control, name), colour, marker) in enumerate(marks):
        shift = (n - (len(_HIDDEN) - 1) / 2) * 0.17
        kept = [entry for entry in entries if entry[control]["score"]["mean"] is not None]
        panel.errorbar(
            [counts.index(entry["m"]) + shift for entry in kept],
            [entry[control]["score"]["mean"] for entry in kept],
            [_half(entry[control]["score"]) for entry in kept],
            fmt=marker,
            color=colour,
            label=name,
        )
    for entry in entries:
        if entry["ranked"]["score"]["mean"] is None:
            missing(panel, counts.index(entry["m"]))
    panel.axhline(0.0, color="black", linewidth=0.8, zorder=1)


def _contrasts(panel: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    counts = _counts(panel, entries)
    panel.set_xlabel("m, top pairs; p after Holm")
    panel.margins(y=0.3)  # room for the p values
    for entry in entries:
        x, mean = counts.index(entry["m"]), entry["mean"]
        if mean is None:
            missing(panel, x)
            continue
        low, high = entry["interval"] or (mean, mean)
        panel.errorbar(x, mean, [[mean - low], [high - mean]], fmt="o", color=COLOURS[0])
        p = entry["p_holm"]
        text = "p n/a" if p is None else "p < .001" if p < 0.0005 else f"p {p:.3f}"
        panel.annotate(text, (x, high), (0, 3), textcoords="offset points", ha="center", fontsize=8)
    panel.axhline(0.0, color="black", linewidth=0.8, zorder=1)


def _counts(panel: Axes, entries: Sequence[Mapping[str, Any]]) -> list[int]:
    """The m of entries, evenly spaced on the panel."""
    counts = sorted({entry["m"] for entry in entries})
    panel.set_xticks(range(len(counts)), [str(m) for m in counts])
    panel.set_xlim(-0.5, len(counts) - 0.5)
    return counts


def plot_expert_weights(metrics: Mapping[str, Any]) -> Figure:
    """Draws each expert's mean router weight and mean share of the output; lines are sd.

    Args:
        metrics: of `evaluate`.

    Raises:
        InputError: when there are no experts in it.
        MachineError: when matplotlib is not installed.
    """
    experts = metrics.get("experts", {})
    if not experts:
        raise _not_measured("experts")
    bars = {"weight": "router weight", "share": "share of output, |weight x score|"}
    with styled():
        figure, panels = panels_of(1, 1, 5.2, 0.9 + 0.48 * len(experts))
        panel = panels[0][0]
        for (key, name), colour, shift in zip(bars.items(), COLOURS, (-0.19, 0.19), strict=False):
            panel.barh(
                [y + shift for y in range(len(experts))],
                [found[key] for found in experts.values()],
                0.34,
                xerr=[found[f"{key}_sd"] for found in experts.values()],
                color=colour,
                ecolor="black",
                error_kw={"elinewidth": 0.9},
                label=name,
            )
        name_rows(panel, list(experts))
        panel.set_xlim(left=0.0)
        panel.set_xlabel("mean over test samples, with their standard deviation")
        legend(figure, [panel])
    return figure


def plot_interaction_share(metrics: Mapping[str, Any]) -> Figure:
    """Draws the shares of each head's variance by order, with 95% intervals (1.96 errors).

    Args:
        metrics: of `evaluate`.

    Raises:
        InputError: when the shares were not measured.
        MachineError: when matplotlib is not installed.
    """
    section = metrics.get("interaction_share", {})
    heads = {head: found for head, found in section.items() if "standard_error" in found}
    if not heads:
        raise _not_measured("interaction_share")
    orders = section.get("orders", {})
    with styled():
        figure, panels = panels_of(1, 1, 5.2, 0.9 + 0.48 * len(heads))
        panel = panels[0][0]
        series = {"all interactions": list(heads.values())}
        series |= {
            name: [orders.get(head, {}).get(order) for head in heads]
            for order, name in _ORDERS.items()
        }
        marks = zip(series.items(), ("black", *COLOURS), MARKERS, strict=False)
        for n, ((name, found), colour, marker) in enumerate(marks):
            kept = [(y, f) for y, f in enumerate(found) if f and f["mean"] is not None]
            if not kept:
                continue
            panel.errorbar(
                [f["mean"] for _, f in kept],
                [y + (n - 1.5) * 0.17 for y, _ in kept],
                xerr=[_half(f) for _, f in kept],
                fmt=marker,
                color=colour,
                label=name,
            )
        name_rows(panel, list(heads))
        for y, found in enumerate(heads.values()):
            if found["mean"] is None:
                missing_row(panel, y)
        panel.axvline(0.0, color="black", linewidth=0.8, zorder=1)
        panel.set_xlabel("share of the variance of v(S)")
        legend(figure, [panel])
    return figure


def _half(found: Mapping[str, Any]) -> float:
    """Half the interval of a mean; NaN, which draws none, where its error is not defined."""
    error = found["standard_error"]
    return math.nan if error is None else _HALF * float(error)


def _not_measured(section: str) -> InputError:
    return InputError("plot", f"no figures of {section}", "an evaluated run", REMEDY)


PLOTS: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
    "interaction_share": plot_interaction_share,
    "experts": plot_expert_weights,
    "faithfulness": plot_faithfulness,
    "pair_masking": plot_pair_masking,
}
"""Sections of `metrics.json` that there are figures of."""

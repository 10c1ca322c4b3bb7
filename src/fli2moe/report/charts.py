"""Charts as inline SVG: they need no script, follow the page's theme, and print.

Series are told apart by colour and by form (dashes, markers, hatching): one sees them without
colours too. The numbers stand in the page's tables; a chart's label says what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 40
ROW = 24  # height of a bar with its gap
NAMES = 130  # width of the names beside bars
LONGEST = 22  # characters of such a name
STYLES = 6  # as many are told apart


@dataclass(frozen=True)
class Series:
    """Values that belong together.

    Attributes:
        name: for the legend.
        values: one for each place on the horizontal axis; None where nothing was measured.
        style: which colour and form, from 0.
        control: drawn dashed and thin.
        errors: half the length of each value's interval; None for none.
    """

    name: str
    values: Sequence[float | None]
    style: int
    control: bool = False
    errors: Sequence[float | None] | None = None


@dataclass(frozen=True)
class Chart:
    """One chart, ready to print.

    Attributes:
        title: its caption.
        picture: the SVG.
        legend: (picture of its key, name), in order.
        note: what a reader must know.
    """

    title: str
    picture: Markup
    legend: Sequence[tuple[Markup, str]] = ()
    note: str = ""


def line_chart(
    title: str,
    places: Sequence[str],
    series: Sequence[Series],
    *,
    across: str,
    up: str,
    note: str = "",
    joined: bool = True,
) -> Chart:
    """Draws series over places of a horizontal axis.

    Args:
        title: caption.
        places: names of the places, evenly spaced.
        series: each with a value for each place.
        across: name of the horizontal axis.
        up: name of the vertical axis.
        note: what a reader must know.
        joined: draw lines; else series stand side by side as points with intervals.
    """
    shown = [_extent(s) for s in series]
    low = min((lo for lo, _ in shown), default=0.0)
    high = max((hi for _, hi in shown), default=0.0)
    marks = ticks(min(low, 0.0), max(high, 0.0))
    low, high = marks[0], marks[-1]

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    step = (WIDTH - LEFT - RIGHT) / len(places)
    middle = [LEFT + step * (k + 0.5) for k in range(len(places))]
    body = [_grid(y(mark), _figure(mark), zero=mark == 0) for mark in marks]
    body += [
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            x, HEIGHT - BOTTOM + 16, name
        )
        for x, name in zip(middle, places, strict=True)
    ]
    spread = 0.0 if joined else min(14.0, 0.7 * step / max(1, len(series)))
    for k, one in enumerate(series):
        shift = (k - (len(series) - 1) / 2) * spread
        points = [
            (x + shift, y(v), None if e is None else abs(y(v) - y(v + e)))
            for x, v, e in zip(middle, one.values, one.errors or [None] * len(places), strict=True)
            if v is not None
        ]
        body.append(_series(one, points, joined))
    body.append(
        Markup('<text class="axis" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, across
        )
    )
    body.append(
        Markup('<text class="axis" transform="translate(12 {:.1f}) rotate(-90)" ').format(
            (TOP + HEIGHT - BOTTOM) / 2
        )
        + Markup('text-anchor="middle">{}</text>').format(up)
    )
    legend = tuple((_key(s, joined), s.name) for s in series)
    return Chart(title, _svg(title, HEIGHT, body), legend, note)


def stacked_bars(
    title: str, rows: Mapping[str, Mapping[str, float | None]], *, note: str = ""
) -> Chart:
    """Draws a bar for each row, cut into parts; a row without values says `n/a`.

    Args:
        title: caption.
        rows: {name: {part: value from 0}}; the same parts in all of them.
        note: what a reader must know.
    """
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    height = TOP + ROW * len(rows) + 8
    longest = max((sum(v or 0.0 for v in row.values()) for row in rows.values()), default=0.0) or 1
    body = []
    for r, (name, row) in enumerate(rows.items()):
        top, x = TOP + ROW * r, float(NAMES)
        said = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
        body.append(
            Markup(
                '<text class="tick" x="{}" y="{}" text-anchor="end"><title>{}</title>{}</text>'
            ).format(NAMES - 8, top + 13, name, said)
        )
        if all(value is None for value in row.values()):
            body.append(
                Markup('<text class="tick" x="{}" y="{}">n/a</text>').format(NAMES, top + 13)
            )
        for k, part in enumerate(parts):
            value = row.get(part)
            if value is None:
                continue
            width = (WIDTH - NAMES - RIGHT) * value / longest
            body.append(
                Markup(
                    '<rect class="bar-part style-{}" x="{:.1f}" y="{}" width="{:.1f}" '
                    'height="16"><title>{}, {}: {}</title></rect>'
                ).format(k % STYLES, x, top, max(0.0, width - 1), name, part, _figure(value))
            )
            x += width
    block = Markup('<rect class="bar-part style-{}" x="4" width="18" height="12"/>')
    legend = tuple((block.format(k % STYLES), part) for k, part in enumerate(parts))
    return Chart(title, _svg(title, height, body), legend, note)


def ticks(low: float, high: float) -> list[float]:
    """Returns round places of an axis from at most `low` to at least `high`, four to eight."""
    if not high > low:
        high = low + 1.0
    power = math.floor(math.log10((high - low) / 4))
    steps = [m * 10.0**p for p in (power, power + 1) for m in (1, 2, 5)]
    step = next(s for s in steps if math.ceil(high / s) - math.floor(low / s) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [k * step for k in range(first, last + 1)]


def _extent(series: Series) -> tuple[float, float]:
    errors = series.errors or [None] * len(series.values)
    found = [(v, e or 0.0) for v, e in zip(series.values, errors, strict=True) if v is not None]
    if not found:
        return 0.0, 0.0
    return min(v - e for v, e in found), max(v + e for v, e in found)


def _grid(y: float, name: str, *, zero: bool) -> Markup:
    line = Markup('<line class="{}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
        "zero" if zero else "grid", LEFT, WIDTH - RIGHT, y, y
    )
    return line + Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
        LEFT - 6, y + 4, name
    )


def _series(
    series: Series, points: Sequence[tuple[float, float, float | None]], joined: bool
) -> Markup:
    drawn = Markup("")
    if joined and len(points) > 1:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        drawn += Markup('<polyline points="{}"/>').format(line)
    for x, y, error in points:
        if error is not None:
            drawn += Markup('<line x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>').format(
                x, y - error, y + error
            )
        if not series.control:
            drawn += _marker(series.style, x, y)
    return Markup('<g class="series {}">{}</g>').format(_class(series), drawn)


def _marker(style: int, x: float, y: float) -> Markup:
    """A disc, a square, a diamond, a triangle, and the first two again, hollow."""
    kind = style % STYLES
    hollow = Markup(' class="hollow"') if kind > 3 else Markup("")
    if kind in (0, 4):
        return Markup('<circle{} cx="{:.1f}" cy="{:.1f}" r="3.4"/>').format(hollow, x, y)
    corners = {
        1: ((-3, -3), (3, -3), (3, 3), (-3, 3)),
        2: ((0, -4), (4, 0), (0, 4), (-4, 0)),
        3: ((0, -4), (4, 3), (-4, 3)),
    }[kind if kind < 4 else 1]
    points = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)
    return Markup('<polygon{} points="{}"/>').format(hollow, points)


def _key(series: Series, joined: bool) -> Markup:
    line = Markup('<polyline points="1,6 25,6"/>') if joined else Markup("")
    marker = Markup("") if series.control else _marker(series.style, 13, 6)
    return Markup('<g class="series {}">{}{}</g>').format(_class(series), line, marker)


def _class(series: Series) -> str:
    return f"style-{series.style % STYLES}{' control' if series.control else ''}"


def _svg(title: str, height: int, body: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, height, escape(title), Markup("").join(body))


def _figure(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")

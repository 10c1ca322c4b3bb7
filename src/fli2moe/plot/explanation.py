"""One explanation as a picture for a paper: text above, pictures below, pairs as lines."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fli2moe.data.sample import Sample
from fli2moe.display import places
from fli2moe.display.notable import notable_pairs
from fli2moe.display.wording import doubt
from fli2moe.encoders.images import open_picture
from fli2moe.errors import InputError, one_line, unknown_name
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.scores import Pair
from fli2moe.plot.drawing import check_installed, styled
from fli2moe.plot.fonts import drawable, fonts_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAT = "#7e57c2"
COLOUR = {"synergy": "#1a5fc4", "redundancy": "#b9540a"}
LINE: dict[str, dict[str, Any]] = {
    "synergy": {"linestyle": "-", "marker": "o", "markerfacecolor": COLOUR["synergy"]},
    "redundancy": {"linestyle": (0, (4, 3)), "marker": "o", "markerfacecolor": "white"},
}
NAMES = {"synergy": "synergy: only together", "redundancy": "redundancy: the same twice"}
POINT = 1 / 72  # inches
SIZE = 12.0  # of the text, in points
LINE_HEIGHT = 0.29  # inches
SIDE = 2.6  # inches of a picture's longest side
LETTER = 0.078  # inches of a letter in the list of pairs
GAP = 0.55  # inches between text and pictures, where the lines run
LONGEST_SIDE = 1024  # pixels of a drawn picture


_Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in inches from the upper left corner."""


def plot_explanation(
    explanation: Explanation,
    *,
    kinds: Sequence[str] = ("synergy", "redundancy"),
    k: int = 3,
    head: str | None = None,
    width: float = 6.5,
) -> Figure:
    """Draws the inputs, shaded by importance, and lines between the strongest pairs.

    A tinted word and a picture part in full light matter more (from the weakest part of each input
    to its strongest). Synergy is a solid line with dots, redundancy a dashed one with rings. Pairs
    that cannot be told from nothing are not drawn. Right-to-left text is drawn in reading order
    from the left, as the drawing library does not turn it.

    Args:
        explanation: of one sample; a picture whose file is gone is an empty box.
        kinds: which pairs: `synergy`, `redundancy`.
        k: at most so many pairs of each kind.
        head: whose importance and pairs; the mixture's by default.
        width: of the figure in inches.

    Raises:
        InputError: for an unknown kind or head.
        MachineError: when matplotlib is not installed.
    """
    head = head or explanation.heads[0]
    if head not in explanation.heads:
        raise unknown_name("plot", "head", head, explanation.heads)
    for kind in kinds:
        if kind not in COLOUR:
            raise unknown_name("plot", "kind of pairs", kind, COLOUR)
    check_installed()
    found = {kind: notable_pairs(explanation, kind, k, head) for kind in kinds}
    sample = places.sample_of(explanation)
    layout = places.layout_of(explanation)
    names = places.modalities_of(explanation)
    kind_of = {m: places.kind_of(m, explanation, sample) for m in names}
    weights = {m: places.display_weights(explanation, m, layout, head) for m in names}
    with styled():
        from matplotlib.figure import Figure

        canvas = _Canvas(width)
        for m in names:
            if kind_of[m] != "image":
                canvas.write(m, explanation, layout, weights[m], text=kind_of[m] == "text")
        pictures = [m for m in names if kind_of[m] == "image"]
        canvas.show(pictures, explanation, layout, weights)
        rows = [(kind, pair, key) for kind in kinds for pair, key in found[kind]]
        canvas.list_pairs(rows, explanation, sample)
        figure = Figure(figsize=(width, canvas.y + 0.1))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, width)
        axes.set_ylim(canvas.y + 0.1, 0)
        axes.axis("off")
        for draw in canvas.later:
            draw(axes)
        for rank, (kind, pair, _) in enumerate(rows, start=1):
            _join(axes, kind, rank, pair, explanation, canvas.spots)
    return figure


class _Canvas:
    """Lays out from top to bottom, in inches, and keeps what is to be drawn."""

    def __init__(self, width: float) -> None:
        self.width, self.y = width, 0.12
        self.spots: dict[tuple[str, int], list[_Box]] = {}  # of each (modality, token)
        self.later: list[Any] = []

    def write(
        self,
        modality: str,
        explanation: Explanation,
        layout: places.Layout,
        weights: Mapping[int, float],
        *,
        text: bool,
    ) -> None:
        """Sets a text word by word, or a vector as a strip of cells."""
        self._caption(modality)
        own = layout.of(modality)
        if not text:
            step = min(0.24, (self.width - 0.3) / max(1, len(own)))
            for n, (_, part, player) in enumerate(own):
                box = (0.15 + n * step, self.y, 0.13 + (n + 1) * step, self.y + 0.3)
                self._tint(box, 0.05 + 0.75 * weights.get(part, 0.0))
                self._own(player.tokens, modality, box)
            self.y += 0.3 + GAP
            return
        raw = explanation.inputs.get(modality, "")
        unseen = explanation.unseen.get(modality, ())
        families = fonts_for(raw)
        x = 0.15
        for piece, _, part, flags in places.pieces(raw, own, unseen, ()):
            for word in _words(piece):
                length = _length(drawable(word, families), families)
                if x + length > self.width - 0.15 and x > 0.15:
                    x, self.y = 0.15, self.y + LINE_HEIGHT
                if not word.strip():
                    x += length if x > 0.15 else 0.0
                    continue
                box = (x, self.y + 0.02, x + length, self.y + LINE_HEIGHT - 0.04)
                if part >= 0:
                    self._tint(box, 0.6 * weights.get(part, 0.0))
                    self._own(layout.parts[part].tokens, modality, box)
                self._text(x, box, drawable(word, families), families, flags & places.UNSEEN)
                x += length
        self.y += LINE_HEIGHT + GAP

    def show(
        self,
        modalities: Sequence[str],
        explanation: Explanation,
        layout: places.Layout,
        weights: Mapping[str, Mapping[int, float]],
    ) -> None:
        """Sets the pictures side by side, veiled where they matter less."""
        if not modalities:
            self.y -= GAP - 0.1
            return
        room = (self.width - 0.3) / len(modalities)
        bottom = self.y
        for n, m in enumerate(modalities):
            w, h = explanation.sizes[m]
            scale = min(SIDE, room - 0.2) / max(w, h)
            left = 0.15 + n * room + (room - w * scale) / 2
            frame = (left, self.y, left + w * scale, self.y + h * scale)
            self._picture(explanation.inputs.get(m, ""), frame)
            for _, part, player in layout.of(m):
                for x0, y0, x1, y1 in player.spans:
                    box = (
                        left + x0 * scale,
                        self.y + y0 * scale,
                        left + x1 * scale,
                        self.y + y1 * scale,
                    )
                    self._tint(box, 0.5 * (1 - weights[m].get(part, 0.0)), "#1e2030")
                    self._own(player.tokens, m, box)
            self._label(left + w * scale / 2, frame[3] + 0.16, one_line(m), centred=True)
            bottom = max(bottom, frame[3])
        self.y = bottom + 0.34

    def list_pairs(
        self, rows: Sequence[tuple[str, Pair, str]], explanation: Explanation, sample: Sample
    ) -> None:
        """Writes what the lines stand for, with values and errors."""
        said = explanation.probabilities[explanation.class_index]
        target = f"{one_line(explanation.target)}: probability {said:.3f}"
        self._label(0.15, self.y + 0.05, target)
        self.y += 0.24
        if not rows:
            self._label(0.15, self.y + 0.05, "no pair stands out from chance")
            self.y += 0.22
        for rank, (kind, pair, key) in enumerate(rows, start=1):
            names = (
                places.name_in_words(p, explanation, sample) for p in (pair.first, pair.second)
            )
            line = f"{rank}  {one_line(' × '.join(names))}  {pair.amount}{doubt(key)}"
            for part in textwrap.wrap(line, int(self.width / LETTER), subsequent_indent="    "):
                self._label(0.15, self.y + 0.05, part, COLOUR[kind])
                self.y += 0.2
        for kind in dict.fromkeys(kind for kind, _, _ in rows):
            self._key(kind)

    def _caption(self, modality: str) -> None:
        self._label(0.15, self.y + 0.08, one_line(modality))
        self.y += 0.22

    def _own(self, tokens: Sequence[int], modality: str, box: _Box) -> None:
        for token in tokens:
            self.spots.setdefault((modality, token), []).append(box)

    def _tint(self, box: _Box, alpha: float, colour: str = HEAT) -> None:
        def draw(axes: Axes) -> None:
            from matplotlib.patches import Rectangle

            x0, y0, x1, y1 = box
            axes.add_patch(
                Rectangle((x0, y0), x1 - x0, y1 - y0, color=colour, alpha=alpha, linewidth=0)
            )

        self.later.append(draw)

    def _text(
        self,
        x: float,
        box: _Box,
        word: str,
        families: Sequence[str],
        unseen: int,
    ) -> None:
        middle, baseline = (box[1] + box[3]) / 2, box[3] - 0.055

        def draw(axes: Axes) -> None:
            colour = "#909090" if unseen else "black"
            axes.text(
                x,
                baseline,
                word,
                fontfamily=list(families),
                fontsize=SIZE,
                color=colour,
                va="baseline",
            )
            if unseen:
                axes.plot([box[0], box[2]], [middle, middle], color=colour, linewidth=0.8)

        self.later.append(draw)

    def _label(
        self, x: float, y: float, text: str, colour: str = "#404040", *, centred: bool = False
    ) -> None:
        families = fonts_for(text)
        shown = drawable(text, families)

        def draw(axes: Axes) -> None:
            axes.text(
                x, y, shown, fontfamily=families, fontsize=9, color=colour, va="center",
                ha="center" if centred else "left",
            )  # fmt: skip

        self.later.append(draw)

    def _picture(self, path: str, frame: _Box) -> None:
        x0, y0, x1, y1 = frame
        try:
            picture = open_picture(path)
        except InputError:
            self._label((x0 + x1) / 2, (y0 + y1) / 2, "picture cannot be read", centred=True)
            return
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        pixels = np.asarray(picture)

        def draw(axes: Axes) -> None:
            smooth = "nearest" if max(pixels.shape[:2]) <= 200 else "antialiased"
            axes.imshow(pixels, extent=(x0, x1, y1, y0), interpolation=smooth, aspect="auto")

        self.later.append(draw)

    def _key(self, kind: str) -> None:
        y = self.y + 0.05

        def draw(axes: Axes) -> None:
            axes.plot([0.18, 0.5], [y, y], color=COLOUR[kind], linewidth=1.6, **LINE[kind])

        self.later.append(draw)
        self._label(0.6, y, NAMES[kind])
        self.y += 0.2


def _words(text: str) -> list[str]:
    """A text in words and the spaces between them; every line break is a space."""
    found: list[str] = []
    for c in text:
        c = " " if c.isspace() else c
        if found and (found[-1] == " ") == (c == " "):
            found[-1] += c
        else:
            found.append(c)
        if found[-1].isspace():
            found[-1] = " "
    return [one_line(word) if word != " " else word for word in found]


def _length(text: str, families: Sequence[str]) -> float:
    """Inches that a text takes."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if text == " ":
        return 0.28 * SIZE * POINT
    font = FontProperties(family=list(families))
    drawn = TextPath((0, 0), text, size=SIZE, prop=font)
    return float(drawn.get_extents().x1) * POINT + 0.015


def _join(
    axes: Axes,
    kind: str,
    rank: int,
    pair: Pair,
    explanation: Explanation,
    spots: Mapping[tuple[str, int], list[_Box]],
) -> None:
    """Draws the line of a pair, from edge to edge where one is above the other."""
    boxes = [
        [box for token in player.tokens for box in spots.get((player.modality, token), ())]
        for player in (pair.first, pair.second)
    ]
    if not all(boxes):
        return
    one, other = (_around(found) for found in boxes)
    if one[3] > other[1] and one[1] > other[3]:
        one, other = other, one
    stacked = one[3] <= other[1] + 0.02
    start = ((one[0] + one[2]) / 2, one[3] if stacked else (one[1] + one[3]) / 2)
    end = ((other[0] + other[2]) / 2, (other[1] + other[3]) / 2)
    for box in (one, other):
        _outline(axes, kind, box)
    line = [[start[0], end[0]], [start[1], end[1]]]
    axes.plot(*line, color="white", linewidth=3.4, alpha=0.8, zorder=4)
    axes.plot(*line, color=COLOUR[kind], linewidth=1.6, markersize=5, zorder=5, **LINE[kind])
    t = 0.35 + 0.1 * ((rank - 1) % 3)
    x, y = (start[i] + t * (end[i] - start[i]) for i in (0, 1))
    axes.text(
        x, y, str(rank), fontsize=8, color="white", ha="center", va="center", zorder=6,
        bbox={"boxstyle": "circle,pad=0.22", "color": COLOUR[kind]},
    )  # fmt: skip


def _around(boxes: Sequence[tuple[float, ...]]) -> _Box:
    """The box around those on the first one's line; a group that goes on stays short."""
    first = [box for box in boxes if abs(box[1] - boxes[0][1]) < LINE_HEIGHT / 2]
    kept = first if len(first) < len(boxes) and boxes[0][3] - boxes[0][1] < LINE_HEIGHT else boxes
    x0, y0, x1, y1 = zip(*kept, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _outline(axes: Axes, kind: str, box: _Box) -> None:
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = box
    style = LINE[kind]["linestyle"]
    axes.add_patch(
        Rectangle(
            (x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=COLOUR[kind], linestyle=style,
            linewidth=1.4, zorder=3,
        )
    )  # fmt: skip

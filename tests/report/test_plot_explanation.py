"""Explanations as figures and in notebooks: complete, honest about doubt, safe with any text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_made import EVIL, grouped, shapes, text_only

from fli2moe.errors import InputError
from fli2moe.explain.explanation import Explanation
from fli2moe.plot import plot_error, plot_pair_scores, save_figure

pytest.importorskip("matplotlib")


@pytest.fixture
def made(tmp_path: Path) -> Explanation:
    return shapes(tmp_path)[0]


def lines_of(figure: object) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]  # type: ignore[attr-defined]


def test_words_and_pairs_with_errors_are_there(made: Explanation, tmp_path: Path):
    figure = made.plot()
    said = lines_of(figure)
    for word in ("red", "dog", "sunny", "garden"):
        assert word in said
    assert any(line.startswith("1  red × patch at the middle right  +1.84 ±") for line in said)
    assert "colour match: probability 0.973" in said
    save_figure(figure, tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50
    save_figure(made.plot(), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_kinds_k_and_head_choose(made: Explanation):
    said = lines_of(made.plot(kinds=["redundancy"], k=1))
    numbered = [line for line in said if re.match(r"\d  ", line)]
    assert len(numbered) == 1
    assert "sunny" in numbered[0]
    with pytest.raises(InputError, match=r"'mixtur'.*'mixture'"):
        made.plot(head="mixtur")
    with pytest.raises(InputError, match="'syn'"):
        made.plot(kinds=["syn"])
    assert "no pair stands out from chance" in lines_of(made.plot(head="unique_text"))


@pytest.mark.parametrize(
    "text",
    [
        "日本語 のテキスト",
        "שלום עולם",
        "naïve 😀 \U0001f9ff",
        "a\tb\nc\0d",
        "$x_1$ \\frac",
        "",
        EVIL,
    ],
)
def test_any_text_is_drawn_without_a_complaint(text: str, tmp_path: Path):
    explanation, _ = text_only(text)
    figure = explanation.plot()
    save_figure(figure, tmp_path / "text.png")
    assert (tmp_path / "text.png").stat().st_size > 1000


def test_a_lost_picture_is_an_empty_box(made: Explanation, tmp_path: Path):
    lost = replace(made, inputs={**made.inputs, "image": str(tmp_path / "gone.png")})
    assert "picture cannot be read" in lines_of(lost.plot())
    assert "cannot be shown" in lost._repr_html_()


def test_groups_are_outlined_as_one(tmp_path: Path):
    explanation, _ = grouped(tmp_path)
    save_figure(explanation.plot(), tmp_path / "g.png")
    assert any("×" in line for line in lines_of(explanation.plot()))


def test_the_heat_map_shows_what_was_never_sampled(made: Explanation):
    scores = made.pairs["synergy"]
    figure = plot_pair_scores(scores)
    (image,) = figure.axes[0].images
    table = np.asarray(image.get_array())
    own = scores.for_head("mixture")
    assert table.shape == (12, 16)
    assert table.max() == own.value.max()
    fewer = scores.select(np.arange(len(scores)) != int(np.argmax(own.value)))
    (image,) = plot_pair_scores(fewer).axes[0].images
    assert np.ma.masked_invalid(image.get_array()).mask.sum() == 1
    with pytest.raises(InputError, match="'txt'"):
        plot_pair_scores(scores, modalities=("txt", "image"))


def test_error_falls_with_the_budget(made: Explanation):
    scores = made.pairs["synergy"]
    runs = [
        replace(
            scores,
            standard_error=scores.standard_error / k,
            settings={**scores.settings, "evaluations": 100 * k},
        )
        for k in (4, 1, 2)
    ]
    figure = plot_error({"sparse": runs})
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == [100, 200, 400]
    assert np.all(np.diff(line.get_ydata()) < 0)
    with pytest.raises(InputError, match="without its cost"):
        plot_error({"sparse": [scores]})
    with pytest.raises(InputError, match="no estimates"):
        plot_error({})


class Tags(HTMLParser):
    """Collects tags and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_notebook_shows_inputs_and_pairs(made: Explanation):
    html = made._repr_html_()
    assert "colour match" in html
    assert html.count("<rect") == 16
    assert "red × patch at the middle right" in html
    assert "+1.84 ±" in html
    assert "data:image/png" in html


def test_nothing_in_a_notebook_is_markup_but_ours(tmp_path: Path):
    explanation, _ = shapes(tmp_path)
    hostile = replace(
        explanation,
        target=EVIL,
        classes=(EVIL, *explanation.classes[1:]),
        notes=(EVIL,),
        inputs={**explanation.inputs, "text": EVIL + " " * 60},
    )
    tags = Tags()
    tags.feed(hostile._repr_html_())
    assert {tag for tag, _ in tags.seen} <= {
        *("div", "p", "b", "i", "s", "small", "span", "svg", "image", "rect", "table", "tr", "td")
    }
    assert not [name for _, attrs in tags.seen for name in attrs if name.startswith("on")]
    assert "No pair" in text_only("nothing")[0]._repr_html_()

"""Figures from results: they show the numbers, say what is missing, and are the same every time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError, MachineError
from fli2moe.evaluation.compare import Comparison, Difference, Group, Spread
from fli2moe.evaluation.evaluate import evaluate
from fli2moe.features import default_cache
from fli2moe.plot import (
    PLOTS,
    metric_figures,
    plot_comparison,
    plot_expert_weights,
    plot_faithfulness,
    plot_interaction_share,
    plot_pair_masking,
    save_figure,
)
from fli2moe.predictor import Predictor

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.container import ErrorbarContainer  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Text  # noqa: E402

PERCENTS = [5.0, 10.0, 15.0]
HEADS = ("mixture", "unique_text", "unique_image", "synergy", "redundancy")
RANKINGS = [(kind, head) for kind in ("synergy", "redundancy") for head in (kind, "mixture")]


def figure_of(mean: float | None, error: float | None = 0.01) -> dict[str, Any]:
    return {"mean": mean, "standard_error": error, "n": 4 if mean is not None else 0}


def curves(scale: float) -> dict[str, Any]:
    return {
        "comprehensiveness": [scale * k for k in PERCENTS],
        "sufficiency": [0.5 - scale * k for k in PERCENTS],
        "random_comprehensiveness": [0.001 * k for k in PERCENTS],
        "random_sufficiency": [0.5 - 0.001 * k for k in PERCENTS],
    }


@pytest.fixture
def metrics() -> dict[str, Any]:
    """What a run's `metrics.json` holds of the sections that are drawn; one head has no share."""
    drops = [
        {
            "kind": kind,
            "head": head,
            "m": m,
            **{
                control: {"score": figure_of(0.1 * n + 0.01 * m)}
                for n, control in enumerate(
                    ("ranked", "random_pairs", "same_players", "top_players")
                )
            },
        }
        for kind, head in RANKINGS
        for m in (1, 2, 5, 10, 20)
    ]
    primary = [
        {"kind": k, "head": h, "m": m, "mean": 0.02, "interval": [0.01, 0.05], "p_holm": 0.04}
        for k, h in RANKINGS
        for m in (5, 10)
    ]
    shares: dict[str, Any] = {head: figure_of(0.07) for head in HEADS}
    orders = {head: {o: figure_of(0.3) for o in ("main", "pairs", "higher")} for head in HEADS}
    shares["synergy"] = figure_of(None, None)
    orders["synergy"] = {order: figure_of(None, None) for order in ("main", "pairs", "higher")}
    return {
        "faithfulness": {
            "percents": PERCENTS,
            "baseline": "mean",
            "by_head": [{"head": "mixture"}],
            "attention_gradient": {"text": curves(0.01), "image": curves(0.02)},
            "integrated_gradients": {"text": curves(0.005)},
        },
        "experts": {
            name: {"weight": 0.1 * n, "weight_sd": 0.05, "share": 0.2 * n, "share_sd": 0.1}
            for n, name in enumerate(HEADS[1:], 1)
        },
        "interaction_share": {**shares, "orders": orders, "per_label": {"a": {"mixture": {}}}},
        "pair_masking": {"n": 4, "left_out": 0, "drops": drops, "primary": primary},
    }


def comparison_of(names: tuple[str, ...] = ("dense", "fli2moe, decorrelation cka")) -> Comparison:
    def difference(p: float | None) -> Difference:
        return Difference("accuracy", "sign flips", 0.1, (0.0, 0.2), p, p, 0.5, 9)

    groups = tuple(
        Group(
            name,
            (f"{n}",),
            (0, 1),
            {
                "accuracy": Spread(0.5 + 0.1 * n, 0.02, 2),
                "AUROC": Spread(0.7, None, 1),
                "macro F1": Spread(None, None, 0),
                "comprehensiveness gap, attention_gradient, screenshot": Spread(0.1, 0.01, 2),
                "overlap of experts' top 10%, attention_gradient, screenshot": Spread(0.2, 0.0, 2)
                if n
                else Spread(None, None, 0),
            },
            () if n == 0 else (difference(0.01 if n == 1 else 0.3),),
        )
        for n, name in enumerate(names)
    )
    return Comparison(names[0], groups)


def texts(figure: Figure) -> list[str]:
    found = [t.get_text() for t in figure.findobj(Text) if t.get_visible()]
    return [text.replace("\n", " ") for text in found if text]


def line(panel: Axes, label: str) -> tuple[list[float], list[float]]:
    (found,) = [x for x in panel.get_lines() if x.get_label() == label]
    x, y = found.get_data()
    return list(x), list(y)


def bars(panel: Axes) -> dict[str, ErrorbarContainer]:
    """{label: series with intervals}."""
    return {str(c.get_label()): c for c in panel.containers if isinstance(c, ErrorbarContainer)}


def half_widths(series: ErrorbarContainer, axis: int) -> list[float]:
    """Of the intervals that are drawn."""
    (lines,) = series.lines[2]
    segments = [segment for segment in lines.get_segments() if len(segment)]
    return [float(segment[1, axis] - segment[0, axis]) / 2 for segment in segments]


def test_faithfulness_is_drawn_per_method_and_modality(metrics: dict[str, Any]):
    panels = plot_faithfulness(metrics).axes
    assert [p.get_title(loc="left") for p in panels] == [
        "text: comprehensiveness",
        "image: comprehensiveness",
        "text: sufficiency",
        "image: sufficiency",
    ]
    found = metrics["faithfulness"]["attention_gradient"]["image"]
    for panel, kind in ((panels[1], "comprehensiveness"), (panels[3], "sufficiency")):
        assert line(panel, "attention_gradient") == (PERCENTS, found[kind])
        dashed = [x for x in panel.get_lines() if x.get_linestyle() == "--"]
        assert [list(x.get_ydata()) for x in dashed] == [found[f"random_{kind}"]]
    labels = {x.get_label() for x in panels[0].get_lines()}
    assert {"attention_gradient", "integrated_gradients", "random players"} <= labels


def test_expert_bars_are_weight_and_share_with_their_sd(metrics: dict[str, Any]):
    (panel,) = plot_expert_weights(metrics).axes
    widths = [round(p.get_width(), 6) for p in panel.patches]
    assert widths == [0.1, 0.2, 0.3, 0.4, 0.2, 0.4, 0.6, 0.8]
    assert [t.get_text() for t in panel.get_yticklabels()] == list(HEADS[1:])
    weight, share = [c for c in panel.containers if isinstance(c, ErrorbarContainer)]
    assert half_widths(weight, 0) == pytest.approx([0.05] * 4)
    assert half_widths(share, 0) == pytest.approx([0.1] * 4)


def test_interaction_shares_have_95_percent_intervals_and_say_what_is_missing(
    metrics: dict[str, Any],
):
    metrics["interaction_share"]["redundancy"]["standard_error"] = None  # of a single sample
    figure = plot_interaction_share(metrics)
    (panel,) = figure.axes
    series = bars(panel)
    assert list(series) == ["all interactions", "main effects", "pairs", "higher orders"]
    assert list(series["all interactions"].lines[0].get_xdata()) == [0.07] * 4  # none at 0
    assert half_widths(series["all interactions"], 0) == pytest.approx([0.0196] * 3)
    assert texts(figure).count("n/a") == 1


def test_shares_without_orders_or_without_any_value_are_drawn(metrics: dict[str, Any]):
    del metrics["interaction_share"]["orders"]
    (panel,) = plot_interaction_share(metrics).axes
    assert list(bars(panel)) == ["all interactions"]
    nothing = {"interaction_share": {"mixture": figure_of(None, None)}}
    assert "n/a" in texts(plot_interaction_share(nothing))


def test_pair_masking_shows_controls_and_the_comparison_that_decides(metrics: dict[str, Any]):
    section = metrics["pair_masking"]
    section["primary"][0] |= {"mean": None, "interval": None, "p_holm": None}
    section["primary"][1]["p_holm"] = 1e-9
    section["drops"][4]["ranked"]["score"] = figure_of(None, None)
    figure = plot_pair_masking(metrics)
    above, below = figure.axes[0], figure.axes[4]
    assert above.get_title(loc="left") == "synergy pairs, ranked on synergy"
    series = bars(above)
    assert list(series) == [
        "top pairs",
        "random pairs",
        "random players, as many",
        "top players, as many",
    ]
    assert list(series["top pairs"].lines[0].get_ydata()) == pytest.approx([0.01, 0.02, 0.05, 0.1])
    assert half_widths(series["random pairs"], 1) == pytest.approx([0.0196] * 5)
    assert [t.get_text() for t in above.texts] == ["n/a"]
    assert [t.get_text() for t in above.get_xticklabels()] == ["1", "2", "5", "10", "20"]
    assert [t.get_text() for t in below.texts] == ["n/a", "p < .001"]
    (contrast,) = [c for c in below.containers if isinstance(c, ErrorbarContainer)]
    (segment,) = contrast.lines[2][0].get_segments()
    assert segment[:, 1].tolist() == pytest.approx([0.01, 0.05])
    assert "p 0.040" in [t.get_text() for t in figure.axes[5].texts]


def test_a_comparison_has_a_panel_per_figure_that_anyone_measured():
    found = comparison_of(("dense", "fli2moe", "fli2moe, decorrelation cka"))
    figure = plot_comparison(found.to_json())
    panels = [p for p in figure.axes if p.get_visible()]
    titles = [p.get_title(loc="left").replace("\n", " ") for p in panels]
    assert titles == [name for name in found.groups[0].figures if name != "macro F1"]
    dots = [c.lines[0] for c in panels[0].containers]
    assert [float(d.get_xdata()[0]) for d in dots] == pytest.approx([0.5, 0.6, 0.7])
    assert [d.get_markerfacecolor() for d in dots] == ["black", "#0072B2", "white"]
    assert half_widths(panels[0].containers[1], 0) == pytest.approx([0.02])
    assert [t.get_text() for t in panels[3].texts] == ["n/a"]  # the dense model has no experts
    names = [t.get_text() for t in panels[0].get_yticklabels()]
    assert [name.replace("\n", " ") for name in names] == [g.name for g in found.groups]


def drawn_texts(figure: Figure) -> dict[Text, Any]:
    """{text: its box in pixels} of what is drawn; ticks outside of what is shown are not."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    hidden: set[Text] = set()
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = axis.majorTicks
            hidden |= {t.label1 for t in ticks if not low <= t.get_loc() <= high}
        if not panel.get_visible():
            hidden |= set(panel.findobj(Text))
    shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
    return {t: t.get_window_extent(renderer) for t in shown if t not in hidden}


def test_no_text_is_cut_off_or_lies_on_another(metrics: dict[str, Any]):
    names = ("dense", "fli2moe, variant residual, router pid, decorrelation barlow_full", "x" * 70)
    figures = [*metric_figures(metrics).values(), plot_comparison(comparison_of(names).to_json())]
    assert len(figures) == len(PLOTS) + 1
    for figure in figures:
        boxes = drawn_texts(figure)
        assert len(boxes) > 10
        for text, box in boxes.items():
            assert min(box.x0, box.y0) >= -1, text
            assert box.x1 <= figure.bbox.width + 1, text
            assert box.y1 <= figure.bbox.height + 1, text
        for (one, a), (other, b) in combinations(boxes.items(), 2):
            assert not a.overlaps(b), (one, other)


def test_names_are_shown_as_they_are(metrics: dict[str, Any], tmp_path: Path):
    name = "$x^2$ <script>\n& %"
    metrics["experts"][name] = metrics["experts"].pop("synergy")
    metrics["faithfulness"]["attention_gradient"][name] = curves(0.01)
    figures = [plot_expert_weights(metrics), plot_faithfulness(metrics)]
    figures.append(plot_comparison(comparison_of((name, "b")).to_json()))
    for n, figure in enumerate(figures):
        assert any(r"$x^2$ <script>\n& %" in text for text in texts(figure))
        save_figure(figure, tmp_path / f"{n}.svg")
        assert "<script>" not in (tmp_path / f"{n}.svg").read_text()


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_results_give_the_same_bytes(metrics: dict[str, Any], tmp_path: Path, suffix: str):
    def saved(name: str, figure: Figure) -> bytes:
        save_figure(figure, tmp_path / name)
        return (tmp_path / name).read_bytes()

    figure = plot_expert_weights(metrics)
    first = saved(f"a{suffix}", figure)
    assert saved(f"b{suffix}", figure) == first
    own = {"font.size": 20.0, "axes.grid": False, "lines.linewidth": 9.0, "savefig.dpi": 20}
    with matplotlib.rc_context(own):
        assert saved(f"c{suffix}", plot_expert_weights(metrics)) == first
        assert matplotlib.rcParams["font.size"] == 20.0
    metrics["experts"]["synergy"]["weight"] = 0.9
    assert saved(f"d{suffix}", plot_expert_weights(metrics)) != first
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{n}{suffix}" for n in "abcd"]


def test_other_formats_and_folders_that_cannot_be_written(metrics: dict[str, Any], tmp_path: Path):
    figure = plot_expert_weights(metrics)
    for name in ("figure.jpg", "figure"):
        with pytest.raises(InputError, match=r"expected \.png, \.svg, \.pdf"):
            save_figure(figure, tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot write"):
        save_figure(figure, tmp_path / "file" / "figure.png")


def test_sections_that_were_not_measured_are_left_out_or_an_error(metrics: dict[str, Any]):
    del metrics["pair_masking"]
    metrics["faithfulness"] = {"percents": PERCENTS, "baseline": "mean", "by_head": []}
    assert list(metric_figures(metrics)) == ["interaction_share", "experts"]
    plots: Mapping[str, Callable[[Mapping[str, Any]], Figure]] = PLOTS
    for section, plot in plots.items():
        with pytest.raises(InputError, match=f"no figures of {section}; .*fli2moe evaluate"):
            plot({})
    empty = Comparison("a", (Group("a", (), (), {"accuracy": Spread(None, None, 0)}),))
    with pytest.raises(InputError, match="without any figure"):
        plot_comparison(empty.to_json())


def test_without_matplotlib_the_error_names_the_extra(
    metrics: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fli2moe.plot.drawing.find_spec", lambda name: None)
    for draw in (*PLOTS.values(), metric_figures):
        with pytest.raises(MachineError, match=r'not installed; pip install "fli2moe\[plot\]"'):
            draw(metrics)
    with pytest.raises(MachineError, match="not installed"):
        plot_comparison(comparison_of().to_json())


def test_importing_needs_no_matplotlib_and_drawing_no_pyplot(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path\n"
        "from fli2moe.plot import plot_expert_weights, save_figure\n"
        "assert 'matplotlib' not in sys.modules\n"
        "one = {'weight': 1.0, 'weight_sd': 0.0, 'share': 1.0, 'share_sd': 0.0}\n"
        "save_figure(plot_expert_weights({'experts': {'a': one}}), Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    path = tmp_path / "figure.png"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_metrics_of_a_run_are_drawn(
    predictor: Predictor, dataset: Dataset, tiny_run: Path, tmp_path: Path
):
    parts = ["interaction_share", "faithfulness", "pair_masking"]
    options = {"evaluation.parts": parts, "evaluation.pair_samples": 1, "evaluation.samples": 1}
    config = predictor.config.with_options(options)
    found = evaluate(replace(predictor, config=config), dataset, cache=default_cache(tiny_run))
    figures = metric_figures(found)
    assert list(figures) == list(PLOTS)
    for name, figure in figures.items():
        save_figure(figure, tmp_path / f"{name}.png")

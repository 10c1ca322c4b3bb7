"""A model card: what it says is true, and no name in it becomes markup."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image
from saved import edit, run_usage

from fli2moe.config import Config
from fli2moe.data.mmhs150k import NOTICE
from fli2moe.model import parameter_count
from fli2moe.model_card import ModelCard, code, public_name, write_card
from fli2moe.predictor import Predictor
from fli2moe.run_card import known_figures
from fli2moe.runs import evaluate_run

HOSTILE = [
    "<script>alert(1)</script>",
    "</code><img src=x onerror=alert(1)>",
    "`<b>`",
    "``` \n# heading\n---\n",
    "---\nlibrary_name: other\n---",
    "[click](javascript:alert(1))",
    "![](http://example.org/x.png)",
    "http://example.org",
    "a | b",
    "&lt;",
    " ",
    "\\",
    "`",
    "-->",
    "\u202eright to left",
    "'''\"",
]


def card(names: list[str], **fields: Any) -> ModelCard:
    """A card whose modalities, experts, encoders, labels and figures all have these names."""
    return ModelCard(
        model="fli2moe",
        modalities=dict.fromkeys(names, 7),
        experts=names,
        parameters=1234567,
        classes=len(names),
        usage="pass",
        encoders={name: name for name in names},
        labels=names,
        task="multilabel",
        figures=dict.fromkeys(names, 0.5),
        **fields,
    )


def front_matter(text: str) -> dict[str, Any]:
    assert text.startswith("---\n")
    data: dict[str, Any] = yaml.safe_load(text.split("\n---\n")[0])
    return data


def html(text: str) -> str:
    """What a renderer that lets HTML through would show."""
    body = text.split("\n---\n", 1)[1]
    rendered: str = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(body)
    return rendered


def tags(text: str) -> set[str]:
    return set(re.findall(r"</?[a-z0-9]+[^>]*>", html(text)))


PLAIN = tags(card(["one", "two", "three"], settings={"a": 1}).to_markdown())


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_text(name: str):
    settings = {"training": {"class_weights": {name: 2.0, f"a\n{name}\nb": 1.0}}}
    text = card([name, "two", "three"], settings=settings).to_markdown()
    assert front_matter(text) == front_matter(card(["a", "b"]).to_markdown())
    assert tags(text) == PLAIN
    assert html(text).count("<h1>") == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("`<>&[]()!|\\*_~#-\n\r\t .ab:/'\"", min_size=1), min_size=2, unique=True))
def test_no_name_whatever_becomes_markup(names: list[str]):
    text = card(names).to_markdown()
    assert tags(text) <= PLAIN
    assert html(text).count("<h2>") == html(card(["a", "b"]).to_markdown()).count("<h2>")


@given(st.text(min_size=1))
def test_a_code_span_shows_the_text(text: str):
    shown = code(text)
    assert "\n" not in shown
    rendered = MarkdownIt().renderInline(f"a {shown} b")
    assert rendered.startswith("a <code>")
    assert rendered.endswith("</code> b")
    assert rendered.count("<code>") == 1


def test_what_the_card_says():
    text = card(["text", "image"], settings={"model": {"hidden": 8}}).to_markdown()
    data = front_matter(text)
    assert data["library_name"] == "fli2moe"
    assert {"fli2moe", "multimodal", "explainability"} <= set(data["tags"])
    for part in (
        "# fli2moe on `text`, `image`",
        "1,234,567 trained parameters",
        "- `text`: features of width 7, from `text`",
        "Any number of 2: `text`, `image`",
        "```yaml\nmodel:\n  hidden: 8\n```",
        "- `text`: 0.5",
        "arXiv:2603.13326",
    ):
        assert part in text
    binary = replace(card(["no", "yes"]), task="binary").to_markdown()
    assert "Exactly one of 2: `no`, `yes`; the second is the positive class." in binary
    without = ModelCard("dense", {"a": 1, "b": 2}, ["dense"], 3, 4, "pass").to_markdown()
    assert "one dense transformer" in without
    assert "4 classes, without names." in without
    assert "## Figures" not in without
    assert "## Training" not in without


def test_a_thousand_labels_are_not_all_listed():
    names = [f"label {i}" for i in range(1000)]
    text = ModelCard("dense", {"a": 1, "b": 2}, ["dense"], 3, 1000, "", labels=names).to_markdown()
    assert "`label 99`, and 900 more (in `config.json`)" in text
    assert "label 100" not in text


@pytest.mark.parametrize(
    ("encoder", "shown"),
    [
        ("openai/clip-vit-base-patch16", "openai/clip-vit-base-patch16"),
        ("builtin:words", "builtin:words"),
        ("/home/somebody/models/vit/", "vit"),
        ("~/models/vit", "vit"),
        ("../models/vit", "vit"),
        ("C:\\models\\vit", "vit"),
    ],
)
def test_a_path_of_this_machine_is_not_told(encoder: str, shown: str):
    assert public_name(encoder) == shown


def test_only_its_own_card_is_replaced(tmp_path: Path):
    path = tmp_path / "README.md"
    assert write_card(tmp_path, "one\n")
    assert write_card(tmp_path, "two\n")
    written = path.read_text(encoding="utf-8")
    assert written.startswith("two\n")
    for edited in ("mine", written.replace("two", "three"), written + "more\n", ""):
        path.write_text(edited, encoding="utf-8")
        assert not write_card(tmp_path, "four\n")
        assert path.read_text(encoding="utf-8") == edited
    path.write_bytes(b"\xff\xfe")
    assert not write_card(tmp_path, "four\n")


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


def test_the_card_of_a_run_is_about_it(predictor: Predictor, tiny_run: Path):
    text = (tiny_run / "README.md").read_text(encoding="utf-8")
    assert front_matter(text)["library_name"] == "fli2moe"
    assert f"{parameter_count(predictor.model):,} trained parameters" in text
    assert "- `text`: features of width 64, from `builtin:words`" in text
    assert "Any number of 4: `dog`, `match`, `star`, `sunny`" in text
    shown = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    config = predictor.config.model_dump(mode="json")
    assert shown == {key: config[key] for key in ("preset", "seed", "model", "losses", "training")}
    for path in (tiny_run, Path.home(), Path(predictor.config.data.path).parent):
        assert str(path) not in text


def test_the_card_tells_of_the_content_of_its_data(predictor: Predictor, tmp_path: Path):
    assert "Content notice" not in (predictor.save(tmp_path / "a") / "README.md").read_text()
    data = predictor.config.data.model_copy(update={"source": "mmhs150k", "labels": "multiclass"})
    of_tweets = replace(predictor, config=predictor.config.model_copy(update={"data": data}))
    assert f"> **Content notice.** {NOTICE}" in (
        of_tweets.save(tmp_path / "b") / "README.md"
    ).read_text(encoding="utf-8")


def test_the_three_lines_of_the_card_predict(run: Path):
    Image.new("RGB", (64, 64), "red").save(run / "picture.png")
    assert run_usage(run).startswith("Prediction(labels=")


def test_names_of_modalities_stay_inside_the_code(predictor: Predictor):
    from fli2moe.run_card import _usage

    for name in (*HOSTILE, '"', "'", "'\n```\n<script>", "\u2028"):
        usage = _usage({name: predictor.encoders["text"]})
        assert len(usage.splitlines()) == 3
        compile(usage, "card", "exec")


def figures_in(run: Path) -> str:
    text = (run / "README.md").read_text(encoding="utf-8")
    return text.split("## Figures")[1].split("## ")[0] if "## Figures" in text else ""


def test_figures_are_shown_where_they_are_this_models(run: Path):
    predictor = Predictor.load(run)
    history = [{"val_loss": 0.5, "val_score": None}, {"val_loss": 0.25, "val_score": 0.75}]
    training = {"fingerprint": predictor.fingerprint, "best_epoch": 1, "history": history}
    task = {"accuracy": 0.875, "auroc": None, "accuracy_per_label": {"dog": 1.0}}
    metrics = {"model": {"fingerprint": predictor.fingerprint}, "task": task}
    (run / "training.json").write_text(json.dumps(training))
    (run / "metrics.json").write_text(json.dumps(metrics))
    predictor.save(run)
    rows = ["best epoch`: 1", "validation loss`: 0.25", "validation score`: 0.75"]
    rows += ["test accuracy`: 0.875"]
    assert figures_in(run).strip().splitlines() == [f"- `{row}" for row in rows]
    edit(run / "training.json", lambda data: data.update(fingerprint="another model's"))
    edit(run / "metrics.json", lambda data: data["model"].update(fingerprint=None))
    predictor.write_card(run)
    assert not figures_in(run)


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", "3", '{"model": 3, "task": 4}'),
        '{"fingerprint": "f", "best_epoch": 7, "history": []}',
        '{"fingerprint": "f", "best_epoch": 0, "history": [3]}',
        '{"model": {"fingerprint": "f"}, "task": {"a": "<b>", "b": 1e999, "c": true, "d": []}}',
    ],
)
def test_damaged_figures_are_left_out(tmp_path: Path, content: str):
    for name in ("training.json", "metrics.json"):
        (tmp_path / name).write_text(content)
    assert set(known_figures(tmp_path, "f")) <= {"best epoch"}


def test_evaluating_puts_the_figures_on_the_card(run: Path):
    assert "test accuracy" not in figures_in(run)
    metrics = evaluate_run(run)
    assert f"- `test accuracy`: {metrics['task']['accuracy']:.4g}" in figures_in(run)
    assert isinstance(Predictor.load(run).config, Config)

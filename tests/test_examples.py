"""The examples run, at sizes of seconds, and say what they promise."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from fli2moe.presets import PRESETS

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(number: str) -> dict[str, Any]:
    (path,) = EXAMPLES.glob(f"{number}_*.py")
    return runpy.run_path(str(path))


def test_each_is_short():
    paths = sorted(EXAMPLES.glob("*.py"))
    assert [p.name[:2] for p in paths] == [f"{k:02}" for k in range(1, 8)]
    for path in paths:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 80, path.name


def test_the_demo_in_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    small = {**PRESETS["demo"]["evaluation"], "parts": ("interaction_share",), "samples": 2}
    small |= {"head_samples": 1, "pair_samples": 2, "budget": 100}
    training = {**PRESETS["demo"]["training"], "epochs": 1}
    changed = {"evaluation": small, "training": training, "explain": {"budget": 100}}
    monkeypatch.setitem(PRESETS, "demo", {**PRESETS["demo"], **changed})
    page = example("01")["main"](tmp_path / "demo", sizes=(128, 24, 24))
    assert page.is_file()
    assert "Share of the output" in capsys.readouterr().out


def test_a_csv_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pair = example("02")["main"](tmp_path, rows=60, epochs=1)
    assert "±" in pair
    assert (tmp_path / "report.html").is_file()
    assert "true: ('" in capsys.readouterr().out


def test_an_encoder_of_ones_own(tmp_path: Path):
    probability = example("03")["main"](tmp_path, sizes=(64, 16, 8), epochs=1)
    assert 0 < probability < 1


def test_a_model_of_ones_own():
    synergy, redundancy = example("04")["main"]()
    (pair,) = synergy.top(1)
    assert str(pair).startswith("word[1] × patch[4]: +3.00")
    (pair,) = redundancy.top(1)
    assert str(pair).startswith("word[2] × patch[0]: +2.00")


@pytest.mark.parametrize("number", ["05", "07"])
def test_models_of_hugging_face(number: str, capsys: pytest.CaptureFixture[str]):
    example(number)["main"]()
    assert capsys.readouterr().out.count(" × patch (") == 5


def test_three_modalities(tmp_path: Path):
    explanation = example("06")["main"](tmp_path, rows=60, epochs=1)
    assert {p.modality for p in explanation.players} == {"text", "image", "sensors"}
    assert set(explanation.expert_weights) >= {"unique_text", "unique_image", "unique_sensors"}

"""The stored batch finds what checksums and shapes do not: that other numbers are computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from saved import config_of, edit, edit_tensors, refusal
from tiny import CLASSES, tiny_model
from torch import Tensor

from fli2moe import __version__
from fli2moe.config import ModelConfig
from fli2moe.model import FusionTransformer, build_model, from_pretrained, save_pretrained
from fli2moe.model.selftest import make_selftest, selftest_difference


def test_the_self_test_is_ragged_and_on_the_scale_of_the_features(tmp_path: Path):
    model = tiny_model().float()
    model.standardise("text", torch.full((5,), 100.0), torch.full((5,), 0.01))
    test = make_selftest(model)
    lengths = {m: tokens.mask.sum(1).tolist() for m, tokens in test.batch.items()}
    assert all(len(set(pair)) == 2 for pair in lengths.values())
    assert (test.batch["text"].features - 100).abs().max() < 0.1
    assert test.batch["image"].features.abs().max() < 10
    assert test.logits.shape == (2, 5, CLASSES)
    again = make_selftest(model)
    assert all(torch.equal(x, again.tensors()[name]) for name, x in test.tensors().items())
    stored = load_file(save_pretrained(model, config_of(), tmp_path) / "selftest.safetensors")
    assert all(torch.equal(x, stored[name]) for name, x in test.tensors().items())


def test_autocast_around_does_not_move_the_numbers(folder: Path):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model = from_pretrained(folder)
    assert isinstance(model, FusionTransformer)


def scaled(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Lets the models of this library compute logits that are a little larger."""
    real = FusionTransformer.fuse

    def fuse(self: FusionTransformer, *arguments: Any, **options: Any) -> Any:
        output = real(self, *arguments, **options)
        object.__setattr__(output, "logits", output.logits * factor)
        return output

    monkeypatch.setattr(FusionTransformer, "fuse", fuse)


def test_slightly_other_numbers_are_one_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    edit(folder / "config.json", lambda data: data.update(version="0.0.7", torch="1.2.3"))
    scaled(monkeypatch, 1 + 9e-5)
    with caplog.at_level("WARNING", "fli2moe"):
        from_pretrained(folder)
    (line,) = caplog.messages
    assert line.startswith(f"{folder}: the logits differ by ")
    here = f"here {__version__} and {torch.__version__}"
    assert line.endswith(f"(saved by fli2moe 0.0.7 and torch 1.2.3, {here})")


def test_other_numbers_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    scaled(monkeypatch, 1.01)
    line = refusal(folder)
    assert line.startswith(f"{folder / 'selftest.safetensors'}: on cpu the logits differ by ")
    assert "expected at most 1e-04" in line
    assert "this machine or library computes other numbers than where the model was saved" in line
    scaled(monkeypatch, float("nan"))
    assert "the logits differ by inf" in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("heads", 4), ("positions", "none"), ("router", {"temperature": 9.0})],
)
def test_options_that_no_shape_shows_are_found_by_the_self_test(
    tmp_path: Path, key: str, value: Any
):
    options = {"positions": "sinusoidal"}
    folder = save_pretrained(tiny_model(**options).float(), config_of(**options), tmp_path)
    change = {**value} if isinstance(value, dict) else value

    def put(data: dict[str, Any]) -> None:
        data["model"][key] = {**data["model"][key], **change} if key == "router" else change

    edit(folder / "config.json", put)
    assert "computes other numbers" in refusal(folder)


def add(name: str, value: float) -> Callable[[dict[str, Tensor]], Any]:
    return lambda tensors: tensors[name].view(-1)[0].add_(value)


@pytest.mark.parametrize(
    "name", ["classifier.weight", "projections.text.mean", "router.mlp.0.bias"]
)
def test_a_changed_weight_is_found_by_checksum_and_then_by_the_self_test(folder: Path, name: str):
    path = folder / "model.safetensors"
    before = (folder / "config.json").read_bytes()
    edit_tensors(path, add(name, 0.5))
    mended = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(before)
    assert "model.safetensors: missing or damaged" in refusal(folder)
    (folder / "config.json").write_bytes(mended)
    assert "computes other numbers" in refusal(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_and_answers_that_are_not_finite_are_refused(folder: Path, value: float):
    config = (folder / "config.json").read_bytes()
    weights = (folder / "model.safetensors").read_bytes()
    edit_tensors(folder / "model.safetensors", add("classifier.bias", value))
    assert "the logits differ by inf" in refusal(folder)
    (folder / "config.json").write_bytes(config)
    (folder / "model.safetensors").write_bytes(weights)
    edit_tensors(folder / "selftest.safetensors", add("logits", value))
    assert "the logits differ by inf" in refusal(folder)


def test_rounding_is_far_below_the_tolerance_and_a_formula_far_above():
    config = ModelConfig(hidden=64, layers=2, heads=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(config, {"text": 384, "image": 192}, 5).eval()
    test = make_selftest(model)
    assert selftest_difference(test, model) == 0
    assert selftest_difference(test, model.double()) < 1e-5  # the weights' own rounding apart
    model.router.temperature = 1.5
    assert selftest_difference(test, model) > 1e-3

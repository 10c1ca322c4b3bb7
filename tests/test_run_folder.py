"""A predictor on disk: what is wrong with it is one line, and nothing in it is a pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from fli2moe import run_folder
from fli2moe.config import Config
from fli2moe.data.sample import Dataset
from fli2moe.encoders import load_encoder
from fli2moe.encoders.builtin import BuiltinPatches
from fli2moe.errors import InputError, MachineError
from fli2moe.files import file_digest
from fli2moe.predictor import Predictor
from fli2moe.run_folder import environment, load_encoders, run_config

MakeConfig = Callable[..., Config]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


def message(run: Path) -> str:
    with pytest.raises(InputError) as caught:
        Predictor.load(run)
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.exit_code == 2
    return line


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_save_and_load_give_the_same_predictor(predictor: Predictor, tmp_path: Path):
    predictor.save(tmp_path / "again")
    again = Predictor.load(tmp_path / "again")
    assert again.fingerprint == predictor.fingerprint
    assert again.config == predictor.config
    assert again.task == predictor.task
    assert again.means.keys() == predictor.means.keys()
    assert all(torch.equal(again.means[m], predictor.means[m]) for m in predictor.means)
    assert not again.model.training


def test_the_folder_describes_itself_without_a_pickle(tiny_run: Path):
    names = {p.name for p in tiny_run.iterdir()}
    described = {"config.yaml", "model.safetensors", "baseline.safetensors", "predictor.json"}
    assert described | {"environment.json", "training.json"} <= names
    suffixes = {p.suffix for p in tiny_run.rglob("*") if p.is_file()}
    assert suffixes <= {".yaml", ".json", ".safetensors"}
    for path in tiny_run.rglob("*.safetensors"):
        assert b"pickle" not in path.read_bytes()[:2000]
    known = json.loads((tiny_run / "environment.json").read_text())
    assert known == environment() | {"threads": known["threads"]}
    assert {"torch", "transformers", "safetensors", "pillow"} <= set(known["packages"])
    assert set(load_file(tiny_run / "baseline.safetensors")) == {"text", "image"}


@pytest.mark.parametrize("name", ["model.safetensors", "baseline.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damaged_weights_are_found_by_checksum(run: Path, name: str, damage: str):
    path, data = run / name, bytearray((run / name).read_bytes())
    if damage == "flip":
        data[-2] ^= 4
    elif damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "empty":
        data = bytearray()
    path.write_bytes(data)
    if damage == "gone":
        path.unlink()
    assert message(run).startswith(f"{path}: missing or damaged; expected sha256 ")
    assert message(run).endswith("train again or copy the run folder anew")


def test_a_file_that_is_not_listed_does_not_pass_unchecked(run: Path):
    edit(run / "predictor.json", lambda card: card["sha256"].pop("model.safetensors"))
    assert "model.safetensors: missing or damaged" in message(run)


@pytest.mark.parametrize("name", ["predictor.json", "config.yaml"])
def test_a_missing_file_is_named(run: Path, name: str):
    (run / name).unlink()
    assert message(run).startswith(f"{run / name}: no such file")


def test_no_folder_and_no_run(tmp_path: Path):
    expected = "no such run folder; expected a folder written by `fli2moe train`"
    assert message(tmp_path / "none") == f"{tmp_path / 'none'}: {expected}"
    with pytest.raises(InputError, match="no such run folder"):
        run_config(tmp_path / "none")
    assert "predictor.json: no such file" in message(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "{}"])
def test_a_damaged_card_is_one_line(run: Path, content: str):
    (run / "predictor.json").write_text(content)
    assert "predictor.json: " in message(run)


@pytest.mark.parametrize("key", ["task", "classes", "modalities", "sha256"])
def test_a_card_without_a_key_is_damaged(run: Path, key: str):
    edit(run / "predictor.json", lambda card: card.pop(key))
    line = message(run)
    assert "predictor.json: damaged: " in line
    assert key in line


def test_another_format_names_both_versions(run: Path):
    edit(run / "predictor.json", lambda card: card.update(format="fli2moe/predictor/9"))
    line = message(run)
    assert "format 'fli2moe/predictor/9'; expected fli2moe/predictor/2" in line
    assert "use the matching version" in line


def upgrade(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Lets some packages report another version than they have."""
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: versions.get(name) or real(name))


def test_other_library_versions_are_one_warning_and_no_obstacle(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    then = metadata.version("pillow")
    upgrade(monkeypatch, pillow="99.1")
    with caplog.at_level("WARNING", "fli2moe"):
        Predictor.load(run)
    (line,) = caplog.messages
    assert line.startswith(f"{run}: other library versions compute the features of image than")
    assert line.endswith(f"(pillow {then}, now 99.1)")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"packages": 3}', "{}"])
def test_unknown_versions_are_said_to_be_unknown(
    run: Path,
    content: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    (run / "environment.json").unlink()
    if content is not None:
        (run / "environment.json").write_text(content)
    upgrade(monkeypatch, regex="99.1")
    with caplog.at_level("WARNING", "fli2moe"):
        Predictor.load(run)
    (line,) = caplog.messages
    assert "the features of text than" in line
    assert line.endswith("(which ones is not known)")


def test_the_same_versions_warn_of_nothing(run: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("WARNING", "fli2moe"):
        Predictor.load(run)
    assert not caplog.messages


def test_encoders_that_moved_are_given(run: Path, dataset: Dataset):
    path = run / "config.yaml"
    original = Predictor.load(run)
    path.write_text(path.read_text().replace("builtin:patches", "/gone/from/here"))
    assert "/gone/from/here: no such folder" in message(run)
    loaded = Predictor.load(run, {"image": original.encoders["image"]})
    assert tuple(loaded.encoders) == tuple(original.encoders)
    sample = dataset.test[0]
    assert loaded(sample.inputs) == original(sample.inputs)
    with pytest.raises(InputError, match=r"modality image: another encoder than at training"):
        Predictor.load(run, {"image": BuiltinPatches(width=64, seed=3)})
    with pytest.raises(InputError, match=r"unknown modality 'picture'"):
        Predictor.load(run, {"picture": original.encoders["image"]})


def test_another_encoder_is_refused_before_any_forward(run: Path):
    path = run / "config.yaml"
    data = yaml.safe_load(path.read_text())
    data["data"]["modalities"]["image"]["patch"] = 8
    path.write_text(yaml.safe_dump(data))
    line = message(run)
    assert f"{run}: modality image: another encoder than at training time; expected" in line
    assert "use the same weights and options, or train again" in line


def test_weights_of_another_size_name_the_first_tensors(run: Path):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("hidden: 16\n", "hidden: 32\n"))
    line = message(run)
    assert "tensors do not fit config.yaml" in line
    assert len(line) < 600


def test_a_file_that_is_no_safetensors_is_refused_without_reading_it(run: Path):
    path = run / "model.safetensors"
    path.write_bytes(b"\x80\x04cos\nsystem\n.")  # how a pickle begins
    digest = file_digest(path)
    edit(run / "predictor.json", lambda card: card["sha256"].update({path.name: digest}))
    assert "model.safetensors: not readable" in message(run)


def test_missing_and_extra_tensors_are_named(run: Path):
    path = run / "model.safetensors"
    state = load_file(path)
    state["extra"] = state.pop("classifier.bias")
    save_file(state, path)
    digest = file_digest(path)
    edit(run / "predictor.json", lambda card: card["sha256"].update({path.name: digest}))
    line = message(run)
    assert "2 tensors do not fit config.yaml: classifier.bias missing, extra (" in line


def modality(make_config: MakeConfig, name: str, **options: Any) -> Config:
    config = make_config()
    data = config.model_dump(mode="json")
    data["data"]["modalities"][name] |= options
    return Config.from_dict(data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_one_line(run: Path):
    text = (run / "config.yaml").read_text()
    assert "device: auto\n" in text
    assert Predictor.load(run).device == torch.device("cpu")
    (run / "config.yaml").write_text(text.replace("device: auto\n", "device: cuda\n"))
    with pytest.raises(MachineError, match="device 'cuda': cannot be used here") as caught:
        Predictor.load(run)
    assert "\n" not in str(caught.value)
    (run / "config.yaml").write_text(text.replace("device: auto\n", "device: cdua\n"))
    assert "device: 'cdua'" in message(run)


def test_encoders_that_compute_get_the_configs_device(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
):
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(run_folder, "encoder_options", lambda *_: ("width", "device", "patch"))
    monkeypatch.setattr(run_folder, "load_encoder", lambda *_, **options: found.append(options))
    load_encoders(make_config(device="cpu"))
    assert [options["device"] for options in found] == ["cpu", "cpu"]


def test_an_option_that_was_set_and_does_nothing_is_an_error(make_config: MakeConfig):
    config = modality(make_config, "text", pool=2)
    with pytest.raises(InputError) as caught:
        load_encoders(config)
    line = str(caught.value)
    assert line.startswith("data.modalities.text.pool: 2; expected an option of builtin:words (")
    assert "max_tokens, width" in line
    assert line.endswith("remove it")
    with pytest.raises(InputError, match=r"image\.pool: 9; .*\(max_tokens, patch, width\)"):
        load_encoders(modality(make_config, "image", pool=9))


def test_options_reach_the_encoder_and_defaults_stay_silent(make_config: MakeConfig):
    config = modality(make_config, "image", patch=8, width=32)
    image = load_encoders(config)["image"]
    assert image.fingerprint == load_encoder("builtin:patches", patch=8, width=32).fingerprint
    assert load_encoders(modality(make_config, "text", pool=1, patch=16))["text"].width == 64


def test_a_presets_defaults_are_left_out_where_they_do_not_apply(make_config: MakeConfig):
    data = make_config().model_dump(mode="json", include={"data"})
    names = {"text": "builtin:words", "image": "builtin:patches"}
    data["data"]["modalities"] = {m: {"encoder": encoder} for m, encoder in names.items()}
    config = Config.from_dict({"preset": "small", **data})
    assert config.data.modalities["image"].max_tokens == 64
    encoders = load_encoders(config)
    words = load_encoder("builtin:words", width=64, max_tokens=64)
    assert encoders["text"].fingerprint == words.fingerprint
    again = Config.from_dict(config.model_dump(mode="json"))  # as a run folder holds it
    assert load_encoders(again)["text"].fingerprint == words.fingerprint

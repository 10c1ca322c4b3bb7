"""A predictor on disk: what is wrong with it is one line, and nothing in it is a pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from saved import edit, edit_tensors, mend

from fli2moe import __version__, run_folder
from fli2moe.config import Config
from fli2moe.data.sample import Dataset
from fli2moe.encoders import load_encoder
from fli2moe.encoders.builtin import BuiltinPatches
from fli2moe.errors import InputError, MachineError
from fli2moe.predictor import Predictor
from fli2moe.run_folder import RUN_FILES, environment, load_encoders, run_config

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
    assert set(RUN_FILES) - {"metrics.json"} <= names
    suffixes = {p.suffix for p in tiny_run.rglob("*") if p.is_file()}
    assert suffixes <= {".yaml", ".json", ".safetensors", ".md"}
    for path in tiny_run.rglob("*.safetensors"):
        assert b"pickle" not in path.read_bytes()[:2000]
    known = json.loads((tiny_run / "environment.json").read_text())
    assert known == environment() | {"threads": known["threads"]}
    assert {"torch", "transformers", "safetensors", "pillow"} <= set(known["packages"])
    assert set(load_file(tiny_run / "baseline.safetensors")) == {"text", "image"}


@pytest.mark.parametrize(
    "name", ["model.safetensors", "baseline.safetensors", "selftest.safetensors", "config.json"]
)
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
    assert message(run).endswith("copy the folder anew, or train again")


def test_a_file_that_is_not_listed_does_not_pass_unchecked(run: Path):
    for name in ("config.json", "baseline.safetensors"):
        before = (run / "predictor.json").read_bytes()
        edit(run / "predictor.json", lambda card, name=name: card["sha256"].pop(name))
        assert f"{name}: missing or damaged" in message(run)
        (run / "predictor.json").write_bytes(before)


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "fli2moe/predictor/9", "version": "0.8.0"}, "of a newer version, 0.8.0"),
        ({"version": "77.0.0"}, "of a newer version, 77.0.0"),
        ({"format": "fli2moe/predictor/2"}, "of an older version, "),
        ({"format": "somebody/else"}, "format 'somebody/else'; expected fli2moe/predictor/3"),
    ],
)
def test_another_format_names_both_versions(run: Path, change: dict[str, str], said: str):
    edit(run / "predictor.json", lambda card: card.update(change))
    line = message(run)
    assert line.startswith(f"{run / 'predictor.json'}: format ")
    assert said in line
    assert f"fli2moe/predictor/3, as written by fli2moe {__version__}" in line


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


def put(path: Path, key: str, value: Any) -> None:
    """Sets `section.key` of a YAML file."""
    data = yaml.safe_load(path.read_text())
    *sections, last = key.split(".")
    inner = data
    for section in sections:
        inner = inner[section]
    inner[last] = value
    path.write_text(yaml.safe_dump(data, sort_keys=False))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("hidden", 32, "16"), ("heads", 4, "2"), ("positions", "none", "learned")],
)
def test_settings_that_are_not_the_models_are_refused(
    run: Path, key: str, value: Any, expected: str
):
    put(run / "config.yaml", f"model.{key}", value)
    found = f"{run / 'config.yaml'}: model.{key}: {value}; expected {expected}, with which the"
    assert message(run).startswith(found)


def test_other_labels_than_the_models_are_refused(run: Path):
    original = (run / "predictor.json").read_bytes()

    def swap(card: dict[str, Any]) -> None:
        card["classes"][:2] = reversed(card["classes"][:2])

    edit(run / "predictor.json", swap)
    line = message(run)
    assert line.startswith(f"{run / 'predictor.json'}: classes: ['match', 'dog', ")
    assert "expected those of config.json, ['dog', 'match', " in line
    (run / "predictor.json").write_bytes(original)
    edit(run / "config.json", lambda data: data.update(labels=None))
    mend(run)
    edit(run / "predictor.json", lambda card: card["classes"].append("more"))
    assert "predictor.json: classes: 5 names; expected 4" in message(run)
    edit(run / "predictor.json", lambda card: card["classes"].pop())
    assert Predictor.load(run).task.classes == ("dog", "match", "star", "sunny")
    put(run / "config.yaml", "data.classes", ["sunny", "star", "match", "dog"])
    assert "expected those of config.yaml, ['sunny', " in message(run)


def test_a_config_that_names_other_classes_is_not_saved(predictor: Predictor, tmp_path: Path):
    data = predictor.config.data.model_copy(update={"classes": ("dog", "cat")})
    config = predictor.config.model_copy(update={"data": data})
    with pytest.raises(
        InputError, match=r"task\.classes: \['dog', .*those of the config, \['dog',"
    ):
        replace(predictor, config=config).save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_modalities_than_the_models_are_refused(run: Path):
    edit(run / "predictor.json", lambda card: card["modalities"].pop("text"))
    assert "predictor.json: modalities: ['image']; expected those of config.json" in message(run)
    edit(run / "predictor.json", lambda card: card["modalities"].update(text={"kind": "text"}))
    assert "predictor.json: damaged: 'identity'" in message(run)


def test_other_modalities_in_the_settings_are_refused(run: Path):
    put(run / "config.yaml", "data.modalities.audio", {"encoder": "builtin:words"})
    line = message(run)
    assert line.startswith(f"{run / 'config.yaml'}: modalities: ['text', 'image', 'audio']; ")
    assert "expected those of config.json, ['text', 'image']" in line


class Wider:
    """Says that it is another encoder, and is not as wide."""

    def __init__(self, encoder: Any) -> None:
        self.kind, self.identity, self.fingerprint = (
            encoder.kind,
            encoder.identity,
            encoder.fingerprint,
        )
        self.width = encoder.width + 1


def test_an_encoder_of_another_width_is_refused(run: Path, predictor: Predictor):
    encoders: dict[str, Any] = {"text": Wider(predictor.encoders["text"])}
    with pytest.raises(InputError) as caught:
        Predictor.load(run, encoders)
    found = "modality text: the encoder gives features of width 65; expected the model's 64; "
    assert found in str(caught.value)


def test_a_changed_weight_with_mended_checksums_is_found_by_the_self_test(run: Path):
    edit_tensors(run / "model.safetensors", lambda x: x["classifier.weight"].mul_(1.01))
    line = message(run)
    assert line.startswith(f"{run / 'selftest.safetensors'}: on cpu the logits differ by ")
    assert "computes other numbers than where the model was saved" in line


def test_a_baseline_of_another_width_is_refused(run: Path):
    edit_tensors(run / "baseline.safetensors", lambda x: x.update(text=torch.zeros(3)))
    assert "baseline: shapes " in message(run)


def test_a_model_with_weights_that_are_not_finite_is_not_saved(
    predictor: Predictor, tmp_path: Path
):
    broken = predictor.to("cpu")
    with torch.no_grad():
        broken.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="NaN or infinite logits"):
        broken.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


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

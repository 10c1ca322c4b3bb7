"""A saved model comes back bit for bit, or with one line that says why not."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from saved import config_of, edit, edit_tensors, mend, refusal, run_usage
from tiny import CLASSES, THREE, WIDTHS, tiny_batch, tiny_model
from torch import Tensor

from fli2moe import __version__
from fli2moe.errors import InputError
from fli2moe.model import (
    MODELS,
    DenseTransformer,
    FLI2MoE,
    FusionModel,
    from_pretrained,
    save_pretrained,
)
from fli2moe.model.pretrained import read_config

LABELS = ("dog", "star", "sun")
FILES = {"config.json", "model.safetensors", "selftest.safetensors", "README.md"}


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "none"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_bit_for_bit(
    name: str, positions: str, precision: torch.dtype, tmp_path: Path
):
    model = tiny_model(name, THREE, positions=positions).to(precision)
    for m, width in THREE.items():
        model.standardise(m, torch.linspace(-9, 9, width), torch.linspace(0.1, 2, width))
    config = config_of(name, positions=positions)
    again = from_pretrained(save_pretrained(model, config, tmp_path))
    assert type(again) is type(model)
    assert (again.widths, again.experts) == (model.widths, model.experts)
    assert not again.training
    state = model.state_dict()
    assert state.keys() == again.state_dict().keys()
    assert all(torch.equal(x, state[name]) for name, x in again.state_dict().items())
    batch = tiny_batch(widths=THREE)
    tokens = {m: t.with_features(t.features.to(precision)) for m, t in batch.items()}
    with torch.no_grad():
        one, two = model(type(batch)(tokens)), again(type(batch)(tokens))
    assert one.logits.dtype == precision
    assert torch.equal(one.logits, two.logits)
    assert torch.equal(one.weights, two.weights)


def test_one_position_is_enough(tmp_path: Path):
    model = tiny_model(max_positions=1)
    again = from_pretrained(save_pretrained(model, config_of(max_positions=1), tmp_path))
    assert torch.equal(again.positions.table["text"], model.positions.table["text"])


def test_the_folder_says_what_it_holds(folder: Path):
    assert {path.name for path in folder.iterdir()} == FILES
    about = read_config(folder)
    assert about.model == config_of()
    assert (about.widths, about.classes, about.labels) == (WIDTHS, CLASSES, LABELS)
    assert (about.version, about.torch) == (__version__, torch.__version__)
    assert set(about.sha256) == {"model.safetensors", "selftest.safetensors"}


def test_saving_and_loading_leave_everything_else_as_it_was(tmp_path: Path):
    model = tiny_model().train()
    next(model.parameters()).requires_grad_(False)
    before = torch.get_rng_state()
    from_pretrained(save_pretrained(model, config_of(), tmp_path))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["model.safetensors", "selftest.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damage_is_found_by_checksum(folder: Path, name: str, damage: str):
    path, data = folder / name, bytearray((folder / name).read_bytes())
    data[-2] ^= 4
    path.write_bytes({"flip": data, "cut": data[:-9], "empty": b"", "gone": b""}[damage])
    if damage == "gone":
        path.unlink()
    assert refusal(folder).startswith(f"{path}: missing or damaged; expected sha256 ")
    assert refusal(folder).endswith("copy the folder anew, or train again")


@pytest.mark.parametrize("name", ["model.safetensors", "selftest.safetensors"])
def test_a_file_that_is_not_listed_does_not_pass_unchecked(folder: Path, name: str):
    edit(folder / "config.json", lambda data: data["sha256"].pop(name))
    assert f"{name}: missing or damaged" in refusal(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "selftest.safetensors"])
def test_a_pickle_is_not_read(folder: Path, name: str):
    (folder / name).write_bytes(b"\x80\x04cos\nsystem\n.")  # how a pickle begins
    mend(folder)
    assert f"{name}: not readable" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "fli2moe/model/2", "version": "0.9.0"}, ["of a newer version, 0.9.0", "0.9.0"]),
        ({"version": "99.0.0"}, ["of a newer version, 99.0.0", "install fli2moe 99.0.0 or newer"]),
        ({"format": "fli2moe/model/0"}, ["of an older version", "train again, or install"]),
        ({"format": "another/model/1"}, ["format 'another/model/1'; expected fli2moe/model/1"]),
        ({"format": "fli2moe/model/" + "9" * 5000}, ["expected fli2moe/model/1"]),
        ({"format": None}, ["format 'None'; expected fli2moe/model/1"]),
        ({"version": None}, ["damaged: version 'None'"]),
        ({"version": "x" * 5000}, ["damaged: version 'xxx"]),
    ],
)
def test_another_format_or_version_is_one_line(
    folder: Path, change: dict[str, Any], said: list[str]
):
    edit(folder / "config.json", lambda data: data.update(change))
    line = refusal(folder)
    assert line.startswith(f"{folder / 'config.json'}: ")
    assert all(part in line for part in said)
    assert __version__ in line


def test_another_version_that_computes_the_same_is_no_obstacle(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    edit(folder / "config.json", lambda data: data.update(version="0.0.7", torch="1.2.3"))
    with caplog.at_level("WARNING", "fli2moe"):
        from_pretrained(folder)
    assert not caplog.messages


def test_a_model_that_could_not_be_loaded_is_not_saved(tmp_path: Path):
    model = tiny_model()
    with torch.no_grad():
        model.classifier.bias[0, 0] = float("nan")
    with pytest.raises(InputError, match="model: NaN or infinite logits"):
        save_pretrained(model, config_of(), tmp_path)
    for config in (config_of(heads=4), config_of(router={"temperature": 5.0, "hidden": 6})):
        with pytest.raises(InputError, match="of this configuration gives other logits"):
            save_pretrained(tiny_model(), config, tmp_path)
    with pytest.raises(InputError, match="tensors do not fit"):
        save_pretrained(tiny_model(), config_of("dense"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "b"], [], ["a", "b", "c", "d"]])
def test_labels_that_are_not_the_models_are_refused(folder: Path, labels: list[str]):
    with pytest.raises(InputError, match=r"labels: \d names, .*expected 3 different names"):
        save_pretrained(tiny_model(), config_of(), folder, labels=labels)
    edit(folder / "config.json", lambda data: data.update(labels=labels))
    assert f"{folder / 'config.json'}: labels: {len(labels)} names" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(classes=4, labels=None), "expected (4, 4), (4, 4, 16)"),
        (lambda data: data["widths"].update(text=6), "projections.text.deviation (5,)"),
        (lambda data: data["widths"].update(audio=6), "tensors do not fit config.json"),
        (lambda data: data["widths"].pop("text"), "one modality (image)"),
        (lambda data: data["widths"].update(text=0), "config.json: widths.text: 0"),
        (lambda data: data["widths"].update(text=True), "config.json: widths.text: True"),
        (lambda data: data.update(widths={"train": 5, "image": 3}), "modality 'train'"),
        (lambda data: data["model"].update(hidden=16), "tensors do not fit config.json"),
        (lambda data: data["model"].update(hidden=2**60), "no such model can be built"),
        (lambda data: data["model"].update(layers=10**12), "tensors for 1000000000000 layers"),
        (lambda data: data["model"]["router"].update(layers=10**12), "tensors for 2 layers"),
        (lambda data: data["model"].update(unheard=1), "config.json: model.unheard: unknown key"),
        (lambda data: data["model"].update(name="dense"), "tensors do not fit config.json"),
        (lambda data: data.pop("widths"), "config.json: widths: missing"),
        (lambda data: data.pop("sha256"), "config.json: sha256: missing"),
        (lambda data: data.update(extra="x"), "config.json: extra: unknown key"),
    ],
)
def test_a_config_that_is_not_the_weights_is_one_line(
    folder: Path, change: Callable[[dict[str, Any]], Any], said: str
):
    edit(folder / "config.json", change)
    assert said in refusal(folder)


def test_an_option_of_another_version_names_that_version(folder: Path):
    edit(folder / "config.json", lambda data: data["model"].update(unheard=1))
    edit(folder / "config.json", lambda data: data.update(version="0.9.1"))
    expected = f"it was saved by fli2moe 0.9.1, and this is {__version__}"
    assert refusal(folder).endswith(expected)


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "{}", "null", "[" * 100_000])
def test_a_damaged_config_is_one_line(folder: Path, content: str):
    (folder / "config.json").write_text(content)
    assert refusal(folder).startswith(f"{folder / 'config.json'}: ")


def rename(tensors: dict[str, Tensor], old: str, new: str) -> None:
    tensors[new] = tensors.pop(old)


def retype(tensors: dict[str, Tensor], name: str, kind: torch.dtype) -> None:
    tensors[name] = tensors[name].to(kind)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("model", lambda x: rename(x, "classifier.bias", "extra"), "2 tensors do not fit"),
        ("model", lambda x: x.clear(), "0 tensors for 2 layers"),
        ("model", lambda x: retype(x, "classifier.bias", torch.int32), "torch.int32"),
        ("model", lambda x: retype(x, "classifier.bias", torch.float64), "torch.float64"),
        ("selftest", lambda x: rename(x, "logits", "logit"), "logit ((2, 5, 3)"),
        ("selftest", lambda x: x.pop("mask.text"), "features.text"),
        ("selftest", lambda x: x.clear(), "features.image missing does not fit the model"),
        ("selftest", lambda x: retype(x, "logits", torch.float64), "torch.float64"),
        ("selftest", lambda x: retype(x, "mask.text", torch.uint8), "torch.uint8"),
        ("selftest", lambda x: x.update({"mask.text": torch.ones(2).bool()}), "(2, 1, 5)"),
        ("selftest", lambda x: x.update(weights=torch.ones(1, 4)), "weights ((1, 4)"),
    ],
)
def test_tensors_that_are_not_the_models_are_named(
    folder: Path, file: str, change: Callable[[dict[str, Tensor]], Any], said: str
):
    path = folder / f"{file}.safetensors"
    edit_tensors(path, change)
    line = refusal(folder)
    assert line.startswith(f"{path}: ")
    assert said in line


def test_a_local_folder_is_never_asked_of_the_hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fetched: list[dict[str, Any]]
):
    monkeypatch.chdir(folder.parent.parent)
    name = f"{folder.parent.name}/{folder.name}"  # looks like owner/name
    assert from_pretrained(name).widths == WIDTHS
    assert from_pretrained(folder).widths == WIDTHS
    assert not fetched


@pytest.fixture
def fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the hub was asked for; it has `folder` under every name, and there is no network."""
    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def download(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        return str(folder)

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


def test_a_name_of_the_hub_is_fetched_without_pickles(fetched: list[dict[str, Any]]):
    assert from_pretrained("owner/name", revision="v1", token="t").widths == WIDTHS
    (asked,) = fetched
    assert (asked["name"], asked["revision"], asked["token"]) == ("owner/name", "v1", "t")
    assert set(asked["allow_patterns"]) == FILES
    assert asked["local_files_only"] is False


def test_the_card_loads_the_model_as_it_says(folder: Path):
    assert "{'text': 5, 'image': 3}" in run_usage(folder)


def test_a_card_that_was_given_or_edited_stays(folder: Path, caplog: pytest.LogCaptureFixture):
    path = folder / "README.md"
    written = path.read_text(encoding="utf-8")
    save_pretrained(tiny_model(), config_of(), folder)
    assert path.read_text(encoding="utf-8") != written  # without labels now
    save_pretrained(tiny_model(), config_of(), folder, card="mine")
    assert path.read_text(encoding="utf-8") == "mine"
    with caplog.at_level("WARNING", "fli2moe"):
        save_pretrained(tiny_model(), config_of(), folder, labels=LABELS)
    assert path.read_text(encoding="utf-8") == "mine"
    assert caplog.messages == [f"{path}: not as this library wrote it, so it is left as it is"]


def test_a_model_saves_itself_and_its_class_reads_it(tmp_path: Path) -> None:
    model = tiny_model().float()
    folder = model.save_pretrained(tmp_path, labels=LABELS)
    again = FLI2MoE.from_pretrained(folder)
    assert parts_equal(model, again)
    assert again.config == model.config
    with pytest.raises(InputError, match=r"a FLI2MoE; expected a DenseTransformer"):
        DenseTransformer.from_pretrained(folder)
    assert isinstance(FusionModel.from_pretrained(folder), FLI2MoE)


def parts_equal(a: FusionModel, b: FusionModel) -> bool:
    states = (a.state_dict(), b.state_dict())
    return states[0].keys() == states[1].keys() and all(
        torch.equal(x, states[1][name]) for name, x in states[0].items()
    )

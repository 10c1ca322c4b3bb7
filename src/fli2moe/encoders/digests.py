"""An encoder's two digests: what it is, and what its features were computed with.

`identity` decides whether an encoder is the one that a model was trained with; `fingerprint` adds
the versions of the libraries that compute the features, and keys the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from fli2moe.files import file_digest, json_digest

MODEL_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors")
"""The files of a Hugging Face folder that features depend on: config, tokenizer, weights."""


def identity_of(options: Mapping[str, object], folder: Path | None = None) -> str:
    """Returns the sha256 of an encoder's class and options, and of the files of its model folder.

    Args:
        options: the encoder's class and options, JSON values.
        folder: the model folder, where there is one; its place on the machine does not count.
    """
    found = set() if folder is None else {p for name in MODEL_FILES for p in folder.glob(name)}
    files = {path.name: file_digest(path) for path in found}
    return json_digest(options=dict(options), files=files)


def fingerprint_of(identity: str, libraries: Iterable[str]) -> str:
    """Returns the sha256 of an identity and the installed versions of some libraries."""
    versions = {name: metadata.version(name) for name in libraries}
    return json_digest(identity=identity, libraries=versions)

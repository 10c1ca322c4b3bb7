"""What every saved folder has: a format that says which version wrote it, files with checksums."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fli2moe import __version__
from fli2moe.errors import InputError
from fli2moe.files import read_json

if TYPE_CHECKING:
    from torch import Tensor

AGAIN = "copy the folder anew, or train again"


def read_format(path: Path, expected: str) -> dict[str, Any]:
    """Reads a JSON object of one format, written by this major version or an older one.

    Args:
        path: the file.
        expected: name and number, `fli2moe/model/1`.

    Raises:
        InputError: when it is missing or damaged, the format is another one, or a newer major
            version wrote it.
    """
    data = read_json(path, AGAIN)
    written, version = (
        (data.get("format"), data.get("version")) if isinstance(data, dict) else (None, None)
    )
    name, _, number = expected.rpartition("/")
    known = f"{expected}, as written by fli2moe {__version__}"
    match = re.fullmatch(rf"{name}/(\d{{1,9}})", str(written), re.ASCII)
    if match is None:
        raise InputError(str(path), f"format {str(written)[:80]!r}", known, AGAIN)
    said = re.fullmatch(r"(\d{1,9})\.[\w.+-]{1,40}", str(version), re.ASCII)
    if said is None:
        raise InputError(str(path), f"damaged: version {str(version)[:80]!r}", known, AGAIN)
    newer_major = int(said[1]) > int(__version__.split(".")[0])
    if int(match[1]) > int(number) or newer_major:
        found = f"format {written!r} of a newer version, {version}"
        raise InputError(str(path), found, known, f"install fli2moe {version} or newer")
    if int(match[1]) < int(number):
        found = f"format {written!r} of an older version, {version}"
        raise InputError(str(path), found, known, f"train again, or install fli2moe {version}")
    return dict(data)


def read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    """Reads a safetensors file once, checks its bytes, and returns the tensors of those bytes.

    Raises:
        InputError: when it is missing, has another sha256 than `digest`, or is no safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError:
        content = None
    if content is None or hashlib.sha256(content).hexdigest() != digest:
        raise InputError(str(path), "missing or damaged", f"sha256 {digest[:12]}", AGAIN)
    try:
        tensors: dict[str, Tensor] = load(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(str(path), f"not readable: {error}", "safetensors", AGAIN) from None
    return tensors

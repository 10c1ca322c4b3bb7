"""Names for groups of runs, from what their configurations differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fli2moe.config import Config

NAMED_BY = (
    "losses.decorrelation",
    "losses.variant",
    "losses.router",
    "preset",
    "losses.interaction",
)
"""Options that tell groups apart before any other does, after the model's name."""


def group_names(configs: Sequence[Config]) -> list[str]:
    """Returns a name for each group of runs: the model, and as little as tells it from others.

    An option is said where it is not the preset's default: `fli2moe`, `fli2moe, decorrelation cka`.
    Options of the data have no default, and are always said.

    Args:
        configs: one of each group; no two are equal but for the seed.
    """
    options = [flat(c.model_dump(mode="json", exclude={"seed"})) for c in configs]
    usual = [flat(_defaults(c).model_dump(mode="json")) for c in configs]
    names: list[str] = [config.model.name for config in configs]
    differing = differing_keys(options)
    ordered = [key for key in NAMED_BY if key in differing]
    for key in [*ordered, *(key for key in differing if key not in ordered)]:
        said = [
            f"{name}, {_said(key, own)}"
            if key in own and (key.startswith("data.") or own[key] != default.get(key))
            else name
            for name, own, default in zip(names, options, usual, strict=True)
        ]
        for name in dict.fromkeys(names):
            alike = [n for n, other in enumerate(names) if other == name]
            if len({said[n] for n in alike}) > 1:
                for n in alike:
                    names[n] = said[n]
    return names


def _said(key: str, options: Mapping[str, Any]) -> str:
    """`losses.decorrelation` and `cka` as `decorrelation cka`."""
    return f"{key.partition('.')[2] or key} {options[key]}"


def _defaults(config: Config) -> Config:
    """What the preset alone says; `small` is the usual preset."""
    data = {"preset": config.preset, "data": config.data.model_dump(mode="json")}
    return Config.from_dict(data).model_copy(update={"preset": "small"})


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns {`section.key`: value} of nested mappings."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def differing_keys(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the keys under which not all have the same; to lack a key is a value of its own."""
    keys = dict.fromkeys(key for one in values for key in one)
    return [key for key in keys if len({repr(one.get(key, ...)) for one in values}) > 1]

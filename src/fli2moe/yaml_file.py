"""YAML with the safe loader; a key given twice is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fli2moe.errors import InputError, closest


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""


def _mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key, (key_node, _) in zip(keys, node.value, strict=True):
        if keys.count(key) > 1:
            line = key_node.start_mark.line + 1
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} twice, line {line}")
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping with the safe loader; a key given twice is an error.

    Raises:
        InputError: when the file is missing, is no YAML, or is no mapping.
    """
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        match = closest(path.name, siblings)
        remedy = f"did you mean {match}?" if match else "check the path"
        raise InputError(str(path), "no such file", "a YAML configuration", remedy)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"not valid YAML: {error}", "a YAML mapping") from None
    if not isinstance(data, dict):
        raise InputError(str(path), f"{type(data).__name__} at the top", "a YAML mapping")
    return data

"""YAML with the safe loader; a key given twice is an error."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from fli2moe.errors import InputError, closest

_MERGE = "tag:yaml.org,2002:merge"  # the key `<<`, whose values the mapping's own keys override


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""


def _mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        mark = key_node.start_mark
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key that is no name", mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} twice", mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping with the safe loader; a key given twice is an error.

    Raises:
        InputError: when the file is missing or unreadable, is no YAML, or is no mapping; it names
            the line where there is one.
    """
    try:
        found = path.is_file()
        text = path.read_text(encoding="utf-8") if found else ""
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"no UTF-8 text: {error.reason}", "a YAML mapping") from None
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}") from None
    if not found:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        match = closest(path.name, siblings)
        remedy = f"did you mean {match}?" if match else "check the path"
        raise InputError(str(path), "no such file", "a YAML configuration", remedy)
    data = _parse(text, str(path))
    if not isinstance(data, dict):
        kind = "nothing in it" if data is None else f"a {type(data).__name__} at the top"
        raise InputError(str(path), kind, "a YAML mapping")
    return data


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = error.problem or error.context
    except RecursionError:
        line, problem = "", "nested too deeply"
    except (yaml.YAMLError, ValueError) as error:  # ValueError: dates and numbers that are none
        line, problem = "", str(error).partition("\n")[0]
    raise InputError(f"{where}{line}", f"not valid YAML: {problem}", "a YAML mapping")

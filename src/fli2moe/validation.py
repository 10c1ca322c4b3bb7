"""What pydantic found wrong with a section, as one line a user can act on."""

from __future__ import annotations

import re
import reprlib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fli2moe.errors import InputError, closest

_EXPECTED = {
    "missing": "a value",
    "string_type": "text; a number is put in quotes",
    "string_too_short": "text that is not empty",
    "invalid_key": "a name (text)",
    "dict_type": "a section (key: value)",
    "model_type": "a section (key: value)",
}
_SHORT = reprlib.Repr()  # a value may be huge: aliases in YAML multiply
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def explain_validation(error: ValidationError, root: type[BaseModel], where: str) -> InputError:
    """Returns the first problem of `error`: the key, what was found, what was expected.

    Args:
        error: raised by validating data against `root`.
        root: the outermost section.
        where: the file or argument the data came from.
    """
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"] if part != "[key]"]
    key = f"{where}: {'.'.join(path)}"
    kind = first["type"]
    if kind == "extra_forbidden":
        names = list(_section(root, path[:-1]).model_fields)
        match = closest(path[-1], names)
        remedy = f"did you mean {match!r}?" if match else "remove it"
        return InputError(key, "unknown key", f"one of {', '.join(names)}", remedy)
    empty = "missing" if kind == "missing" else "nothing" if first["input"] is None else None
    found = empty or _SHORT.repr(first["input"])
    expected = _EXPECTED.get(kind, first["msg"].removeprefix("Input should be "))
    match = None
    if kind == "literal_error" and isinstance(first["input"], str):
        match = closest(first["input"], re.findall("'([^']*)'", expected))
    return InputError(key, found, expected, f"did you mean {match!r}?" if match else "")


def _section(root: type[BaseModel], path: list[str]) -> type[BaseModel]:
    """The section that a path of keys leads to; names in a mapping of sections are free."""
    section: Any = root
    for part in path:
        if isinstance(section, type) and issubclass(section, BaseModel):
            section = section.model_fields[part].annotation
        else:
            section = get_args(section)[-1]  # Mapping[str, Section]
    return section if isinstance(section, type) else root

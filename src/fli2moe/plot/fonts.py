"""Fonts for texts in any script: those of the system where they have what a text needs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache

FIRST = "DejaVu Sans"  # comes with matplotlib
OTHERS = (
    *(
        "Noto Sans CJK JP",
        "Noto Sans CJK SC",
        "Noto Sans JP",
        "Source Han Sans",
        "WenQuanYi Zen Hei",
    ),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Bengali"),
    *("Noto Sans Tamil", "Noto Sans Thai", "Noto Sans Ethiopic", "Noto Sans Georgian"),
    *("Noto Sans Armenian", "Noto Sans Symbols", "Noto Sans Symbols2", "Noto Emoji", "Symbola"),
    *("Segoe UI Emoji", "Segoe UI Symbol", "Apple Symbols", "Arial Unicode MS"),
)
"""Families that are tried in this order; the drawing library cannot draw colour fonts."""
MISSING = "\u25a1"  # a box, in place of what no font has


def fonts_for(text: str) -> list[str]:
    """Returns families that together hold the characters of a text, as far as there are any."""
    left = {ord(c) for c in text} - _characters(FIRST)
    found = [FIRST]
    for family in OTHERS if left else ():
        if had := left & _characters(family):
            found.append(family)
            left -= had
        if not left:
            break
    return found


def drawable(text: str, families: Iterable[str]) -> str:
    """Returns the text with a box for each character that none of the families has."""
    there = frozenset().union(*(_characters(family) for family in families))
    return "".join(c if ord(c) in there else MISSING for c in text)


@cache
def _characters(family: str) -> frozenset[int]:
    """The characters of an installed family; none of one that is not installed."""
    from matplotlib import font_manager

    path = _installed().get(family)
    return frozenset() if path is None else frozenset(font_manager.get_font(path).get_charmap())


@lru_cache(maxsize=1)
def _installed() -> dict[str, str]:
    """{family: file} of the upright, regular face of each installed family."""
    from matplotlib import font_manager

    found: dict[str, str] = {}
    for font in font_manager.fontManager.ttflist:
        if font.style == "normal" and font.weight in (400, "normal", "regular"):
            found.setdefault(font.name, font.fname)
    return found

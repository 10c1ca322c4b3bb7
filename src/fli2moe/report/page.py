"""Writes the report: one HTML file that needs nothing else and asks nobody for anything."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fli2moe import __version__
from fli2moe.data.sample import Sample
from fli2moe.display.pictures import LONGEST_SIDE
from fli2moe.display.templates import Templates
from fli2moe.display.wording import SENTENCES
from fli2moe.errors import InputError
from fli2moe.explain.explanation import Explanation
from fli2moe.files import complete_file
from fli2moe.report.cards import card, task_of
from fli2moe.report.overview import charts, frequent_pairs
from fli2moe.report.tables import tables

SCRIPTS = ("dom.js", "input.js", "curves.js", "panels.js", "card.js", "page.js")
MANY = 200  # samples beyond which pictures are smaller and data packed, so that the page opens
PAGE = 50  # samples of the gallery at a time
TITLE = "What the model saw, and what it combined"


def write(
    explanations: Sequence[Explanation],
    samples: Sequence[Sample],
    path: str | Path,
    *,
    title: str = TITLE,
    about: Mapping[str, str] | None = None,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
    measured: Mapping[str, Any] | None = None,
    notice: str = "",
) -> Path:
    """Writes one self-contained HTML page and returns its path.

    The page is complete or absent: it is written beside `path` and then put in its place.

    Args:
        explanations: in the order of the page; several of one sample (one per target) share a card.
        samples: the samples they explain, found by id; others are left out. An explanation without
            an id is of the sample in its place, where there are as many samples as explanations.
        path: where the page goes.
        title: heading of the page.
        about: {name: value} facts under the heading, such as the data set and the model.
        metrics: {table title: {`columns`: names, `rows`: lists of values, `note`: sentence}}.
        measured: `metrics.json` as `evaluate` wrote it, for the charts.
        notice: what a reader is told of the content before seeing any of it.

    Raises:
        InputError: when there is no explanation, when one lacks its sample, or when the folder of
            `path` does not exist.
        MachineError: when the page cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        where = f"report {path.name}"
        raise InputError(where, "its folder does not exist", "an existing folder", "make it first")
    html = render(
        explanations,
        samples,
        title=title,
        about=about,
        metrics=metrics,
        measured=measured,
        notice=notice,
    )
    with complete_file(path) as temporary:
        # a lone surrogate becomes a question mark
        temporary.write_bytes(html.encode("utf-8", "replace"))
    return path


def render(
    explanations: Sequence[Explanation],
    samples: Sequence[Sample],
    *,
    title: str = TITLE,
    about: Mapping[str, str] | None = None,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
    measured: Mapping[str, Any] | None = None,
    notice: str = "",
) -> str:
    """Returns the page that `write` writes; same arguments, same characters."""
    if not explanations:
        raise InputError("report", "no explanation", "at least one", "explain a sample first")
    by_id = {s.id: s for s in samples}
    groups: dict[str, list[Explanation]] = {}
    for name, explanation in zip(_sample_ids(explanations, samples), explanations, strict=True):
        if name not in by_id:
            where, remedy = f"report, explanation of {name!r}", ""
            if not name:
                remedy = "give explain() a sample_id, or one sample for each explanation"
            raise InputError(where, "its sample is missing", "a sample of the same id", remedy)
        groups.setdefault(name, []).append(explanation)
    task = task_of(explanations, [by_id[i] for i in groups])
    longest = LONGEST_SIDE if len(groups) <= MANY else LONGEST_SIDE // 2
    cards = [card(by_id[i], group, task, longest) for i, group in groups.items()]
    shown = {**frequent_pairs(groups, by_id), **(metrics or {})}
    body = {
        "title": title,
        "about": about or {},
        "notice": notice,
        "charts": charts(measured or {}, explanations),
        "metrics": tables(shown),
    }
    return _fill(cards, body)


def _sample_ids(explanations: Sequence[Explanation], samples: Sequence[Sample]) -> list[str]:
    """Returns the id of each explanation's sample: its own, or that of the sample in its place."""
    if len(explanations) != len(samples):
        return [e.sample_id for e in explanations]
    return [e.sample_id or s.id for e, s in zip(explanations, samples, strict=True)]


def _fill(cards: list[dict[str, Any]], about: dict[str, Any]) -> str:
    templates = Templates("fli2moe.report")
    gallery = [
        {key: c[key] for key in ("id", "icon", "predicted", "right", "classes", "expert")}
        for c in cards
    ]
    pack = _packed if len(cards) > MANY else _safe_json
    data = [pack(c) for c in cards]
    body = {
        **about,
        "gallery": gallery,
        "cards": data,
        "classes": sorted({name for c in cards for name in c["classes"]}),
        "experts": sorted({c["expert"] for c in cards if c["expert"]}),
    }
    # The nonce must be out of reach of whoever wrote the data; they cannot know a hash over it.
    digest = hashlib.sha256(repr((body, __version__)).encode("utf-8", "replace"))
    return templates.render(
        "page.html.j2",
        **body,
        page=PAGE,
        packed=len(cards) > MANY,
        nonce=digest.hexdigest()[:32],
        version=__version__,
        sentences=_safe_json(SENTENCES),
        planted=any(v["truth"] for c in cards for v in c["views"]),
        style=templates.raw("page.css"),
        script=Markup("\n").join(templates.raw(name) for name in SCRIPTS),
    )


def _packed(value: Any) -> Markup:
    """The same, gzipped, in base64: a fifth of the size; the page unpacks what it shows."""
    data = gzip.compress(_safe_json(value).encode("ascii"), mtime=0)
    return Markup(base64.b64encode(data).decode("ascii"))


def _safe_json(value: Any) -> Markup:
    # Only ASCII leaves json.dumps, so U+2028 and U+2029 are escaped already.
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)

"""Explanations made by hand: a picture of shapes with a caption, and odder inputs."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fli2moe.data.sample import Cause, Sample
from fli2moe.explain.explanation import Explanation, TokenScores
from fli2moe.explain.players import join_players
from fli2moe.explain.scores import PairScores
from fli2moe.tokens import Player

EVIL = "<script>document.title='pwned'</script></script><img src=x onerror=alert(1)>\"'{{7*7}}"
HEADS = ("mixture", "unique_text", "unique_image", "synergy", "redundancy")
CLASSES = ("colour match", "sunny day", "a dog", "a star")
CAPTION = "a red dog plays in the sunny garden near the old gate"
COLOURS = {
    "red": "#d8412f",
    "blue": "#2f6fd8",
    "green": "#3c9a57",
    "yellow": "#e5b82e",
    "grey": "#8b8f99",
}


def draw_shapes(path: Path, seed: int = 0) -> Path:
    """A 64 x 64 picture on a 4 x 4 grid: the framed red square at (48, 16), a sun at (0, 0)."""
    rng = random.Random(seed)
    picture = Image.new("RGB", (64, 64), "#f3efe6")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((3, 3, 12, 12), fill=COLOURS["yellow"], outline="#c98a12")
    things = {(16, 32): "blue", (32, 0): "green", (48, 48): "yellow", (0, 48): "red"}
    for (x, y), colour in things.items():
        box = (x + 4, y + 4, x + 11, y + 11)
        (pen.ellipse if rng.random() < 0.5 else pen.rectangle)(box, fill=COLOURS[colour])
    pen.rectangle((49, 17, 62, 30), outline="#22242c")
    pen.polygon([(56, 20), (60, 28), (52, 28)], fill=COLOURS["red"])
    picture.save(path)
    return path


def word_players(text: str, modality: str = "text") -> list[Player]:
    found = re.finditer(r"\S+", text)
    return [Player(modality, (i,), ((m.start(), m.end()),), m[0]) for i, m in enumerate(found)]


def patch_players(
    size: tuple[int, int], columns: int, rows: int, modality: str = "image"
) -> list[Player]:
    w, h = size[0] / columns, size[1] / rows
    boxes = [(x * w, y * h, x * w + w, y * h + h) for y in range(rows) for x in range(columns)]
    return [
        Player(modality, (i,), (b,), f"patch ({b[0]:.0f}, {b[1]:.0f})-({b[2]:.0f}, {b[3]:.0f})")
        for i, b in enumerate(boxes)
    ]


def pair_scores(
    index: str,
    players: list[Player],
    planted: dict[tuple[int, int], float],
    *,
    seed: int = 0,
    noise: float = 0.05,
    heads: tuple[str, ...] = ("mixture", "synergy"),
) -> PairScores:
    """All cross-modal pairs: small noise with errors of its size, and the planted values."""
    rng = np.random.default_rng(seed)
    pairs = [
        (i, j)
        for i in range(len(players))
        for j in range(i + 1, len(players))
        if players[i].modality != players[j].modality
    ]
    rows = len(pairs) * len(heads)
    value = rng.normal(0, noise / 2, rows)
    if index == "redundancy_gap":
        value = np.abs(value)
    for h in range(len(heads)):
        for pair, planted_value in planted.items():
            value[h * len(pairs) + pairs.index(pair)] = planted_value * (1 if h == 0 else 0.7)
    first = np.array([i for i, _ in pairs] * len(heads), dtype=np.int64)
    second = np.array([j for _, j in pairs] * len(heads), dtype=np.int64)
    return PairScores(
        index,
        tuple(players),
        first,
        second,
        tuple(head for head in heads for _ in pairs),
        value,
        rng.uniform(noise * 0.6, noise * 1.1, rows),
        np.full(rows, 48, dtype=np.int64),
        settings={"method": "monte_carlo", "budget": 2000},
    )


def token_scores(
    players: list[Player], modality: str, strong: dict[int, float], seed: int = 0
) -> TokenScores:
    own = [p for p in players if p.modality == modality]
    rng = np.random.default_rng(seed)
    scores = {}
    for k, head in enumerate(HEADS):
        base = rng.uniform(0.0, 0.04, len(own))
        for i, value in strong.items():
            base[i] += value * (1.0, 0.3, 0.3, 0.8, 0.5)[k]
        scores[head] = tuple(float(x) for x in base)
    return TokenScores(
        tuple(t for p in own for t in p.tokens), tuple(p.spans[0] for p in own), scores
    )


def shapes(folder: Path, name: str = "shapes-0001", seed: int = 0) -> tuple[Explanation, Sample]:
    """The `colour match` label: `red` together with the framed object at (48, 16)-(64, 32)."""
    path = draw_shapes(folder / f"{seed}.png", seed)
    words, patches = word_players(CAPTION), patch_players((64, 64), 4, 4)
    players = words + patches
    red, sunny = 1, 6
    sun, framed = len(words), len(words) + 7
    synergy = {(red, framed): 1.84, (2, framed): 0.31, (red, sun): 0.22, (sunny, sun): -0.42}
    overlap = {(sunny, sun): 0.93, (8, sun): 0.17}
    explanation = Explanation(
        sample_id=name,
        target="colour match",
        class_index=0,
        task="multilabel",
        classes=CLASSES,
        probabilities=(0.973, 0.991, 0.894, 0.021),
        heads=HEADS,
        expert_weights={
            "unique_text": 0.14, "unique_image": 0.12, "synergy": 0.53, "redundancy": 0.21,
        },
        expert_shares={
            "unique_text": 0.09, "unique_image": 0.07, "synergy": 0.66, "redundancy": 0.18,
        },
        attribution="attention_gradient",
        token_scores={
            "text": token_scores(players, "text", {red: 0.9, sunny: 0.35, 2: 0.25}, seed),
            "image": token_scores(players, "image", {7: 0.8, 0: 0.3, 9: 0.12}, seed + 1),
        },
        players=tuple(players),
        pairs={
            "synergy": pair_scores("SII", players, synergy, seed=seed),
            "redundancy": pair_scores(
                "redundancy_gap", players, overlap, seed=seed, heads=("mixture", "redundancy")
            ),
        },
        inputs={"text": CAPTION, "image": str(path)},
        labels=("colour match", "sunny day", "a dog"),
        sizes={"image": (64, 64)},
        notes=("Each player is one word or one patch.",),
        settings={"baseline": "mean", "score": "centred logit", "contexts": "shapley"},
        seed=seed,
        fingerprint="0f3c9a57e5b82e11",
    )  # fmt: skip
    causes = (
        Cause("colour match", "synergy", {"text": ((2, 5),), "image": ((48, 16, 64, 32),)}),
        Cause("sunny day", "redundancy", {"text": ((23, 28),), "image": ((0, 0, 16, 16),)}),
    )
    sample = Sample(name, {"text": CAPTION, "image": path}, explanation.labels, causes=causes)
    return explanation, sample


def grouped(folder: Path) -> tuple[Explanation, Sample]:
    """`shapes` with pairs between runs of three words and blocks of four patches.

    The group of `red` (a red dog) and the upper right block, which holds the framed object, are the
    clear pair; four of the sixteen pairs were audited.
    """
    explanation, sample = shapes(folder)
    words, patches = list(explanation.players[:12]), list(explanation.players[12:])
    runs = [words[k : k + 3] for k in range(0, 12, 3)]
    blocks = [[patches[r * 4 + c + d] for d in (0, 1, 4, 5)] for r in (0, 2) for c in (0, 2)]
    players = [join_players(group) for group in (*runs, *blocks)]
    synergy = pair_scores("SII", players, {(0, 5): 1.2, (2, 7): 0.15}, seed=1)
    audited = np.tile([1.0, 1.0, 1.0, 1.0, *[0.0] * 12], 2)
    synergy = replace(
        synergy,
        n_contexts=np.where(audited == 1, 40, 4),
        columns={"audited": audited},
        settings={**synergy.settings, "audited_pairs": 4},
    )
    changed = replace(
        explanation,
        players=tuple(players),
        parts=explanation.players,
        pairs={"synergy": synergy},
        notes=("grouped 12 text players into 4 and 16 image players into 4",),
    )
    return changed, sample


def other_target(explanation: Explanation) -> Explanation:
    """The same sample for `sunny day`: the redundant pair stands out, the synergy does not."""
    players = list(explanation.players)
    sun = sum(p.modality == "text" for p in players)
    return replace(
        explanation,
        target="sunny day",
        class_index=1,
        pairs={
            "synergy": pair_scores("SII", players, {}, seed=5, noise=0.02),
            "redundancy": pair_scores(
                "redundancy_gap", players, {(6, sun): 2.3}, heads=("mixture", "redundancy")
            ),
        },
    )


def text_only(text: str, name: str = "text-1", **changes: object) -> tuple[Explanation, Sample]:
    """A text without a picture and without pairs."""
    players = word_players(text)
    explanation = Explanation(
        sample_id=name,
        target="yes",
        class_index=0,
        task="multiclass",
        classes=("yes", "no"),
        probabilities=(0.8, 0.2),
        heads=("mixture",),
        expert_weights={"dense": 1.0},
        expert_shares={"dense": 1.0},
        attribution="random",
        token_scores={"text": TokenScores(
            tuple(range(len(players))), tuple(p.spans[0] for p in players),
            {"mixture": tuple(float(i) for i in range(len(players)))},
        )},
        players=tuple(players),
        pairs={},
        inputs={"text": text},
        labels=("yes",),
    )  # fmt: skip
    return replace(explanation, **changes), Sample(name, {"text": text}, ("yes",))  # type: ignore[arg-type]


def page_data(html: str) -> list[dict[str, Any]]:
    """The cards' JSON values, as the page's script reads them."""
    found = re.findall(r'<script type="application/json" id="data-\d+">(.*?)</script>', html, re.S)
    return [json.loads(text) for text in found]

"""An explanation of one sample and target: a frozen value, JSON in and out, that draws nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from fli2moe.errors import InputError, closest, unknown_name
from fli2moe.explain.players import sum_tokens
from fli2moe.explain.scores import Pair, PairScores
from fli2moe.tokens import Player

FORMAT = "fli2moe/explanation/2"


@dataclass(frozen=True)
class TokenScores:
    """Raw attribution of one modality's content tokens, per head.

    Attributes:
        tokens: positions of the content tokens in the modality's sequence.
        spans: their places in the raw input, same order.
        scores: {head: one raw value per content token}.
    """

    tokens: tuple[int, ...]
    spans: tuple[tuple[float, ...], ...]
    scores: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a model said what it said of one sample, for one target; equal where `to_json` is.

    Attributes:
        sample_id: id of the sample.
        target: class name whose logit (binary: log-odds) is explained; `class_index` its position.
        task: `multiclass` (exactly one class is true), `multilabel` (any number) or `binary` (the
            second of two classes is the positive one).
        classes, probabilities: every class of the task with the model's probability.
        parts: the words, patches and positions by themselves, which attribution is shown for, where
            the budget made groups of them; empty where they are the players.
        labels: the sample's true labels where known, else empty.
        heads: `mixture` first, then the experts by name.
        expert_weights: {expert: router weight}, summing to 1.
        expert_shares: {expert: share of |weight x score| in the sum over experts}.
        attribution: name of the attribution method.
        token_scores: {modality: TokenScores}.
        players: what the pair probes may hide, by position.
        pairs: {`synergy`: SII scores, `redundancy`: redundancy gaps}.
        inputs: {modality: the raw text, or the picture's path}, as given.
        sizes: {modality: (width, height)} of upright raw pictures in pixels.
        unseen: {modality: spans or boxes of the raw input that the model never saw} (truncated
            text, cropped borders).
        notes: what a reader must know (players grouped, leak through neighbours, ...).
        settings, seed, fingerprint: how it was made and of which model.
    """

    sample_id: str
    target: str
    class_index: int
    task: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    heads: tuple[str, ...]
    expert_weights: Mapping[str, float]
    expert_shares: Mapping[str, float]
    attribution: str
    token_scores: Mapping[str, TokenScores]
    players: tuple[Player, ...]
    pairs: Mapping[str, PairScores]
    inputs: Mapping[str, str]
    parts: tuple[Player, ...] = ()
    labels: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unseen: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    fingerprint: str = ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Explanation):
            return NotImplemented
        return self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.sample_id, self.target, self.seed, self.fingerprint))

    def top_pairs(self, kind: str, k: int = 5, head: str | None = None) -> list[Pair]:
        """Returns the k strongest pairs.

        Args:
            kind: `synergy` (by SII) or `redundancy` (by redundancy gap).
            k: how many.
            head: whose score; the mixture by default. The experts that were read are named in
                `pairs[kind].heads`.

        Raises:
            InputError: when the kind or the head is unknown.
        """
        if kind not in self.pairs:
            raise unknown_name("Explanation.top_pairs", "kind", kind, self.pairs)
        return self.pairs[kind].top(k, head=head or self.heads[0])

    def plot(self, **options: Any) -> Any:
        """Returns a matplotlib figure; options and errors are `fli2moe.plot.plot_explanation`'s."""
        # by name, as what draws stands above what is drawn
        return import_module("fli2moe.plot").plot_explanation(self, **options)

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: inputs shaded by importance, and the strongest pairs."""
        shown: str = import_module("fli2moe.display.notebook").explanation_html(self)
        return shown

    def player_scores(self, head: str) -> tuple[float, ...]:
        """Returns the attribution of each player: the sum over its tokens.

        Raises:
            InputError: when `head` is unknown.
        """
        return self.scores_of(self.players, head)

    def part_scores(self, head: str) -> tuple[float, ...]:
        """Returns the attribution of each part, or of each player where there are no parts.

        Raises:
            InputError: when `head` is unknown.
        """
        return self.scores_of(self.parts or self.players, head)

    def scores_of(self, players: Sequence[Player], head: str) -> tuple[float, ...]:
        """Returns the attribution of any players: the sum over tokens, NaN where one has none.

        Raises:
            InputError: when `head` is unknown.
        """
        if head not in self.heads:
            raise unknown_name("Explanation", "head", head, self.heads)
        values = {
            (modality, token): score
            for modality, table in self.token_scores.items()
            for token, score in zip(table.tokens, table.scores.get(head, ()), strict=False)
        }
        return sum_tokens(players, values)

    def to_json(self) -> str:
        """Returns one JSON document; floats round-trip exactly."""
        data = dict(vars(self))
        data["format"] = FORMAT
        for name in ("players", "parts"):
            data[name] = [vars(player) for player in data[name]]
        data["token_scores"] = {m: vars(t) for m, t in self.token_scores.items()}
        data["pairs"] = {kind: scores.to_json() for kind, scores in self.pairs.items()}
        return json.dumps(data, ensure_ascii=False, allow_nan=False, default=dict)

    @staticmethod
    def from_json(text: str) -> Explanation:
        """Returns what `to_json` wrote.

        Raises:
            InputError: when it is not an explanation of this format.
        """
        try:
            data = json.loads(text)
            kind = data.pop("format")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError("explanation", f"not readable: {error}", f"JSON {FORMAT}") from None
        if kind != FORMAT:
            raise InputError("explanation", f"format {kind!r}", FORMAT, "explain again")
        unknown = set(data) - set(Explanation.__dataclass_fields__)
        if unknown:
            name = sorted(unknown)[0]
            match = closest(name, Explanation.__dataclass_fields__)
            raise InputError("explanation", f"unknown field {name!r}", match or FORMAT)
        try:
            return _build(data)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise InputError("explanation", f"broken: {error!r}", f"JSON {FORMAT}") from None


def _build(data: dict[str, Any]) -> Explanation:
    players, parts = _players(data["players"]), _players(data["parts"])
    tables = {
        m: TokenScores(
            tuple(t["tokens"]), _spans(t["spans"]), {h: tuple(s) for h, s in t["scores"].items()}
        )
        for m, t in data["token_scores"].items()
    }
    pairs = {k: PairScores.from_json(scores, players) for k, scores in data["pairs"].items()}
    sequences = ("classes", "probabilities", "heads", "labels", "notes")
    plain: dict[str, Any] = {k: tuple(v) if k in sequences else v for k, v in data.items()}
    plain["sizes"] = {m: (int(w), int(h)) for m, (w, h) in data["sizes"].items()}
    plain["unseen"] = {m: _spans(s) for m, s in data["unseen"].items()}
    plain |= {"players": players, "parts": parts, "token_scores": tables, "pairs": pairs}
    return Explanation(**plain)


def _players(values: list[dict[str, Any]]) -> tuple[Player, ...]:
    return tuple(
        Player(p["modality"], tuple(p["tokens"]), _spans(p["spans"]), p["name"]) for p in values
    )


def _spans(values: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(v) for v in values)

"""Encoders, model, task and baseline in one object: predict, explain, save, load."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fli2moe.config import Config
from fli2moe.encoders import Encoder, open_picture, players_of
from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.attribution import attribute
from fli2moe.explain.explanation import Explanation, TokenScores
from fli2moe.explain.game import TokenGame
from fli2moe.explain.grouping import group_to_budget
from fli2moe.explain.model_game import BASELINES, model_game
from fli2moe.explain.probes import redundancy_gaps, shapley_interactions
from fli2moe.model import FusionTransformer, MoEOutput
from fli2moe.run_folder import Parts, load_parts, save_parts
from fli2moe.task import Task
from fli2moe.tokens import Player, TokenBatch

Inputs = Mapping[str, Any]
"""Raw inputs of one sample: {modality: str, or path or PIL picture, or path of features}."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one sample.

    Attributes:
        labels: predicted class names.
        probabilities: {class: probability}.
        expert_weights: {expert: router weight}, summing to 1.
    """

    labels: tuple[str, ...]
    probabilities: Mapping[str, float]
    expert_weights: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained model with everything it needs to read raw inputs and explain itself.

    Attributes:
        config: how it was made.
        task: classes and kind of labels.
        model: the trained model, in evaluation mode.
        encoders: {modality: frozen encoder}.
        means: {modality: (D,)} training set's mean content token, the `mean` baseline.
    """

    config: Config
    task: Task
    model: FusionTransformer
    encoders: Mapping[str, Encoder]
    means: Mapping[str, Tensor]

    def __call__(self, inputs: Inputs) -> Prediction:
        """Predicts one sample from its raw inputs."""
        return self.predict([inputs])[0]

    def predict(self, inputs: Sequence[Inputs]) -> list[Prediction]:
        """Predicts several samples; each as if it were alone."""
        return self.predict_tokens(self.encode(inputs))

    def predict_tokens(self, tokens: TokenBatch) -> list[Prediction]:
        """Predicts encoded samples."""
        output = self.run(tokens)
        probabilities = self.task.probabilities(output.logits)
        result = []
        for row in range(tokens.batch_size):
            chosen = self.task.predict(output.logits[row : row + 1])[0]
            indices = chosen.nonzero()[:, 0].tolist() if self.task.multilabel else [int(chosen)]
            values = zip(self.task.classes, probabilities[row].tolist(), strict=True)
            weights = zip(self.model.experts, output.weights[row].tolist(), strict=True)
            labels = tuple(self.task.classes[i] for i in indices)
            result.append(Prediction(labels, dict(values), dict(weights)))
        return result

    def run(self, tokens: TokenBatch) -> MoEOutput:
        """Runs the model on encoded samples without gradients."""
        with torch.no_grad():
            output: MoEOutput = self.model(tokens)
        return output

    def encode(self, inputs: Sequence[Inputs]) -> TokenBatch:
        """Encodes raw inputs.

        Raises:
            InputError: when a modality is missing or unknown, or an input cannot be read.
        """
        for row, sample in enumerate(inputs):
            for name in sample:
                if name not in self.encoders:
                    raise unknown_name(f"input {row}", "modality", name, self.encoders)
            missing = [m for m in self.encoders if m not in sample]
            if missing:
                expected = f"{', '.join(self.encoders)}"
                raise InputError(
                    f"input {row}", f"no {missing[0]}", expected, "give every modality"
                )
        return TokenBatch(
            {m: e.encode([sample[m] for sample in inputs]) for m, e in self.encoders.items()}
        )

    def players(self, inputs: Inputs, tokens: TokenBatch) -> tuple[Player, ...]:
        """Returns the players of one encoded sample: words, patches, positions."""
        return tuple(
            player
            for m, encoder in self.encoders.items()
            for player in players_of(encoder.kind, inputs[m], tokens[m].spans[0], m)
        )

    def baseline(self, name: str) -> dict[str, Tensor] | None:
        """Returns {modality: (D,)} of `mean` or `zero`, or None for `drop`.

        Raises:
            InputError: when the name is unknown.
        """
        if name not in BASELINES:
            raise unknown_name("explain.baseline", "baseline", name, BASELINES)
        if name == "drop":
            return None
        return {m: x if name == "mean" else torch.zeros_like(x) for m, x in self.means.items()}

    def game(
        self,
        inputs: Inputs,
        target: str | Sequence[str],
        *,
        tokens: TokenBatch | None = None,
        score: str | None = None,
        baseline: str | None = None,
    ) -> TokenGame:
        """Returns the game of one sample: coalitions of words and patches in, scores out.

        Args:
            inputs: the raw inputs.
            target: class name, or several for the score `probability` (their mean).
            tokens: the encoded sample, where it is at hand.
            score: `auto`, `logit`, `centred` (design 3.6) or `probability`; the config's default.
            baseline: `mean`, `zero` or `drop`; the config's by default.
        """
        options = self.config.explain
        tokens = self.encode([inputs]) if tokens is None else tokens
        names = [target] if isinstance(target, str) else list(target)
        classes = [self.task.index(name) for name in names]
        kind = score or options.score

        def head_scores(logits: Tensor) -> Tensor:  # (N, heads, C) -> (N, heads)
            if kind == "probability":
                return self.task.target_probability(logits, classes)
            return torch.stack([self.task.score(logits, c, kind) for c in classes]).mean(0)

        return model_game(
            self.model,
            tokens,
            self.players(inputs, tokens),
            head_scores,
            self.baseline(baseline or options.baseline),
            batch_size=options.batch_size,
        )

    def explain(
        self,
        inputs: Inputs,
        target: str | None = None,
        *,
        sample_id: str = "",
        labels: Sequence[str] = (),
        budget: int | None = None,
        seed: int = 0,
        tokens: TokenBatch | None = None,
    ) -> Explanation:
        """Explains one target of one sample: attribution, synergy and redundancy pairs.

        Args:
            inputs: the raw inputs.
            target: class name; the predicted one (most probable) by default.
            sample_id: id kept in the result.
            labels: true labels kept in the result.
            budget: model evaluations of the pair probes; the config's by default. Where it cannot
                serve all cross-modal pairs, players are grouped into blocks, and a note says so.
            seed: of everything random.
            tokens: the encoded sample, where it is at hand.

        Raises:
            InputError: for an unknown target, unreadable inputs, or too small a budget.
        """
        options = self.config.explain
        budget = options.budget if budget is None else budget
        tokens = self.encode([inputs]) if tokens is None else tokens
        output = self.run(tokens)
        probabilities = self.task.probabilities(output.logits)[0]
        chosen = int(probabilities.argmax()) if target is None else self.task.index(target)
        name = self.task.classes[chosen]
        attribution = attribute(
            self.model,
            tokens,
            self.task.target_weights([[chosen]]),
            options.attribution,
            baseline=self.baseline("mean" if options.baseline == "drop" else options.baseline),
            seed=seed,
        )
        game = self.game(inputs, name, tokens=tokens)
        pairs, grouped, notes = _probe(game, budget, options.contexts, seed)
        weights = output.weights[0].tolist()
        shares = contribution_shares(self.task, output, chosen)[0].tolist()
        notes = [*notes, *_attribution_notes(attribution.convergence_delta)]
        settings = {
            **options.model_dump(mode="json"),
            "budget": budget,
            "evaluations": game.evaluations,
        }
        return Explanation(
            sample_id=sample_id,
            target=name,
            class_index=chosen,
            classes=self.task.classes,
            probabilities=tuple(probabilities.tolist()),
            heads=self.model.heads,
            expert_weights=dict(zip(self.model.experts, weights, strict=True)),
            expert_shares=dict(zip(self.model.experts, shares, strict=True)),
            attribution=options.attribution,
            token_scores=_token_scores(tokens, attribution.scores),
            players=grouped.players,
            pairs=pairs,
            inputs={m: str(inputs[m]) for m in self.encoders},
            labels=tuple(labels),
            sizes={m: _size(inputs[m]) for m, e in self.encoders.items() if e.kind == "image"},
            unseen={m: tuple(e.unseen(inputs[m])) for m, e in self.encoders.items()},
            notes=tuple(notes),
            settings=settings,
            seed=seed,
            fingerprint=self.fingerprint,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights, the classes and the encoders."""
        digest = hashlib.sha256(repr((self.task, self.model.heads)).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        for name, encoder in sorted(self.encoders.items()):
            digest.update(f"{name}:{encoder.fingerprint}".encode())
        return digest.hexdigest()

    def save(self, folder: str | Path) -> Path:
        """Writes the predictor into a run folder: YAML, JSON and safetensors, no pickle."""
        parts = Parts(self.config, self.task, self.model, self.encoders, self.means)
        save_parts(parts, Path(folder))
        return Path(folder)

    @staticmethod
    def load(folder: str | Path) -> Predictor:
        """Reads what `save` wrote; loads the encoders that the config names.

        Raises:
            InputError: when files are missing or damaged, or an encoder is not the one that the
                model was trained with.
        """
        return Predictor(**vars(load_parts(Path(folder))))


def contribution_shares(task: Task, output: MoEOutput, target: int) -> Tensor:
    """Returns (B, E): each expert's share of sum over e of |w_e * score_e| (design 3.8)."""
    parts = (output.weights * task.score(output.expert_logits, target)).abs()
    return parts / parts.sum(-1, keepdim=True).clamp_min(1e-12)


def _probe(
    game: TokenGame, budget: int, contexts: str, seed: int
) -> tuple[dict[str, Any], TokenGame, list[str]]:
    if len(game.players) < 2 or not len(game.cross_modal_pairs()):
        return {}, game, ["no cross-modal pair: a modality has no content token"]
    grouped = group_to_budget(game, budget, "auto", contexts)
    pairs = {
        "synergy": shapley_interactions(grouped.game, budget, contexts=contexts, seed=seed),
        "redundancy": redundancy_gaps(grouped.game, budget, contexts=contexts, seed=seed),
    }
    return pairs, grouped.game, [grouped.note] if grouped.note else []


def _attribution_notes(deltas: Mapping[str, Tensor]) -> list[str]:
    return [
        f"integrated gradients of {head} miss completeness by {float(delta.abs().max()):.3g}"
        for head, delta in deltas.items()
    ]


def _token_scores(
    tokens: TokenBatch, scores: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, TokenScores]:
    tables = {}
    for m, t in tokens.items():
        content = t.content[0].nonzero()[:, 0]
        tables[m] = TokenScores(
            tokens=tuple(content.tolist()),
            spans=tuple(tuple(span) for span in t.spans[0, content].tolist()),
            scores={head: tuple(s[m][0, content].tolist()) for head, s in scores.items()},
        )
    return tables


def _size(picture: Any) -> tuple[int, int]:
    size = open_picture(picture).size
    return size[0], size[1]

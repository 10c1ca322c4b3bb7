"""Encoders, model, task and baseline in one object: predict, explain, save, load."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.config import Config
from fli2moe.devices import find_device
from fli2moe.encoders import Encoder, encode_present, players_of
from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.game import TokenGame
from fli2moe.explain.model_game import BASELINES, model_game
from fli2moe.explain.pieces import DROP_WARNING
from fli2moe.explaining import explain_sample
from fli2moe.features import Progress
from fli2moe.hub import HubOptions, find_pretrained, upload
from fli2moe.model import FusionModel, MoEOutput, undisturbed
from fli2moe.model_card import README
from fli2moe.prediction import Prediction, check_modalities, predictions
from fli2moe.run_card import copy_results, write_run_card
from fli2moe.run_folder import RUN_FILES, Parts, load_parts, parts_digest, save_parts
from fli2moe.task import Task
from fli2moe.tokens import Player, TokenBatch

Inputs = Mapping[str, Any]
"""Raw inputs of one sample: {modality: str, or path or PIL picture, or path of features}."""

__all__ = ["Inputs", "Prediction", "Predictor"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained model with everything it needs to read raw inputs and explain itself.

    What it is given may be anywhere, what it returns is on the CPU; in between, `device` computes.

    Attributes:
        config: how it was made.
        task: classes and kind of labels.
        model: the trained model; it answers in evaluation mode, whatever its own mode is.
        encoders: {modality: frozen encoder}.
        means: {modality: (D,)} training set's mean content token, the `mean` baseline.
    """

    config: Config
    task: Task
    model: FusionModel
    encoders: Mapping[str, Encoder]
    means: Mapping[str, Tensor]
    _told: list[str] = field(default_factory=list, init=False, repr=False)  # warnings given

    @property
    def device(self) -> torch.device:
        """Where the model is, and so where predictions and explanations are computed."""
        return self.model.device

    def to(self, device: str | torch.device) -> Predictor:
        """Returns the same predictor with its model on a device; the encoders stay where they are.

        Raises:
            MachineError: when the device cannot be used.
        """
        return replace(self, model=copy.deepcopy(self.model).to(find_device(device)))

    def with_options(self, options: Mapping[str, Any]) -> Predictor:
        """Returns the same predictor with other ways to explain and to evaluate.

        Args:
            options: {`explain.key` or `evaluation.key`: value}.

        Raises:
            InputError: when an option is unknown or was fixed in training.
        """
        return replace(self, config=self.config.after_training(options))

    def __call__(self, inputs: Inputs) -> Prediction:
        """Predicts one sample from its raw inputs."""
        return self.predict([inputs])[0]

    def predict(self, inputs: Sequence[Inputs]) -> list[Prediction]:
        """Predicts several samples; each as if it were alone."""
        return self.predict_tokens(self.encode(inputs))

    def predict_proba(self, inputs: Sequence[Inputs]) -> NDArray[np.float32]:
        """Returns (N, C) probabilities, columns in the order of `task.classes`.

        Rows sum to 1, except for multi-label, where every class has a probability of its own.
        """
        found: NDArray[np.float32] = self.task.probabilities(
            self.run(self.encode(inputs)).logits
        ).numpy()
        return found

    def predict_tokens(self, tokens: TokenBatch) -> list[Prediction]:
        """Predicts encoded samples."""
        return predictions(self.task, self.model.experts, self.run(tokens))

    def run(self, tokens: TokenBatch) -> MoEOutput:
        """Runs the model on encoded samples, in evaluation mode and without gradients."""
        with undisturbed(self.model), torch.no_grad():
            output: MoEOutput = self.model(tokens.to(self.device))
        return output.to("cpu")

    def encode(self, inputs: Sequence[Inputs]) -> TokenBatch:
        """Encodes raw inputs; one of an `optional` modality may be left out, or None.

        Raises:
            InputError: when a modality is missing or unknown, or an input cannot be read.
        """
        optional = [m for m, options in self.config.data.modalities.items() if options.optional]
        check_modalities(inputs, tuple(self.encoders), optional)
        return TokenBatch(
            {
                m: encode_present(encoder, [sample.get(m) for sample in inputs])
                for m, encoder in self.encoders.items()
            }
        )

    def players(self, inputs: Inputs, tokens: TokenBatch) -> tuple[Player, ...]:
        """Returns the players of one encoded sample: words, patches, positions."""
        return tuple(
            player
            for m, encoder in self.encoders.items()
            if inputs.get(m) is not None
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

    def attribution_baseline(self) -> dict[str, Tensor] | None:
        """Returns the absence that attributions start from: the config's, `mean` for `drop`."""
        name = self.config.explain.baseline
        return self.baseline("mean" if name == "drop" else name)

    def game(
        self,
        inputs: Inputs,
        target: str | Sequence[str],
        *,
        tokens: TokenBatch | None = None,
        score: str | None = None,
        baseline: str | None = None,
        players: Sequence[Player] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> TokenGame:
        """Returns the game of one sample: coalitions of words and patches in, scores out.

        Args:
            inputs: the raw inputs.
            target: class name, or several for the score `probability` (their mean).
            tokens: the encoded sample, where it is at hand.
            score: `auto`, `logit`, `centred` (design 3.6) or `probability`; the config's default.
            baseline: `mean`, `zero` or `drop`; the config's by default.
            players: what may be hidden; the words and patches by default.
            progress: called with the number of evaluations just made.

        Raises:
            InputError: for an unknown target, score or baseline, or fewer than two players.
        """
        names = [target] if isinstance(target, str) else list(target)
        classes = [self.task.index(name) for name in names]
        kind = score or self.config.explain.score

        def head_scores(logits: Tensor) -> Tensor:  # (N, heads, C) -> (N, heads)
            if kind == "probability":
                return self.task.target_probability(logits, classes)
            return torch.stack([self.task.score(logits, c, kind) for c in classes]).mean(0)

        return self.game_of(
            head_scores, inputs, tokens, players, baseline=baseline, progress=progress
        )

    def game_of(
        self,
        score: Callable[[Tensor], Tensor],
        inputs: Inputs,
        tokens: TokenBatch | None = None,
        players: Sequence[Player] | None = None,
        *,
        score_names: Sequence[str] | None = None,
        baseline: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> TokenGame:
        """Returns the game of one sample under scores of one's own, several of a head if need be.

        Args:
            score: maps logits (N, heads, C) to (N, number of scores).
            inputs: the raw inputs.
            tokens: as in `game`.
            players: as in `game`.
            score_names: one for each score; the model's heads by default.
            baseline: as in `game`.
            progress: as in `game`.

        Raises:
            InputError: for an unknown baseline, or fewer than two players.
        """
        tokens = self.encode([inputs]) if tokens is None else tokens
        absence = self.baseline(baseline or self.config.explain.baseline)
        if absence is None and not self._told:
            self._told.append(DROP_WARNING)
            logger.warning("%s", DROP_WARNING)
        return model_game(
            self.model,
            tokens,
            self.players(inputs, tokens) if players is None else players,
            score,
            absence,
            score_names=score_names,
            batch_size=self.config.explain.batch_size,
            progress=progress,
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
        progress: Progress | None = None,
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
            progress: called with (`model evaluations`, done, budget); fewer may be needed. What it
                raises ends the work.

        Raises:
            InputError: for an unknown target, unreadable inputs, or too small a budget.
        """
        return explain_sample(
            self,
            inputs,
            target,
            sample_id=sample_id,
            labels=labels,
            budget=budget,
            seed=seed,
            tokens=tokens,
            progress=progress,
        )

    def explain_batch(
        self,
        inputs: Sequence[Inputs],
        targets: Sequence[str | None] | None = None,
        *,
        sample_ids: Sequence[str] | None = None,
        budget: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Explanation]:
        """Explains one target of each of several samples, each as `explain` would alone.

        Args:
            inputs: the raw inputs.
            targets: a class name of each, None for the predicted one; all predicted by default.
            sample_ids: ids kept in the results; the positions by default.
            budget: as in `explain`, for each sample.
            seed: as in `explain`, the same for each sample.
            progress: called with (`explain`, done, total) after each sample.

        Raises:
            InputError: as `explain`, or when there are not as many targets or ids as samples.
        """
        names = [str(k) for k in range(len(inputs))] if sample_ids is None else sample_ids
        wanted = [None] * len(inputs) if targets is None else targets
        for what, given in (("targets", wanted), ("sample_ids", names)):
            if len(given) != len(inputs):
                raise InputError(f"explain_batch: {what}", f"{len(given)}", f"{len(inputs)}")
        found = []
        for done, (sample, target, name) in enumerate(zip(inputs, wanted, names, strict=True)):
            found.append(self.explain(sample, target, sample_id=name, budget=budget, seed=seed))
            if progress:
                progress("explain", done + 1, len(inputs))
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights, the classes and the encoders."""
        return parts_digest(self._parts())

    def save(self, folder: str | Path) -> Path:
        """Writes the predictor into a run folder: YAML, JSON, safetensors, a model card; no pickle.

        Raises:
            InputError: when the model's logits are not finite.
            MachineError: when the folder cannot be written.
        """
        save_parts(self._parts(), Path(folder))
        self.write_card(folder)
        return Path(folder)

    save_pretrained = save

    def write_card(self, folder: str | Path) -> None:
        """Writes the card alone, with the figures in `folder` that are this predictor's."""
        write_run_card(self._parts(), Path(folder))

    def push_to_hub(
        self,
        name: str,
        *,
        run: str | Path | None = None,
        private: bool = False,
        token: str | bool | None = None,
        message: str = "Upload a fli2moe model",
    ) -> str:
        """Uploads the predictor to `owner/name` on the Hugging Face hub, with its model card.

        Nothing else of fli2moe ever writes to a network.

        Args:
            name: `owner/name`; the repository is made where it does not exist.
            run: the run folder; its `metrics.json` and `report.html`, where they are of this model,
                go along, and the card shows the figures and names the report. A report shows
                samples: leave `run` out where the data may not be shown.
            private: whether a repository that is made is private.
            token: of an account that may write; the stored one by default.
            message: of the commit.

        Returns:
            the address of the model.

        Raises:
            InputError: when the name is none of the hub's, the account may not write there, or the
                run's figures are of another model.
            MachineError: when the hub cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            copied = [] if run is None else copy_results(Path(run), Path(folder), self.fingerprint)
            self.save(folder)
            files = [*RUN_FILES, README, *copied]
            return upload(name, Path(folder), files, private=private, token=token, message=message)

    def _parts(self) -> Parts:
        return Parts(self.config, self.task, self.model, self.encoders, self.means)

    @staticmethod
    def load(folder: str | Path, encoders: Mapping[str, Encoder] | None = None) -> Predictor:
        """Reads what `save` wrote, from a folder of this machine; see `from_pretrained`."""
        return Predictor(**vars(load_parts(Path(folder), encoders)))

    @staticmethod
    def from_pretrained(
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        encoders: Mapping[str, Encoder] | None = None,
    ) -> Predictor:
        """Reads what `save` wrote onto the config's device; loads the encoders that it names.

        Args:
            name_or_path: the run folder; `owner/name`, where there is no such folder, is fetched
                from the Hugging Face hub.
            revision: branch, tag or commit on the hub.
            token: of an account that may read the model on the hub.
            cache_dir: where downloads of the model are kept.
            local_files_only: use an earlier download of the model, never the network. Encoders
                that the config names are found as ever: give `encoders` where they may not be.
            encoders: {modality: encoder} in place of the config's, where those have moved.

        Raises:
            InputError: when files are missing, damaged, of another version or do not fit each
                other, an encoder is not the one that the model was trained with, or the model
                does not give here the logits that it gave where it was saved.
            MachineError: when the hub cannot be reached, or the device cannot be used.
        """
        options = HubOptions(revision, token, cache_dir, local_files_only)
        return Predictor.load(find_pretrained(name_or_path, RUN_FILES, options), encoders)

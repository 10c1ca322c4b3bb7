"""The explanations of many samples as a job: a part is a few samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fli2moe.data.rejects import Rejected, rejected
from fli2moe.data.sample import Sample, content_of
from fli2moe.errors import FLI2MoEError
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.store import ExplanationStore
from fli2moe.features import encode_samples
from fli2moe.files import json_digest
from fli2moe.predictor import Predictor

PARTS, MOST = 64, 16
"""About how many parts a job has at least, and how many samples a part at most."""
ON_BAD = ("stop", "skip")


@dataclass(frozen=True)
class ExplainJob:
    """Explains samples of a run, every predicted label of each.

    Attributes:
        run: the run folder.
        samples: in the order of the result.
        cache: of the features.
        seed: of everything random.
        budget: model evaluations of each; the config's where None.
        options: {`explain.key`: value} over the config.
        on_bad: `stop` at a sample that cannot be explained, or `skip` it and say so.
    """

    run: Path
    samples: tuple[Sample, ...]
    cache: Path
    seed: int
    budget: int | None
    options: Mapping[str, Any]
    on_bad: str = "stop"

    @property
    def size(self) -> int:
        """Samples of a part: one, or more where there are many."""
        return max(1, min(MOST, len(self.samples) // PARTS))

    @property
    def parts(self) -> int:
        """How many there are."""
        return -(-len(self.samples) // self.size)

    def part(self, number: int) -> tuple[Sample, ...]:
        """Returns the samples of one part."""
        return self.samples[number * self.size : (number + 1) * self.size]

    def store(self, predictor: Predictor) -> ExplanationStore:
        """Returns where the parts go: what is there of the same job counts."""
        job = json_digest(
            fingerprint=predictor.fingerprint,
            explain=predictor.config.explain.model_dump(mode="json"),
            seed=self.seed,
            budget=self.budget,
            on_bad=self.on_bad,
            samples=content_of(self.samples),
        )
        return ExplanationStore(self.run / "explanations", job)

    def open(self) -> tuple[Predictor, ExplanationStore]:
        """Loads the model."""
        predictor = Predictor.load(self.run).with_options(self.options)
        return predictor, self.store(predictor)

    def do(self, opened: tuple[Predictor, ExplanationStore], part: int) -> None:
        """Explains the samples of one part and writes them."""
        predictor, store = opened
        rows: list[Explanation] = []
        rejects: list[Rejected] = []
        for sample in self.part(part):
            try:
                rows += list(self._explain(predictor, sample))
            except FLI2MoEError as error:
                if self.on_bad == "stop":
                    raise
                rejects.append(rejected(sample.id, sample.inputs, error))
        store.write(part, rows, rejects)

    def _explain(self, predictor: Predictor, sample: Sample) -> Sequence[Explanation]:
        features = encode_samples([sample], predictor.encoders, self.cache)
        tokens = features.batch([0])
        targets = predictor.task.targets(predictor.run(tokens).logits)[0]
        return [
            predictor.explain(
                sample.inputs,
                predictor.task.classes[target],
                sample_id=sample.id,
                labels=sample.labels,
                budget=self.budget,
                seed=self.seed,
                tokens=tokens,
            )
            for target in targets
        ]

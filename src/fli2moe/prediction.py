"""What a model says of one sample, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fli2moe.model import MoEOutput
from fli2moe.task import Task


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


def predictions(task: Task, experts: Sequence[str], output: MoEOutput) -> list[Prediction]:
    """Returns one prediction per row of the output."""
    probabilities = task.probabilities(output.logits)
    chosen = task.predict(output.logits)
    result = []
    for row in range(len(output.logits)):
        indices = chosen[row].nonzero()[:, 0].tolist() if task.multilabel else [int(chosen[row])]
        values = zip(task.classes, probabilities[row].tolist(), strict=True)
        weights = zip(experts, output.weights[row].tolist(), strict=True)
        labels = tuple(task.classes[i] for i in indices)
        result.append(Prediction(labels, dict(values), dict(weights)))
    return result

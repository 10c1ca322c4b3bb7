"""What a model says of one sample, in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fli2moe.errors import InputError, unknown_name
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


def check_modalities(
    inputs: Sequence[Mapping[str, Any]], modalities: Sequence[str], optional: Collection[str] = ()
) -> None:
    """Raises InputError when a raw input lacks a modality or has an unknown one; it says which.

    Args:
        inputs: of some samples.
        modalities: of the model.
        optional: those that a sample may lack, or give as None, if it has another one.
    """
    for row, sample in enumerate(inputs):
        if not isinstance(sample, Mapping):
            expected = "{" + ", ".join(f"{m!r}: ..." for m in modalities) + "}"
            remedy = "give the sample's `inputs`, one mapping for each sample"
            raise InputError(f"input {row}", f"a {type(sample).__name__}", expected, remedy)
        for name in sample:
            if name not in modalities:
                raise unknown_name(f"input {row}", "modality", name, modalities)
        for name in modalities:
            if sample.get(name) is None and name not in optional:
                expected = ", ".join(modalities)
                raise InputError(f"input {row}", f"no {name}", expected, "give every modality")
        if all(sample.get(name) is None for name in modalities):
            expected = f"at least one of {', '.join(modalities)}"
            raise InputError(f"input {row}", "no modality", expected, "leave the sample out")


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

"""The task: what the labels are, the loss, probabilities, and the score of a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fli2moe.errors import InputError, unknown_name
from fli2moe.precision import at_least_float32

KINDS = ("multiclass", "multilabel", "binary")
SCORES = ("auto", "logit", "centred")


@dataclass(frozen=True)
class Task:
    """Multi-class (exactly one label), multi-label (any number) or binary classification.

    Binary: the second of two classes is the positive one, and only the log-odds count, the positive
    class's logit minus the other's. Their sigmoid is the softmax of both, their binary
    cross-entropy is the cross-entropy of both, and 0 is the threshold. There are two logits all the
    same (ours): a cosine between the logits of two experts says nothing of single numbers, and
    every model has as many logits as classes.

    Attributes:
        kind: `multiclass`, `multilabel` or `binary`.
        classes: names in the order of the logits.

    Raises:
        InputError: for an unknown kind, fewer than two classes (one for multi-label), other than
            two for binary, or repeats.
    """

    kind: str
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("task.kind", "task", self.kind, KINDS)
        if self.binary and len(self.classes) != 2:
            found = f"{len(self.classes)} classes ({', '.join(self.classes[:10])})"
            remedy = "data.labels: multiclass takes any number"
            raise InputError("data.labels: binary", found, "two classes", remedy)
        fewest = 1 if self.multilabel else 2
        if len(self.classes) < fewest or len(set(self.classes)) < len(self.classes):
            found = f"classes {list(self.classes)}"
            raise InputError("task.classes", found, f"at least {fewest} different names")

    @property
    def multilabel(self) -> bool:
        """Whether a sample may carry any number of labels."""
        return self.kind == "multilabel"

    @property
    def binary(self) -> bool:
        """Whether there are a negative and a positive class, in this order."""
        return self.kind == "binary"

    def index(self, label: str) -> int:
        """Returns the position of a class name.

        Raises:
            InputError: when it is unknown, with the closest match.
        """
        if label not in self.classes:
            raise unknown_name("target", "label", label, self.classes)
        return self.classes.index(label)

    def encode(self, labels: Sequence[Sequence[str]]) -> Tensor:
        """Returns (B,) int64 class numbers, or (B, C) float 0/1 for multi-label.

        Raises:
            InputError: for an unknown label, or other than one label where there must be one.
        """
        if not self.multilabel:
            for names in labels:
                if len(names) != 1:
                    raise InputError("labels", f"{list(names)}", "exactly one label per sample")
            return torch.tensor([self.index(names[0]) for names in labels], dtype=torch.int64)
        target = torch.zeros(len(labels), len(self.classes))
        for row, names in zip(target, labels, strict=True):
            row[[self.index(name) for name in names]] = 1.0
        return target

    def losses(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
    ) -> Tensor:
        """Returns the loss of each sample and label: (B,) or, for multi-label, (B, C).

        In float32 at least, also under mixed precision.

        Args:
            logits: (B, C).
            target: as `encode` returns it.
            weights: (C,) class weights; for multi-label the weight of the positives.
            smoothing: label smoothing in [0, 1).
        """
        logits = at_least_float32(logits)
        if not self.multilabel:
            return F.cross_entropy(
                logits, target, weight=weights, reduction="none", label_smoothing=smoothing
            )
        smooth = target * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(
            logits, smooth, pos_weight=weights, reduction="none"
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Maps logits (..., C) to probabilities (..., C): softmax, or sigmoid for multi-label."""
        return logits.sigmoid() if self.multilabel else logits.softmax(-1)

    def predict(self, logits: Tensor) -> Tensor:
        """Maps logits (B, C) to class numbers (B,), or to (B, C) bool for multi-label."""
        if self.binary:
            return (self.score(logits, 1) >= 0).long()
        return logits >= 0 if self.multilabel else logits.argmax(-1)

    def targets(self, logits: Tensor) -> list[list[int]]:
        """Returns, per sample of logits (B, C), the classes an explanation speaks of.

        The predicted class; multi-label: every class with p >= .5, else the top one (design 3.4);
        binary: the positive class, whichever is predicted.
        """
        if self.binary:
            return [[1] for _ in range(len(logits))]
        top = logits.argmax(-1).tolist()
        if not self.multilabel:
            return [[t] for t in top]
        rows = [row.nonzero()[:, 0].tolist() for row in logits >= 0]
        return [row or [t] for row, t in zip(rows, top, strict=True)]

    def target_weights(self, targets: Sequence[Sequence[int]]) -> Tensor:
        """Returns (B, C) weights: 1/n on each of a sample's n target classes.

        Binary: those of the log-odds, 1 on the target and -1 on the other class.
        """
        weights = torch.zeros(len(targets), len(self.classes))
        for row, chosen in zip(weights, targets, strict=True):
            row[list(chosen)] = 1 / len(chosen)
        return weights - weights.flip(-1) if self.binary else weights

    def score(self, logits: Tensor, target: int, kind: str = "auto") -> Tensor:
        """Maps logits (..., C) to the score (...) of one target class.

        `centred` is the target's logit minus the mean over classes, `logit` the logit itself;
        `auto` is centred for multi-class and the logit for multi-label (design 3.6). Binary: every
        one of them is the log-odds, for the negative class minus those of the positive.
        """
        if kind not in SCORES:
            raise unknown_name("score", "score", kind, SCORES)
        if self.binary:
            return logits[..., target] - logits[..., 1 - target]
        if kind == "auto":
            kind = "logit" if self.multilabel else "centred"
        score = logits[..., target]
        return score - logits.mean(-1) if kind == "centred" else score

    def target_probability(self, logits: Tensor, targets: Sequence[int]) -> Tensor:
        """Maps logits (..., C) to the mean probability (...) of a set of targets (design 3.4)."""
        return self.probabilities(logits)[..., list(targets)].mean(-1)

    def class_weights(self, target: Tensor) -> Tensor:
        """Returns balanced weights (C,) from training labels as `encode` returns them.

        Multi-class and binary: N / (C * count). Multi-label: negatives / positives. A class that
        never occurs, or a label that always does, gets 1: there is nothing to balance.
        """
        if self.multilabel:
            positives = target.sum(0)
            negatives = len(target) - positives
            both = (positives > 0) & (negatives > 0)
            return torch.where(both, negatives / positives.clamp_min(1), 1.0)
        count = torch.bincount(target, minlength=len(self.classes)).float()
        balanced = len(target) / (len(self.classes) * count.clamp_min(1))
        return torch.where(count > 0, balanced, 1.0)

    def named_weights(self, weights: Mapping[str, float]) -> Tensor:
        """Returns weights (C,) from {class: weight}, 1 for a class that is not named.

        Raises:
            InputError: for a name that is no class.
        """
        for name in weights:
            if name not in self.classes:
                where = "training.class_weights"
                raise unknown_name(where, "class", name, self.classes)
        return torch.tensor([float(weights.get(name, 1.0)) for name in self.classes])

    def metrics(self, logits: Tensor, target: Tensor) -> dict[str, float | None]:
        """Returns accuracy, micro and macro F1 and macro AUROC; None where it is not defined.

        Args:
            logits: (B, C), finite.
            target: as `encode` returns it.

        Accuracy of multi-label is the mean over labels. Macro F1 is over the classes that occur
        in `target`; AUROC over those that occur in some samples and not in all. Binary has also
        `f1` and `average_precision` of the positive class, None where no sample is positive.

        Raises:
            InputError: when there are no samples or logits are not finite.
        """
        from torchmetrics.functional.classification import binary_auroc, binary_average_precision

        if not len(logits) or not bool(torch.isfinite(logits).all()):
            found = "no samples" if not len(logits) else "NaN or infinite logits"
            raise InputError("metrics", found, "finite logits of at least one sample")
        predicted, truth = self.predict(logits), target.bool()
        accuracy = float((predicted == (truth if self.multilabel else target)).float().mean())
        if not self.multilabel:
            size = len(self.classes)
            predicted, truth = (F.one_hot(x, size).bool() for x in (predicted, target))
        hits, named = (predicted & truth).sum(0), predicted.sum(0) + truth.sum(0)  # (C,)
        each = 2 * hits / named.clamp_min(1)  # F1 = 2 TP / (2 TP + FP + FN)
        occurs, always = truth.any(0), truth.all(0)
        ranked = (occurs & ~always).nonzero()[:, 0].tolist()
        # float64: in float32 large logits all become probability 1 and lose their order
        probabilities = self.probabilities(logits.double())
        areas = [float(binary_auroc(probabilities[:, c], truth[:, c].int())) for c in ranked]
        measured: dict[str, float | None] = {
            "accuracy": accuracy,
            "micro_f1": float(2 * hits.sum() / named.sum().clamp_min(1)),
            "macro_f1": float(each[occurs].mean()) if bool(occurs.any()) else None,
            "auroc": sum(areas) / len(areas) if areas else None,
        }
        if self.binary:
            odds = self.score(logits.double(), 1).sigmoid()
            precision = binary_average_precision(odds, target) if bool(occurs[1]) else None
            measured["f1"] = float(each[1]) if bool(occurs[1]) else None
            measured["average_precision"] = None if precision is None else float(precision)
        return measured

"""Losses against torch, metrics against scikit-learn, and the rules for targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import Tensor
from torch.nn import functional as F

from fli2moe.errors import InputError
from fli2moe.task import Task

MULTICLASS = Task("multiclass", ("cat", "dog", "owl"))
MULTILABEL = Task("multilabel", ("cat", "dog", "owl"))
BINARY = Task("binary", ("no", "yes"))


def draw(task: Task, n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator, size = torch.Generator().manual_seed(seed), len(task.classes)
    logits = 2 * torch.randn(n, size, generator=generator)
    if task.multilabel:
        return logits, (torch.rand(n, size, generator=generator) < 0.4).float()
    return logits, torch.randint(size, (n,), generator=generator)


@pytest.mark.parametrize(
    ("kind", "classes", "message"),
    [
        ("multi-class", ("a", "b"), "did you mean 'multiclass'"),
        ("multiclass", ("a",), "at least 2 different names"),
        ("multilabel", (), "at least 1 different names"),
        ("multilabel", ("a", "a"), "different names"),
        ("binary", ("a", "b", "c"), r"3 classes \(a, b, c\); expected two classes"),
        ("binary", ("a",), r"1 classes \(a\); expected two classes"),
        ("binary", ("a", "a"), "different names"),
    ],
)
def test_tasks_that_cannot_be(kind: str, classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Task(kind, classes)


def test_labels_become_numbers() -> None:
    assert MULTICLASS.encode([["owl"], ["cat"]]).tolist() == [2, 0]
    assert MULTILABEL.encode([["owl", "cat"], []]).tolist() == [[1, 0, 1], [0, 0, 0]]
    with pytest.raises(InputError, match=r"unknown label 'dig'.*did you mean 'dog'"):
        MULTICLASS.encode([["dig"]])
    for names in ([], ["cat", "dog"]):
        with pytest.raises(InputError, match="exactly one label"):
            MULTICLASS.encode([names])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_multiclass_is_weighted_smoothed_cross_entropy(
    smoothing: float, weighted: bool
) -> None:
    logits, target = draw(MULTICLASS, 20, 0)
    weights = torch.tensor([1.0, 2.0, 0.5]) if weighted else None
    found = MULTICLASS.losses(logits, target, weights=weights, smoothing=smoothing)
    each = weights if weighted else torch.ones(3)
    smooth = F.one_hot(target, 3) * (1 - smoothing) + smoothing / 3
    expected = -(smooth * each * logits.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_multilabel_is_binary_cross_entropy_per_label(
    smoothing: float, weighted: bool
) -> None:
    logits, target = draw(MULTILABEL, 20, 0)
    weights = torch.tensor([1.0, 2.0, 0.5]) if weighted else torch.ones(3)
    found = MULTILABEL.losses(
        logits, target, weights=weights if weighted else None, smoothing=smoothing
    )
    smooth = target * (1 - smoothing) + smoothing / 2
    p = logits.sigmoid()
    expected = -(weights * smooth * p.log() + (1 - smooth) * (1 - p).log())
    torch.testing.assert_close(found, expected)


def test_probabilities_and_predictions() -> None:
    logits = torch.tensor([[1.0, 3.0, -2.0], [0.0, -1.0, -0.5]])
    torch.testing.assert_close(MULTICLASS.probabilities(logits), logits.softmax(-1))
    torch.testing.assert_close(MULTILABEL.probabilities(logits), logits.sigmoid())
    assert MULTICLASS.predict(logits).tolist() == [1, 0]
    assert MULTILABEL.predict(logits).tolist() == [[True, True, False], [True, False, False]]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_targets_are_what_is_predicted_or_else_the_top_one(seed: int) -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed)) - 0.7
    assert MULTICLASS.targets(logits) == [[int(row.argmax())] for row in logits]
    for row, chosen in zip(logits, MULTILABEL.targets(logits), strict=True):
        likely = [c for c in range(3) if row[c].sigmoid() >= 0.5]
        assert chosen == (likely or [int(row.argmax())])


def test_a_target_set_is_scored_by_its_means() -> None:
    logits = torch.tensor([[1.0, 3.0, -2.0], [0.5, -1.0, -0.5]])
    weights = MULTILABEL.target_weights([[0, 1], [2]])
    assert weights.tolist() == [[0.5, 0.5, 0], [0, 0, 1]]
    assert (weights * logits).sum(1).tolist() == [2.0, -0.5]
    expected = (logits[:, 0].sigmoid() + logits[:, 1].sigmoid()) / 2
    torch.testing.assert_close(MULTILABEL.target_probability(logits, [0, 1]), expected)


@given(shift=st.floats(-50, 50), target=st.integers(0, 2))
def test_a_centred_score_ignores_what_is_added_to_every_class(shift: float, target: int) -> None:
    logits = torch.tensor([[1.0, 3.0, -2.0], [0.5, -1.0, -0.5]], dtype=torch.float64)
    for kind in ("centred", "auto"):
        moved = MULTICLASS.score(logits + shift, target, kind)
        torch.testing.assert_close(moved, MULTICLASS.score(logits, target, kind))
    raw = MULTICLASS.score(logits + shift, target, "logit")
    torch.testing.assert_close(raw, logits[:, target] + shift)


def test_the_score_of_a_multilabel_target_is_its_logit() -> None:
    logits = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(MULTILABEL.score(logits, 1), logits[..., 1])
    torch.testing.assert_close(
        MULTILABEL.score(logits, 1, "centred"), logits[..., 1] - logits.mean(-1)
    )
    with pytest.raises(InputError, match="did you mean 'centred'"):
        MULTILABEL.score(logits, 1, "centered")


def test_class_weights_balance() -> None:
    target = torch.tensor([0, 0, 0, 1])
    weights = MULTICLASS.class_weights(target)
    torch.testing.assert_close(weights, torch.tensor([4 / 9, 4 / 3, 1.0]))
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 0, 1]])
    # one in three; never; always: where there is nothing to balance the weight is 1
    assert MULTILABEL.class_weights(labels).tolist() == [2.0, 1.0, 1.0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 30))
@pytest.mark.parametrize("task", [MULTICLASS, MULTILABEL], ids=["multiclass", "multilabel"])
def test_metrics_agree_with_scikit_learn(task: Task, seed: int, n: int) -> None:
    logits, target = draw(task, n, seed)
    found = task.metrics(logits, target)
    predicted = task.predict(logits).numpy()
    truth = target.numpy() if task.multilabel else np.eye(3)[target.numpy()]
    occurs = [c for c in range(3) if truth[:, c].any()]
    assert found["accuracy"] == pytest.approx((predicted == target.numpy()).mean(), abs=1e-6)
    y = target.numpy().astype(int)
    predicted = predicted.astype(int)
    micro = sk.f1_score(y, predicted, average="micro", labels=[0, 1, 2], zero_division=0)
    assert found["micro_f1"] == pytest.approx(micro, abs=1e-6)
    if occurs:
        macro = sk.f1_score(y, predicted, average="macro", labels=occurs, zero_division=0)
        assert found["macro_f1"] == pytest.approx(macro, abs=1e-6)
    else:
        assert found["macro_f1"] is None
    p = task.probabilities(logits).numpy()
    mixed = [c for c in occurs if not truth[:, c].all()]
    if mixed:
        area = np.mean([sk.roc_auc_score(truth[:, c], p[:, c]) for c in mixed])
        assert found["auroc"] == pytest.approx(area, abs=1e-5)
    else:
        assert found["auroc"] is None


def test_auroc_is_undefined_where_only_one_class_occurs() -> None:
    logits, _ = draw(MULTICLASS, 5, 0)
    assert MULTICLASS.metrics(logits, torch.ones(5, dtype=torch.int64))["auroc"] is None
    labels = torch.tensor([[1.0, 0, 0]]).expand(5, 3)
    assert MULTILABEL.metrics(logits, labels)["auroc"] is None
    assert MULTILABEL.metrics(logits, torch.zeros(5, 3))["macro_f1"] is None


def test_a_single_label_has_metrics() -> None:
    task = Task("multilabel", ("hate",))
    found = task.metrics(
        torch.tensor([[2.0], [-1], [1], [-3]]), torch.tensor([[1.0], [1], [0], [0]])
    )
    assert found == {"accuracy": 0.5, "micro_f1": 0.5, "macro_f1": 0.5, "auroc": 0.75}


def test_large_logits_keep_their_order() -> None:
    task = Task("multilabel", ("hate",))
    logits = torch.tensor([[20.0], [25], [30], [35]])
    assert task.metrics(logits, torch.tensor([[0.0], [0], [1], [1]]))["auroc"] == 1.0


@pytest.mark.parametrize(
    ("logits", "message"),
    [(torch.zeros(0, 3), "no samples"), (torch.tensor([[0.0, float("nan"), 1]]), "NaN")],
)
def test_metrics_of_nothing_or_nan_are_an_error(logits: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MULTICLASS.metrics(logits, torch.zeros(len(logits), dtype=torch.int64))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, (1.0, 3.0), (0.5, 2.0)])
def test_the_loss_of_binary_is_binary_cross_entropy_of_the_log_odds(
    smoothing: float, weights: tuple[float, float] | None
) -> None:
    logits, target = draw(BINARY, 20, 0)
    odds, (negative, positive) = logits[:, 1] - logits[:, 0], weights or (1.0, 1.0)
    smooth = target * (1 - smoothing) + smoothing / 2
    ratio = torch.tensor(positive / negative)
    expected = negative * F.binary_cross_entropy_with_logits(
        odds, smooth, pos_weight=ratio, reduction="none"
    )
    given_weights = None if weights is None else torch.tensor(weights)
    found = BINARY.losses(logits, target, weights=given_weights, smoothing=smoothing)
    torch.testing.assert_close(found, expected)


def test_the_threshold_of_binary_is_one_half() -> None:
    logits = torch.tensor([[0.0, 0.0], [3.0, 2.9], [3.0, 3.1]])
    assert BINARY.predict(logits).tolist() == [1, 0, 1]
    torch.testing.assert_close(
        BINARY.probabilities(logits)[:, 1], (logits[:, 1] - logits[:, 0]).sigmoid()
    )


@given(shift=st.floats(-50, 50))
def test_a_binary_target_is_the_positive_class_and_its_score_the_log_odds(shift: float) -> None:
    logits = torch.tensor([[1.0, 3.0], [0.5, -1.0]], dtype=torch.float64)
    assert BINARY.targets(logits) == [[1], [1]]
    for kind in ("auto", "logit", "centred"):
        assert BINARY.score(logits, 1, kind).tolist() == [2.0, -1.5]
        assert BINARY.score(logits, 0, kind).tolist() == [-2.0, 1.5]
        torch.testing.assert_close(
            BINARY.score(logits + shift, 1, kind), BINARY.score(logits, 1, kind)
        )
    weights = BINARY.target_weights([[1], [0]])
    assert (weights * logits).sum(1).tolist() == [2.0, 1.5]
    with pytest.raises(InputError, match="did you mean 'centred'"):
        BINARY.score(logits, 1, "centered")


def test_balanced_weights_of_binary_stand_in_the_ratio_of_the_counts() -> None:
    weights = BINARY.class_weights(torch.tensor([0, 0, 0, 1]))
    assert float(weights[1] / weights[0]) == pytest.approx(3)


def test_weights_can_be_named() -> None:
    assert MULTICLASS.named_weights({"owl": 2}).tolist() == [1, 1, 2]
    with pytest.raises(InputError, match=r"class_weights: .*'owls'.*did you mean 'owl'"):
        MULTICLASS.named_weights({"owls": 2})


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 30))
def test_metrics_of_binary_agree_with_scikit_learn(seed: int, n: int) -> None:
    logits, target = draw(BINARY, n, seed)
    found = BINARY.metrics(logits, target)
    y, p = target.numpy(), BINARY.probabilities(logits)[:, 1].numpy()
    predicted = p >= 0.5
    assert found["accuracy"] == pytest.approx((predicted == y).mean(), abs=1e-6)
    occurs = sorted(set(y.tolist()))
    macro = sk.f1_score(y, predicted, average="macro", labels=occurs, zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro, abs=1e-6)
    if 1 not in occurs:
        assert (found["f1"], found["average_precision"]) == (None, None)
        return
    assert found["f1"] == pytest.approx(sk.f1_score(y, predicted, zero_division=0), abs=1e-6)
    average = sk.average_precision_score(y, p)
    assert found["average_precision"] == pytest.approx(average, abs=1e-5)
    if 0 in occurs:
        assert found["auroc"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-5)


@pytest.mark.parametrize("task", [MULTICLASS, MULTILABEL, BINARY], ids=lambda t: t.kind)
def test_losses_of_half_precision_are_those_of_single(task: Task) -> None:
    logits, target = draw(task, 20, 0)
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = task.losses(half, target)
    assert found.dtype == torch.float32
    assert torch.equal(found, task.losses(half.float(), target))

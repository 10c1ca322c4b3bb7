"""The library against its oracle: the same numbers, and the same distribution under dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import CLASSES, THREE, WIDTHS, tiny_batch, tiny_model
from torch import Tensor

from fli2moe.explain.attribution import attribute
from fli2moe.model import FusionTransformer, passes
from fli2moe.tokens import TokenBatch
from oracles import attribution as oracle_attribution
from oracles.model import OracleModel, gradients_like
from oracles.steps import batch_of, oracle_step, product_step, trainee_of

VARIANTS: list[dict[str, Any]] = [
    {"final_norm": False},
    {"final_norm": True},
    {"pooling": "attention"},
]
KINDS = [
    pytest.param(name, widths, {"positions": positions, **variant}, id=f"{name}-{label}")
    for name in ("fli2moe", "dense", "sparse_moe", "late_fusion")
    for widths in (WIDTHS, THREE)
    for positions in ("sinusoidal", "learned", "none")
    for variant in VARIANTS
    for label in [
        "-".join([str(len(widths)), positions, *(f"{k}={v}" for k, v in variant.items())])
    ]
]
LOGITS, GRADIENTS, ATTRIBUTION = 1e-5, 1e-4, 1e-5


def ragged(widths: dict[str, int], *, single: bool = False) -> TokenBatch:
    """Five samples of different lengths; the first has no token of the first modality."""
    lengths = [{m: (2 * i + 3 * j) % 7 + (j > 0) for j, m in enumerate(widths)} for i in range(5)]
    batch = tiny_batch(lengths, widths=widths)
    if single:
        return TokenBatch({m: t.with_features(t.features.float()) for m, t in batch.items()})
    return batch


@pytest.mark.parametrize(("name", "widths", "options"), KINDS)
def test_outputs(name: str, widths: dict[str, int], options: dict[str, Any]) -> None:
    model, batch = tiny_model(name, widths, **options).float(), ragged(widths, single=True)
    with torch.no_grad():
        found, expected = model(batch), OracleModel.of(model)(batch)
    for kind in ("logits", "weights", "expert_logits", "latents"):
        ours, theirs = getattr(found, kind), getattr(expected, kind)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=LOGITS)


def assert_same_step(
    model: FusionTransformer, tokens: TokenBatch, multilabel: bool, ours: Any, theirs: Any
) -> None:
    """Loss and the gradient of every parameter of one step with the same noise."""
    model = model.float().train()
    oracle, batch = OracleModel.of(model), batch_of(tokens, CLASSES, multilabel=multilabel)
    found = product_step(trainee_of(model, batch, **ours), batch, seed=3)
    expected = oracle_step(oracle, batch, seed=3, **theirs)
    torch.testing.assert_close(found, expected, rtol=0, atol=LOGITS)
    reference = gradients_like(model, oracle)
    assert reference.keys() == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        difference = float((parameter.grad - reference[name]).norm())
        assert difference <= GRADIENTS * float(reference[name].norm()), name
        assert reference[name].any(), name


@pytest.mark.parametrize("multilabel", [False, True], ids=["multiclass", "multilabel"])
@pytest.mark.parametrize(("name", "widths", "options"), KINDS)
def test_gradients_of_a_training_step(
    name: str, widths: dict[str, int], options: dict[str, Any], multilabel: bool
) -> None:
    model = tiny_model(name, widths, **options)
    assert_same_step(model, ragged(widths, single=True), multilabel, {}, {})


@pytest.mark.parametrize("name", ["fli2moe", "late_fusion"])
@pytest.mark.parametrize("widths", [WIDTHS, THREE], ids=["two", "three"])
def test_gradients_with_experts_one_by_one(
    name: str, widths: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "ALONE", 0)
    assert_same_step(tiny_model(name, widths), ragged(widths, single=True), False, {}, {})


@pytest.mark.parametrize("kind", ["none", "cos", "cka", "cka_debiased", "barlow", "barlow_full"])
@pytest.mark.parametrize("micro_batch", [None, 1, 2])
def test_gradients_with_decorrelation_and_in_parts(kind: str, micro_batch: int | None) -> None:
    ours = {
        "decorrelation": kind,
        "decorrelation_weight": 0.3,
        "barlow_warmup_epochs": 0,
        "micro_batch": micro_batch,
    }
    theirs = {"kind": kind, "decorrelation_weight": 0.3}
    assert_same_step(tiny_model(), ragged(WIDTHS, single=True), False, ours, theirs)


@pytest.mark.parametrize("widths", [WIDTHS, THREE], ids=["two", "three"])
def test_gradients_on_logits_above_a_floor(widths: dict[str, int]) -> None:
    options = {"space": "logit", "synergy_floor": 0.1}
    model = tiny_model(widths=widths)
    assert_same_step(model, ragged(widths, single=True), False, options, options)


@pytest.mark.parametrize("method", ["attention_gradient", "attention_rollout", "gradient_x_input"])
@pytest.mark.parametrize(("name", "widths", "options"), KINDS)
def test_attribution(
    method: str, name: str, widths: dict[str, int], options: dict[str, Any]
) -> None:
    model, batch = tiny_model(name, widths, **options), ragged(widths)
    generator = torch.Generator().manual_seed(5)
    target = torch.rand(5, CLASSES, generator=generator, dtype=torch.float64)
    baseline = {m: torch.full((width,), 0.1).double() for m, width in widths.items()}
    found = attribute(model, batch, target, method, baseline=baseline).scores
    oracle = OracleModel.of(model)
    if method == "attention_gradient":
        expected = oracle_attribution.attention_gradient(oracle, batch, target)
    elif method == "attention_rollout":
        expected = oracle_attribution.attention_rollout(oracle, batch)
    else:
        expected = oracle_attribution.gradient_x_input(oracle, batch, target, baseline)
    assert found.keys() == expected.keys()
    for head, scores in expected.items():
        for m, values in scores.items():
            torch.testing.assert_close(found[head][m], values, rtol=0, atol=ATTRIBUTION)


RATE, OTHER = 0.5, 0.3
DROPOUTS: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": RATE},
    "attention_dropout": {"attention_dropout": RATE},
    "input_dropout": {"input_dropout": RATE},
    "router": {"router": {"hidden": 6, "dropout": RATE, "temperature": 0.3}},
}
PASSES, ERRORS = 400, 4.5
"""About 150 comparisons of means and variances: one in 1000 such sets of normals exceeds 4.5."""


def outputs_of(run: Callable[[TokenBatch], Any], seed: int) -> Tensor:
    """(PASSES, Q): logits and experts' logits of training-mode passes over one batch."""
    batch, rows = ragged(WIDTHS, single=True), []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for _ in range(PASSES):
            output = run(batch)
            rows.append(torch.cat([output.logits.flatten(), output.expert_logits.flatten()]))
    return torch.stack(rows).double()


def steps_of(step: Callable[[int], Tensor], gradients: Callable[[], dict[str, Tensor]]) -> Tensor:
    """(PASSES, Q): the loss, and each gradient along a fixed random direction."""
    rows = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for number in range(PASSES):
            row, generator = [step(number)], torch.Generator().manual_seed(9)
            for _, gradient in sorted(gradients().items()):
                direction = torch.randn(gradient.shape, generator=generator)
                row.append((gradient * direction).sum() / direction.norm())
            rows.append(torch.stack(row))
    return torch.stack(rows).double()


def errors_apart(x: Tensor, y: Tensor) -> float:
    """How many standard errors the means or variances of two sets of draws are apart at most.

    What does not vary in either set must be the same in both.
    """
    fixed = (x.var(0) < 1e-10) & (y.var(0) < 1e-10)
    torch.testing.assert_close(x[:, fixed].mean(0), y[:, fixed].mean(0), rtol=0, atol=LOGITS)
    x, y, most = x[:, ~fixed], y[:, ~fixed], 0.0
    for a, b in ((x, y), ((x - x.mean(0)).square(), (y - y.mean(0)).square())):
        error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
        most = max(most, float(((a.mean(0) - b.mean(0)).abs() / error).max()))
    return most


@pytest.mark.slow
@pytest.mark.parametrize("kind", DROPOUTS)
def test_dropout_gives_the_same_distribution_of_outputs(kind: str) -> None:
    """And a rate of .3 in place of .5 would be seen."""
    model = tiny_model(**DROPOUTS[kind]).float().train()
    oracle, found = OracleModel.of(model), outputs_of(model, seed=1)
    assert found.var(0).max() > 1e-3
    assert errors_apart(found, outputs_of(oracle, seed=2)) < ERRORS
    for module in oracle.modules():
        if isinstance(module, torch.nn.Dropout) and module.p == RATE:
            module.p = OTHER
    assert errors_apart(found, outputs_of(oracle, seed=3)) > ERRORS


@pytest.mark.slow
def test_dropout_gives_the_same_distribution_of_losses_and_gradients() -> None:
    """All kinds at once, forward and backward, the noise of the interaction losses drawn anew."""
    options = {name: value for kind in DROPOUTS.values() for name, value in kind.items()}
    model = tiny_model(**options).float().train()
    oracle, batch = OracleModel.of(model), batch_of(ragged(WIDTHS, single=True), CLASSES)
    trainee = trainee_of(model, batch)

    def product(number: int) -> Tensor:
        model.zero_grad()
        return product_step(trainee, batch, seed=number)

    def reference(number: int) -> Tensor:
        oracle.zero_grad()
        return oracle_step(oracle, batch, seed=PASSES + number)

    found = steps_of(product, lambda: {n: p.grad for n, p in model.named_parameters()})
    expected = steps_of(reference, lambda: gradients_like(model, oracle))
    assert errors_apart(found, expected) < ERRORS

"""Attribution against full matrices, Captum called directly, and finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import IntegratedGradients
from oracles import attribution as oracles
from oracles.model import OracleModel
from tiny import CLASSES, THREE, WIDTHS, alone, replace, tiny_batch, tiny_model
from torch import Tensor

from fli2moe.errors import InputError
from fli2moe.explain.attribution import METHODS, Attribution, attribute, usable_methods
from fli2moe.model import MODELS, FusionTransformer
from fli2moe.tokens import TokenBatch, Tokens

NAMES = tuple(MODELS)
SMOOTH = tuple(name for name in NAMES if name != "sparse_moe")  # choices of experts jump
TARGET = torch.tensor([[0.0, 1, 0], [0.5, 0, 0.5]], dtype=torch.float64)
BASELINE = {m: torch.linspace(-0.5, 0.5, width, dtype=torch.float64) for m, width in WIDTHS.items()}


def assert_same(a: Attribution, b: Attribution, tolerance: float = 1e-10) -> None:
    assert a.scores.keys() == b.scores.keys()
    for head, scores in a.scores.items():
        for m, x in scores.items():
            torch.testing.assert_close(x, b.scores[head][m], rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", ["attention_gradient", "attention_rollout"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("fli2moe", WIDTHS),
        ("fli2moe", THREE),
        ("dense", WIDTHS),
        ("sparse_moe", WIDTHS),
        ("late_fusion", THREE),
    ],
)
@pytest.mark.parametrize("structural", [False, True])
def test_attention_methods_are_the_matrices_written_out(
    method: str, layers: int, name: str, widths: dict[str, int], structural: bool
) -> None:
    model = tiny_model(name, widths, layers=layers)
    batch = tiny_batch(widths=widths, structural=structural)
    found = attribute(model, batch, TARGET, method).scores
    assert tuple(found) == model.heads
    oracle = OracleModel.of(model)
    for row in range(batch.batch_size):
        one = alone(batch, row)
        expected = (
            oracles.attention_rollout(oracle, one)
            if method == "attention_rollout"
            else oracles.attention_gradient(oracle, one, TARGET[[row]])
        )
        assert tuple(expected) == model.heads
        for head, scores in expected.items():
            for m, values in scores.items():
                content, length = batch[m].content[row], values.shape[1]
                if m not in model.sees.get(head, widths):
                    assert not values.any()
                elif name != "late_fusion":  # whose few tokens may all speak against the target
                    assert values.any()
                ours = found[head][m][row]
                torch.testing.assert_close(ours[:length], values[0], rtol=0, atol=1e-8)
                assert not ours[~content].any()


def test_relevance_far_smaller_than_the_skip_path_survives_float32() -> None:
    """Subtracting the skip path at the end would leave rounding noise."""
    model, batch = tiny_model("dense"), tiny_batch()
    exact = attribute(model, batch, TARGET * 1e-6, "attention_gradient").scores["mixture"]
    single = TokenBatch({m: t.with_features(t.features.float()) for m, t in batch.items()})
    rough = attribute(model.float(), single, TARGET * 1e-6, "attention_gradient").scores["mixture"]
    for m in WIDTHS:
        assert exact[m].max() < 1e-5
        torch.testing.assert_close(rough[m].double(), exact[m], rtol=1e-3, atol=1e-12)


def head_score(model: FusionTransformer, head: int, target: Tensor, *features: Tensor) -> Tensor:
    """Weighted sum of one head's logits, (B,), of samples without padding."""
    tokens = {}
    for m, x in zip(model.modalities, features, strict=True):
        mask = torch.ones(x.shape[:2], dtype=torch.bool)
        tokens[m] = Tokens(x, mask, torch.zeros(*x.shape[:2], 2))
    output = model(TokenBatch(tokens))
    logits = output.head_logits[:, head] if len(model.heads) > 1 else output.logits
    return logits @ target


def real(batch: TokenBatch, row: int) -> tuple[Tensor, ...]:
    return tuple(t.features[row : row + 1, t.mask[row]] for t in batch.values())


@pytest.mark.parametrize("reduction", ["signed_sum", "abs_mean"])
@pytest.mark.parametrize("name", NAMES)
def test_integrated_gradients_are_captum_s_sample_by_sample(name: str, reduction: str) -> None:
    model, batch = tiny_model(name).requires_grad_(False), tiny_batch()
    options = {"baseline": BASELINE, "steps": 20, "reduction": reduction}
    found = attribute(model, batch, TARGET, "integrated_gradients", **options)
    for row in range(2):
        inputs = real(batch, row)
        baselines = tuple(BASELINE[m].expand_as(x) for m, x in zip(WIDTHS, inputs, strict=True))
        for h, head in enumerate(model.heads):

            def forward(*features: Tensor, h: int = h, row: int = row) -> Tensor:
                return head_score(model, h, TARGET[row], *features)

            values, delta = IntegratedGradients(forward).attribute(
                inputs, baselines, n_steps=20, return_convergence_delta=True
            )
            torch.testing.assert_close(found.convergence_delta[head][row], delta[0])
            for m, value in zip(WIDTHS, values, strict=True):
                ours = found.scores[head][m][row, : value.shape[1]]
                signed, size = value[0].sum(-1), value[0].abs().mean(-1)
                expected = signed if reduction == "signed_sum" else size
                torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("baseline", [None, BASELINE], ids=["zero", "mean"])
def test_integrated_gradients_are_complete(name: str, baseline: dict[str, Tensor] | None) -> None:
    model, batch = tiny_model(name).requires_grad_(False), tiny_batch()
    found = attribute(model, batch, TARGET, "integrated_gradients", baseline=baseline, steps=200)
    for h, head in enumerate(model.heads):
        for row in range(2):
            inputs = real(batch, row)
            absent = tuple(
                torch.zeros_like(x) if baseline is None else baseline[m].expand_as(x)
                for m, x in zip(WIDTHS, inputs, strict=True)
            )
            difference = head_score(model, h, TARGET[row], *inputs) - head_score(
                model, h, TARGET[row], *absent
            )
            total = sum(found.scores[head][m][row].sum() for m in WIDTHS)
            delta = found.convergence_delta[head][row]
            torch.testing.assert_close(total - difference[0], delta, rtol=0, atol=1e-9)
            assert abs(float(delta)) < 1e-2 * max(1, abs(float(difference)))


def test_more_steps_miss_completeness_by_less() -> None:
    model, batch = tiny_model(), tiny_batch()
    few, many = (
        attribute(model, batch, TARGET, "integrated_gradients", steps=steps).convergence_delta
        for steps in (16, 200)
    )
    assert float(few["mixture"].abs().max()) > float(many["mixture"].abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_gradient_x_input_is_that_of_finite_differences(name: str) -> None:
    """sum_d (x_d - b_d) ds/dx_d is the slope of s when one token moves away from its baseline."""
    model, batch = tiny_model(name).requires_grad_(False), tiny_batch()
    found = attribute(model, batch, TARGET, "gradient_x_input", baseline=BASELINE)
    assert found.convergence_delta == {}
    step = 1e-5
    for row in range(2):
        inputs = real(batch, row)
        for h, head in enumerate(model.heads):
            for number, m in enumerate(WIDTHS):
                for t in range(inputs[number].shape[1]):
                    sides = []
                    for sign in (1, -1):
                        moved = [x.clone() for x in inputs]
                        moved[number][0, t] += sign * step * (inputs[number][0, t] - BASELINE[m])
                        sides.append(float(head_score(model, h, TARGET[row], *moved)))
                    slope = (sides[0] - sides[1]) / (2 * step)
                    assert float(found.scores[head][m][row, t]) == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_gives_what_its_samples_give_and_padding_gets_nothing(method: str) -> None:
    model, batch = tiny_model(), tiny_batch(structural=True)
    together = attribute(model, batch, TARGET, method, baseline=BASELINE)
    for m, tokens in batch.items():
        for scores in together.scores.values():
            assert scores[m].shape == tokens.mask.shape
            assert not scores[m][~tokens.content].any()
            assert scores[m][tokens.content].any()
    if method == "random":
        return
    for row in range(2):
        one = alone(batch, row)
        by_itself = attribute(model, one, TARGET[[row]], method, baseline=BASELINE)
        for head, scores in by_itself.scores.items():
            for m, values in scores.items():
                ours = together.scores[head][m][row, : values.shape[1]]
                torch.testing.assert_close(values[0], ours, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_nan_at_padding_has_no_effect(method: str) -> None:
    model, batch = tiny_model(), tiny_batch()
    spoilt = TokenBatch(
        {
            m: t.with_features(torch.where(t.mask[..., None], t.features, float("nan")))
            for m, t in batch.items()
        }
    )
    clean = attribute(model, batch, TARGET, method)
    found = attribute(model, spoilt, TARGET, method)
    assert_same(clean, found, 0)
    for head, delta in clean.convergence_delta.items():
        assert torch.equal(found.convergence_delta[head], delta)


@pytest.mark.parametrize("method", ["gradient_x_input", "integrated_gradients"])
def test_a_set_of_targets_is_the_mean_of_its_members(method: str) -> None:
    model, batch = tiny_model(), tiny_batch().rows(slice(0, 1))
    of = {
        c: attribute(model, batch, torch.eye(3)[c : c + 1], method).scores for c in range(CLASSES)
    }
    both = attribute(model, batch, torch.tensor([[0.5, 0.0, 0.5]]), method).scores
    for head, scores in both.items():
        for m, values in scores.items():
            mean = (of[0][head][m] + of[2][head][m]) / 2
            torch.testing.assert_close(values, mean, rtol=0, atol=1e-10)


def test_rollout_knows_no_target_and_the_gradient_does() -> None:
    model, batch = tiny_model(), tiny_batch()
    other = TARGET.roll(1, 1)
    rollout = [attribute(model, batch, t, "attention_rollout") for t in (TARGET, other)]
    assert_same(*rollout, 0)
    one, two = (attribute(model, batch, t).scores["synergy"]["text"] for t in (TARGET, other))
    assert not torch.allclose(one, two)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("failing", [False, True])
def test_nothing_is_left_on_the_model(
    method: str, failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = tiny_model().train(), tiny_batch()
    model.bank.layers[0].output.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = [p.requires_grad for p in model.parameters()]
    random_state = torch.random.get_rng_state()
    if failing:
        work = METHODS[method]

        def fail(request: Any) -> Attribution:
            work(request)
            raise RuntimeError("inside")

        monkeypatch.setitem(METHODS, method, fail)
        with pytest.raises(RuntimeError, match="inside"):
            attribute(model, batch, TARGET, method)
    else:
        with torch.no_grad():
            result = attribute(model, batch, TARGET, method)
            assert not torch.is_grad_enabled()
        assert not any(x.requires_grad for s in result.scores.values() for x in s.values())
    assert all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(p.grad is None for p in model.parameters())
    assert not any(t.features.requires_grad for t in batch.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_random_is_the_seed_s() -> None:
    model, batch = tiny_model(), tiny_batch()
    first, again, other = (attribute(model, batch, TARGET, "random", seed=s) for s in (1, 1, 2))
    assert_same(first, again, 0)
    assert not torch.equal(first.scores["mixture"]["text"], other.scores["mixture"]["text"])
    assert not torch.equal(first.scores["mixture"]["text"], first.scores["synergy"]["text"])


def test_a_sample_without_content_gets_zeros() -> None:
    batch = tiny_batch()
    empty = replace(
        batch, text=Tokens(batch["text"].features, batch["text"].mask & False, batch["text"].spans)
    )
    for method in METHODS:
        scores = attribute(tiny_model(), empty, TARGET, method).scores["mixture"]
        assert not scores["text"].any()
        assert torch.isfinite(scores["image"]).all()


@pytest.mark.parametrize("method", ["attention_gradient", "attention_rollout"])
def test_a_model_without_maps_says_what_to_use_instead(method: str) -> None:
    model = tiny_model("early_fusion")
    assert usable_methods(tiny_model("dense")) == tuple(METHODS)
    assert set(METHODS) - set(usable_methods(model)) == {"attention_gradient", "attention_rollout"}
    with pytest.raises(InputError, match="use gradient_x_input or integrated_gradients") as error:
        attribute(model, tiny_batch(), TARGET, method)
    assert f"{method} of a model without attention maps" in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "atention_gradient"}, "did you mean 'attention_gradient'"),
        ({"target": TARGET[:1]}, r"shape \(1, 3\); expected \(2, 3\) weights"),
        ({"steps": 15}, "15; expected 16 or more"),
        ({"reduction": "abs_maen"}, "did you mean 'abs_mean'"),
        ({"baseline": {"text": BASELINE["text"]}}, "baseline: shapes"),
        ({"tokens": tiny_batch(widths=THREE)}, "modalities"),
    ],
)
def test_bad_requests(options: dict[str, object], message: str) -> None:
    request = {"model": tiny_model(), "tokens": tiny_batch(), "target": TARGET, **options}
    with pytest.raises(InputError, match=message):
        attribute(**request)

"""The router: a distribution over experts, from masked means."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_batch, tiny_model
from torch.nn import functional as F

from fli2moe.errors import InputError
from fli2moe.model.router import Router


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), temperature=st.floats(0.5, 10))
def test_weights_are_positive_and_sum_to_one(seed: int, temperature: float) -> None:
    router = {"temperature": temperature, "dropout": 0.0, "hidden": 6}
    weights = tiny_model(router=router)(tiny_batch(seed=seed)).weights
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(2, dtype=torch.float64))


def test_the_dense_baseline_has_weight_one() -> None:
    assert torch.equal(tiny_model("dense")(tiny_batch()).weights, torch.ones(2, 1).double())


@pytest.mark.parametrize("normalize", ["l2", "none"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_softmax_of_the_scaled_mlp_of_the_means(normalize: str, layers: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        router = Router(4, 3, hidden=5, layers=layers, temperature=2.5, normalize=normalize).eval()
    x = {"a": torch.tensor([[[3.0, 4.0], [1.0, 0.0], [9.0, 9.0]]]), "b": torch.ones(1, 1, 2)}
    masks = {"a": torch.tensor([[True, True, False]]), "b": torch.tensor([[True]])}
    means = [torch.tensor([2.0, 2.0]), torch.tensor([1.0, 1.0])]
    if normalize == "l2":
        means = [F.normalize(mean, dim=0) for mean in means]
    expected = (router.mlp(torch.cat(means)) / 2.5).softmax(0)
    torch.testing.assert_close(router(x, masks)[0], expected)
    linears = [layer for layer in router.mlp if isinstance(layer, torch.nn.Linear)]
    assert len(linears) == layers


def test_a_higher_temperature_is_flatter() -> None:
    def spread(temperature: float) -> float:
        router = {"temperature": temperature, "dropout": 0.0, "hidden": 6}
        return float(tiny_model(router=router)(tiny_batch()).weights.detach().std())

    assert spread(0.5) > spread(2) > spread(20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: 0.0; expected a positive number"),
        ({"normalize": "l1"}, "unknown normalisation 'l1'; expected one of l2, none"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Router(4, 3, **options)

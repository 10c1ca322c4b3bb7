"""The sparse mixture: who goes where, what there is no room for, and what the loss of it asks."""

from __future__ import annotations

import pytest
import torch
from oracles.model import OracleModel
from oracles.sparse import balance
from tiny import WIDTHS, alone, tiny_batch, tiny_model
from torch import Tensor

from fli2moe.config import ModelConfig
from fli2moe.losses.balance import load_balance
from fli2moe.model import Routing
from fli2moe.model.sparse import SparseLayer, dispatch

LENGTHS = [{"text": 6, "image": 3}, {"text": 2, "image": 5}, {"text": 0, "image": 1}]


def one_sample(rows: list[list[float]], real: int, factor: float | None) -> tuple[list, Tensor]:
    """Experts of the first and of the second choices, and the gates."""
    probabilities = torch.tensor([rows], dtype=torch.float64)
    mask = torch.arange(len(rows))[None] < real
    expert, gate = dispatch(probabilities, mask, factor)
    return expert.view(2, -1).tolist(), gate.view(2, -1)


ROWS = [[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]]


def test_each_token_goes_to_its_two_best_and_padding_nowhere() -> None:
    experts, gates = one_sample(ROWS, 3, None)
    assert experts == [[0, 0, 1, 3], [1, 2, 0, 3]]
    torch.testing.assert_close(gates.sum(0), torch.ones(4).double())
    assert float(gates[0, 0]) == pytest.approx(0.6 / 0.9)


def test_an_expert_takes_first_choices_first_and_then_in_order() -> None:
    """Room for ceil(1 * 2 * 4 / 3) = 3 tokens: the second choice of token 2 comes too late."""
    experts, _ = one_sample(ROWS, 4, 1.0)
    assert experts == [[0, 0, 1, 0], [1, 2, 3, 1]]
    tight, _ = one_sample(ROWS, 4, 0.3)  # ceil(.8) = 1
    assert tight == [[0, 3, 1, 3], [3, 2, 3, 3]]


def test_padding_takes_no_room() -> None:
    """Two real tokens: ceil(1 * 2 * 2 / 3) = 2, as many as without the padding."""
    experts, _ = one_sample(ROWS, 2, 1.0)
    assert experts == [[0, 0, 3, 3], [1, 2, 3, 3]]


def layer_of(factor: float | None) -> SparseLayer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SparseLayer(8, 2, 16, 0.0, 0.0, 4, factor).double()


def test_a_token_without_room_passes_by() -> None:
    layer = layer_of(1e-9).train()
    x = torch.randn(1, 1, 12, 8, generator=torch.Generator().manual_seed(0)).double()
    fed, _ = layer.feed(x, torch.ones(1, 1, 12, dtype=torch.bool))
    passed = (fed == x).all(-1)[0, 0]
    scores = layer.norm_feed_forward(x)[0] @ layer.gate.weight.T  # (1, 12, 4)
    chosen, _ = dispatch(scores.softmax(-1), torch.ones(1, 12, dtype=torch.bool), 1e-9)
    takers = int((chosen < 4).sum())  # an expert that is chosen at all takes one token
    assert 2 <= takers <= 4
    assert torch.equal(passed, (chosen == 4).view(2, 12).all(0))
    assert 12 - takers <= int(passed.sum()) < 12
    layer.eval()
    unlimited, _ = layer.feed(x, torch.ones(1, 1, 12, dtype=torch.bool))
    assert not (unlimited == x).all(-1).any()


def test_only_two_experts_work_for_a_token() -> None:
    """The gradient of one token reaches the weights of its two experts and of no other."""
    layer, mask = layer_of(None), torch.ones(1, 1, 3, dtype=torch.bool)
    x = torch.randn(1, 1, 3, 8, generator=torch.Generator().manual_seed(1)).double()
    fed, routing = layer.feed(x, mask)
    fed[0, 0, 1].sum().backward()
    used = layer.contract.weight.grad.flatten(1).any(1)
    assert int(used.sum()) == 2
    assert int(routing.first.sum()) == 3


def test_in_training_too_no_sample_depends_on_another() -> None:
    model, batch = tiny_model("sparse_moe").train(), tiny_batch(LENGTHS)
    together = model(batch)
    free = tiny_model("sparse_moe", sparse={"capacity_factor": None}).train()(batch)
    assert (free.logits - together.logits).abs().max() > 1e-3  # the limit is felt
    for row in range(len(LENGTHS)):
        one = model(alone(batch, row))
        torch.testing.assert_close(one.logits[0], together.logits[row], rtol=0, atol=1e-10)
        for a, b in zip(one.routing, together.routing, strict=True):
            torch.testing.assert_close(a.probabilities[0], b.probabilities[row])
            assert torch.equal(a.first[0], b.first[row])


def test_the_loss_is_the_formula_of_all_real_tokens() -> None:
    model, batch = tiny_model("sparse_moe", layers=3), tiny_batch(LENGTHS)
    oracle = OracleModel.of(model)
    oracle(batch)
    found = load_balance(model(batch).routing)
    torch.testing.assert_close(found, balance(oracle.experts[0].layers), rtol=0, atol=1e-10)


def test_an_even_spread_costs_one_and_a_collapse_as_much_as_there_are_experts() -> None:
    even = Routing(torch.full((2, 4), 3.0), torch.full((2, 4), 3))
    collapsed = torch.tensor([[12, 0, 0, 0]] * 2)
    assert float(load_balance([even])) == 1
    assert float(load_balance([Routing(collapsed.float(), collapsed)])) == 4
    assert float(load_balance([even, Routing(collapsed.float(), collapsed)])) == 2.5


def test_its_descent_evens_the_load() -> None:
    """From a gate that sends nearly everything to one expert."""
    model, batch = tiny_model("sparse_moe", layers=1), tiny_batch([{"text": 9, "image": 9}] * 4)
    gate = model.bank.layers[0].gate
    with torch.no_grad():
        gate.weight.mul_(0.1)
        gate.weight[0] += 5 * model.bank.layers[0].norm_feed_forward.bias[0]
    optimizer, losses = torch.optim.Adam([gate.weight], lr=0.05), []
    for _ in range(150):
        optimizer.zero_grad()
        loss = load_balance(model(batch).routing)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 1.2
    assert losses[-1] < 1.1


@pytest.mark.parametrize("option", [{"experts": 1}, {"capacity_factor": 0}])
def test_what_makes_no_mixture_is_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="greater than"):
        ModelConfig.model_validate({"name": "sparse_moe", "sparse": option})


def test_choices_are_made_in_full_precision_under_autocast() -> None:
    model, batch = tiny_model("sparse_moe", layers=1).float(), tiny_batch(LENGTHS)
    single = type(batch)({m: batch[m].with_features(batch[m].features.float()) for m in WIDTHS})
    with torch.autocast("cpu", torch.bfloat16):
        output = model(single)
    assert output.routing[0].probabilities.dtype == torch.float32
    tokens = output.routing[0].first.sum(1)
    torch.testing.assert_close(output.routing[0].probabilities.sum(1), tokens.float())

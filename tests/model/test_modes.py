"""`undisturbed` leaves a model as it was, whatever happens inside."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_model

from fli2moe.model import undisturbed


def test_everything_is_put_back_after_an_error() -> None:
    model = tiny_model().train()
    model.bank.eval()
    model.classifier.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    during = []

    def fail() -> None:
        with undisturbed(model):
            during.extend(module.training for module in model.modules())
            during.extend(parameter.requires_grad for parameter in model.parameters())
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert during
    assert not any(during)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert True in modes
    assert False in modes


def test_gradients_that_were_there_stay() -> None:
    model = tiny_model()
    model.classifier.weight.grad = torch.ones_like(model.classifier.weight)
    with undisturbed(model):
        pass
    assert torch.equal(model.classifier.weight.grad, torch.ones_like(model.classifier.weight))

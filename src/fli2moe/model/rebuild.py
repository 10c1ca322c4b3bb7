"""A model from its configuration and stored weights, checked before anything is allocated."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fli2moe.config import ModelConfig
from fli2moe.errors import InputError
from fli2moe.model.base import FusionModel
from fli2moe.model.models import build_model
from fli2moe.stored import AGAIN

PRECISIONS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def rebuild(
    config: ModelConfig,
    widths: Mapping[str, int],
    classes: int,
    state: Mapping[str, Tensor],
    where: str,
) -> FusionModel:
    """Returns the model that `config` names with these weights, on the CPU.

    Args:
        config: sizes of the model.
        widths: {modality: D}.
        classes: C.
        state: its weights; their precision becomes the model's.
        where: what is at fault when they do not fit.

    Raises:
        InputError: when names or shapes are not the model's, or precisions are mixed.
    """
    if max(config.layers, config.router.layers) > len(state):
        found = f"{len(state)} tensors for {config.layers} layers"
        raise InputError(where, found, "the weights of every layer", AGAIN)
    try:  # without memory: what the file lacks must not be allocated
        with torch.device("meta"):
            wanted = build_model(config, widths, classes).state_dict()
    except RuntimeError as error:
        raise InputError(where, f"no such model can be built: {error}", "", AGAIN) from None
    _check_shapes(state, wanted, where)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        model = build_model(config, widths, classes)
    precision = next(x.dtype for x in state.values() if x.is_floating_point())
    model.to(precision).load_state_dict(dict(state))
    return model


def _check_shapes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    have = {name: tuple(x.shape) for name, x in state.items()}
    want = {name: tuple(x.shape) for name, x in wanted.items()}
    wrong = sorted(n for n in have.keys() | want.keys() if have.get(n) != want.get(n))
    if wrong:
        first = ", ".join(f"{n} {have.get(n, 'missing')}" for n in wrong[:3])
        found = f"{len(wrong)} tensors do not fit config.json: {first}"
        expected = ", ".join(f"{want.get(n, 'none')}" for n in wrong[:3])
        raise InputError(where, found, expected, AGAIN)
    floating = {name for name, x in wanted.items() if x.is_floating_point()}
    kinds = {state[name].dtype for name in floating}
    same = all(state[name].dtype == x.dtype for name, x in wanted.items() if name not in floating)
    if len(kinds) != 1 or not kinds <= {*PRECISIONS} or not same:
        found = f"numbers as {', '.join(sorted({str(x.dtype) for x in state.values()}))}"
        raise InputError(where, found, f"one of {', '.join(map(str, PRECISIONS))}", AGAIN)

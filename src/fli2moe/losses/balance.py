"""The load-balancing loss of sparse mixtures: no expert may get all the tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fli2moe.model import Routing
from fli2moe.precision import at_least_float32


def load_balance(routing: Sequence[Routing]) -> Tensor:
    """Returns the mean over layers of N * sum over experts e of p_e * f_e, a scalar.

    p_e is the mean of the gate's probability of e over all real tokens of the batch, f_e the share
    of them whose first choice is e, which has no gradient. It is 1 where both are even, N where one
    expert gets everything. From GShard (Lepikhin et al. 2021, arXiv 2006.16668, section 2.2) with
    the factor N of Switch Transformers (Fedus et al. 2022, arXiv 2101.03961, equation 4). The mean
    over layers is ours.

    Args:
        routing: one per layer, of the whole batch.
    """
    losses = []
    for layer in routing:
        first = at_least_float32(layer.first.to(layer.probabilities.dtype)).sum(0)  # (N,)
        tokens = first.sum().clamp_min(1)
        mean = at_least_float32(layer.probabilities).sum(0) / tokens
        losses.append(len(first) * (mean * first / tokens).sum())
    return torch.stack(losses).mean()

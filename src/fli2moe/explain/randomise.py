"""A model whose weights are drawn anew from the top down: its explanations must change.

The cascading parameter randomisation test of Adebayo et al. 2018.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch

from fli2moe.config import ModelConfig
from fli2moe.model import FusionModel, build_model


def randomised(
    model: FusionModel, config: ModelConfig, classes: int, seed: int
) -> Iterator[tuple[str, FusionModel]]:
    """Yields (step, copy of the model): at each step one more group of weights is drawn anew.

    Groups from the top: router, classifier, pooling and last norm, layers from the last to the
    first, and what places tokens (projections, positions). Statistics of the features stay. The
    global generator is left as it was.

    Args:
        model: trained.
        config: what it was built from.
        classes: C.
        seed: of the fresh weights.
    """
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        fresh = dict(build_model(config, dict(model.widths), classes).named_parameters())
    changed = copy.deepcopy(model)
    parameters = dict(changed.named_parameters())
    groups: dict[str, list[str]] = {}
    for name in sorted(parameters, key=_depth):
        groups.setdefault(_depth(name)[1], []).append(name)
    for step, names in groups.items():
        with torch.no_grad():
            for name in names:
                parameters[name].copy_(fresh[name])
        yield step, changed


def _depth(name: str) -> tuple[int, str]:
    """The place of a parameter from the top, and the name of its group."""
    parts = name.split(".")
    if parts[0] == "router":
        return 0, "router"
    if parts[0] in ("classifier", "mlp"):
        return 1, parts[0]
    if parts[:2] == ["bank", "layers"]:
        return 1000 - int(parts[2]), f"layer {int(parts[2]) + 1}"
    if parts[0] == "bank":
        return 2, "pooling and last norm"
    return 2000, "projections and positions"

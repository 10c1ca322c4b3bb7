"""Models whose weights are drawn anew from the top down: their explanations must change.

The cascading parameter randomisation test of Adebayo et al. 2018 (section 4).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch

from fli2moe.model import FusionModel, build_model

TOP, BOTTOM = "classifier and router", "projections and positions"


def randomised(model: FusionModel, seed: int) -> Iterator[tuple[str, FusionModel]]:
    """Yields (step, copy of the model) from the top down; each step's group joins those before it.

    `classifier and router`: all above the layers, which is classifiers (the MLP of early fusion),
    router, pooling and last norm; the router only scales what the experts say, so it goes with the
    classifiers (ours). `layer n`, from the last to the first. `projections and positions`: now
    nothing that was learnt is left but the features' statistics, which are the data's. Weights are
    drawn as they were for training; the model and the global generators stay as they are.

    Args:
        model: trained; one that `build_model` makes.
        seed: of the fresh weights.
    """
    fresh = dict(_fresh(model, seed).named_parameters())
    changed = copy.deepcopy(model)
    parameters = dict(changed.named_parameters())
    steps: dict[tuple[int, str], list[str]] = {}
    for name in parameters:
        steps.setdefault(_step(name, model.config.layers), []).append(name)
    for (_, step), names in sorted(steps.items()):
        with torch.no_grad():
            for name in names:
                parameters[name].copy_(fresh[name])
        yield step, copy.deepcopy(changed)


def _fresh(model: FusionModel, seed: int) -> FusionModel:
    """The model as it would be before training from this seed, on the CPU."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs too
        return build_model(model.config, model.widths, model.classes)


def _step(parameter: str, layers: int) -> tuple[int, str]:
    """The place of a parameter's step, and its name."""
    parts = parameter.split(".")
    if parts[:2] == ["bank", "layers"]:
        number = int(parts[2]) + 1
        return 1 + layers - number, f"layer {number}"
    if parts[0] in ("projections", "positions"):
        return 1 + layers, BOTTOM
    return 0, TOP

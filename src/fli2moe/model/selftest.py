"""A small batch with the logits that the model gave for it, stored beside the weights.

Checksums tell that the weights are the ones that were saved. Whether this machine and these
libraries still compute with them what was computed then, only a forward pass tells.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fli2moe.errors import InputError
from fli2moe.model.base import FusionModel
from fli2moe.model.inputs import Projection
from fli2moe.model.modes import undisturbed
from fli2moe.tokens import TokenBatch, Tokens

SEED = 260_313_326
SAMPLES = 2
LONGEST = 5

TOLERANCE = 1e-4
"""Largest difference on the CPU, as a share of the largest logit. Other kernels and thread counts
move float32 logits by some 1e-6 of it; another formula (a norm, a position) by far more."""

TOLERANCE_ELSEWHERE = 1e-2
"""The same on other devices, where matrix products may round to 10 bits (TF32: 2**-11 each)."""


@dataclass(frozen=True)
class SelfTest:
    """A batch and what the model said of it on the CPU, in evaluation mode.

    Attributes:
        batch: two samples whose sequences differ in length; the padding is not 0.
        logits: (B, 1 + E, C) of the mixture and every expert.
        weights: (B, E) router weights.
    """

    batch: TokenBatch
    logits: Tensor
    weights: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Returns what is stored: features and mask per modality, logits, weights."""
        features = {f"features.{m}": tokens.features for m, tokens in self.batch.items()}
        masks = {f"mask.{m}": tokens.mask for m, tokens in self.batch.items()}
        return {**features, **masks, "logits": self.logits, "weights": self.weights}


def make_selftest(model: FusionModel) -> SelfTest:
    """Draws a batch on the scale of the model's stored statistics and runs the model on it.

    Raises:
        InputError: when the model gives NaN or infinite logits: it could never be loaded.
    """
    if model.device.type != "cpu":
        model = copy.deepcopy(model).cpu()
    batch = _draw(model)
    logits, weights = _run(model, batch)
    if not bool(torch.isfinite(logits).all() & torch.isfinite(weights).all()):
        found = "NaN or infinite logits on an ordinary batch"
        raise InputError("model", found, "a model with finite weights", "train it again")
    return SelfTest(batch, logits, weights)


def read_selftest(
    tensors: Mapping[str, Tensor], model: FusionModel, where: str, remedy: str
) -> SelfTest:
    """Returns the self-test that `tensors` hold.

    Raises:
        InputError: when names, shapes or types are not those of the model's self-test.
    """
    precision, experts = _dtype(model), len(model.experts)
    wanted: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "logits": ((SAMPLES, 1 + experts, model.classes), precision),
        "weights": ((SAMPLES, experts), precision),
    }
    for m, width in model.widths.items():
        mask = tensors.get(f"mask.{m}")
        length = 1 if mask is None or mask.ndim != 2 else max(1, mask.shape[1])
        wanted[f"mask.{m}"] = ((SAMPLES, length), torch.bool)
        wanted[f"features.{m}"] = ((SAMPLES, length, width), precision)
    found = {name: (tuple(x.shape), x.dtype) for name, x in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if found.get(name) != wanted.get(name):
            says = f"{name} {found.get(name, 'missing')} does not fit the model"
            raise InputError(where, says, f"{wanted.get(name, 'no such tensor')}", remedy)
    batch = {m: _tokens(tensors[f"features.{m}"], tensors[f"mask.{m}"]) for m in model.modalities}
    return SelfTest(TokenBatch(batch), tensors["logits"], tensors["weights"])


def selftest_difference(test: SelfTest, model: FusionModel) -> float:
    """Returns how far the model is from the stored answers, where it is, as a share of the largest.

    Router weights count as shares of 1. Anything that is not finite, here or in what was stored,
    gives infinity.
    """
    logits, weights = _run(model, test.batch)
    scale = float(test.logits.abs().max())
    pairs = [(logits, test.logits, scale), (weights, test.weights, 1.0)]
    largest = 0.0
    for found, expected, unit in pairs:
        difference = float((found.double() - expected.double()).abs().max())
        if not bool(torch.isfinite(found).all() & torch.isfinite(expected).all()):
            return float("inf")
        if difference:
            largest = max(largest, difference / unit if unit else float("inf"))
    return largest


def selftest_tolerance(model: FusionModel) -> float:
    """Returns the largest difference that is rounding, by the model's device and precision."""
    usual = TOLERANCE if model.device.type == "cpu" else TOLERANCE_ELSEWHERE
    return max(usual, 16 * torch.finfo(_dtype(model)).eps)


def _draw(model: FusionModel) -> TokenBatch:
    """Returns two samples, each the shorter one in every other modality."""
    random = torch.Generator().manual_seed(SEED)
    longest = LONGEST if model.longest is None else min(LONGEST, model.longest)
    batch = {}
    for place, (m, width) in enumerate(model.widths.items()):
        projection = model.projections[m]
        assert isinstance(projection, Projection)  # for the type checker
        noise = torch.randn(SAMPLES, longest, width, generator=random, dtype=torch.float64)
        features = projection.mean + noise * projection.deviation
        mask = torch.ones(SAMPLES, longest, dtype=torch.bool)
        mask[place % SAMPLES, max(1, longest - 1 - place % 3) :] = False
        batch[m] = _tokens(features.to(_dtype(model)), mask)
    return TokenBatch(batch)


def _tokens(features: Tensor, mask: Tensor) -> Tokens:
    """Returns tokens that stand at characters 0, 1, 2, ... of a text that there never was."""
    place = torch.arange(mask.shape[1]).expand(mask.shape)
    return Tokens(features, mask, torch.stack([place, place + 1], dim=-1))


def _run(model: FusionModel, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Returns logits (B, 1 + E, C) and weights (B, E) on the CPU, in the weights' own precision."""
    device = model.device
    plain = torch.autocast(device.type, enabled=False)
    with undisturbed(model), torch.no_grad(), plain:
        output = model(batch.to(device))
    return output.head_logits.cpu(), output.weights.cpu()


def _dtype(model: FusionModel) -> torch.dtype:
    return next(model.parameters()).dtype

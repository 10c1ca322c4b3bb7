"""Views: the same batch with one or several modalities exchanged, taken away or replaced.

Losses say which views they need and read the latents; `run_views` is where the model runs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fli2moe.errors import InputError
from fli2moe.model import FusionModel, MoEOutput, View


def swapped(view: View, modalities: Collection[str], partners: Tensor) -> View:
    """Returns the view with some modalities taken from other samples.

    Masks travel along, so a partner's padding stays padding and a partner without the modality
    leaves the sample without it.

    Args:
        view: of B samples.
        modalities: all taken from the same partner, so that they still belong together.
        partners: (B,) row each sample takes them from, as `derangement` returns it.
    """
    for m in modalities:
        rows = partners.to(view.masks[m].device)
        view = view.replace(m, view.projected[m][rows], view.masks[m][rows])
    return view


def only(view: View, modality: str) -> View:
    """Returns the view in which every other modality is absent: masked out, all of it."""
    for m in view.masks:
        if m != modality:
            view = view.replace(m, view.projected[m], torch.zeros_like(view.masks[m]))
    return view


def derangement(size: int, generator: torch.Generator) -> Tensor:
    """Returns a permutation (size,) without a fixed point, every such one being equally likely.

    Drawn by rejection: a permutation has no fixed point with probability about 1 / e.

    Raises:
        InputError: when there are fewer than two samples.
    """
    if size < 2:
        found = f"{size} sample" if size == 1 else f"{size} samples"
        raise InputError("swapping within the batch", found, "at least 2")
    while True:
        order = torch.randperm(size, generator=generator)
        if not bool((order == torch.arange(size)).any()):
            return order


@dataclass(frozen=True, eq=False)
class Passes:
    """What the model made of a batch and of its other views.

    Attributes:
        output: of the clean view.
        latents: (B', E, M * H) of each other view, in their order.
    """

    output: MoEOutput
    latents: tuple[Tensor, ...]


def run_views(model: FusionModel, clean: View, others: Sequence[View]) -> Passes:
    """Runs the model on a batch and on other views of it: the only place where losses run it.

    Args:
        model: any.
        clean: B samples.
        others: each of the first B' samples, one B' <= B for all, and as many tokens as the clean
            view; what they share with it is the same memory (`shares_rows`).
    """
    first, *rest = model.read([clean, *others])
    latents = tuple(bank.latents.transpose(0, 1) for bank in rest)
    output = model.weigh(clean, first.latents, routing=first.routing or None)
    return Passes(output, latents)


def expert_logits(model: FusionModel, latents: Tensor) -> Tensor:
    """Maps latents (B, E, M * H) to the experts' logits (B, E, C)."""
    return model.classify(latents.transpose(0, 1))

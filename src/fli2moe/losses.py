"""Interaction losses: weak supervision of the experts by replacing one modality with noise.

After I2MoE (arXiv 2505.19190), on the latents as in the follow-up (design 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fli2moe.errors import InputError
from fli2moe.model import FusionTransformer, expert_names


@dataclass(frozen=True)
class InteractionLosses:
    """One scalar per expert, by expert name."""

    terms: Mapping[str, Tensor]

    @property
    def total(self) -> Tensor:
        """The mean of the M + 2 terms."""
        return torch.stack(list(self.terms.values())).mean()


def interaction_losses(
    model: FusionTransformer,
    projected: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    latents: Tensor,
    generator: torch.Generator,
    *,
    synergy_floor: float | None = None,
) -> InteractionLosses:
    """Computes the M + 2 terms of design 3.2 on the latents.

    Args:
        model: a mixture with the experts `unique_<modality>`, `synergy`, `redundancy`.
        projected: {modality: (B, T, H)} projected tokens of the clean input.
        masks: {modality: (B, T)}.
        latents: (B, E, M * H) of the clean input.
        generator: source of the replacement noise, on the CPU.
        synergy_floor: the synergy term is max(floor, cos); None leaves the cosine plain.

    Raises:
        InputError: when the model has other experts.
    """
    if set(model.experts) != set(expert_names(model.modalities)):
        expected = ", ".join(expert_names(model.modalities))
        raise InputError("interaction losses", f"experts {', '.join(model.experts)}", expected)
    noisy = noisy_latents(model, projected, masks, generator)
    terms: dict[str, Tensor] = {}
    for e, expert in enumerate(model.experts):
        clean = latents[:, e]  # (B, M * H)
        without = {m: noisy[m][:, e] for m in model.modalities}
        cosines = torch.stack([F.cosine_similarity(clean, z, dim=-1) for z in without.values()])
        if expert == "synergy":
            floored = cosines if synergy_floor is None else cosines.clamp_min(synergy_floor)
            terms[expert] = floored.mean()
        elif expert == "redundancy":
            terms[expert] = (1 - cosines).mean()
        else:
            own = expert.removeprefix("unique_")
            others = [m for m in model.modalities if m != own]
            terms[expert] = torch.stack(
                [F.triplet_margin_loss(clean, without[m], without[own]) for m in others]
            ).mean()
    return InteractionLosses(terms)


def noisy_latents(
    model: FusionTransformer,
    projected: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Returns {modality: latents (B, E, M * H) with that modality's projected tokens as noise}.

    One noise draw serves all experts; the M passes run as one batch. Padding stays padding.
    """
    names = model.modalities
    batch = projected[names[0]].shape[0]
    copies = {m: [projected[m]] * len(names) for m in names}
    for i, m in enumerate(names):
        noise = torch.randn(projected[m].shape, generator=generator).to(projected[m])
        copies[m] = [noise if i == j else projected[m] for j in range(len(names))]
    stacked = {m: torch.cat(copies[m]) for m in names}  # (M * B, T, H)
    latents = model.latents(stacked, {m: masks[m].repeat(len(names), 1) for m in names})
    return dict(zip(names, torch.split(latents, batch), strict=True))

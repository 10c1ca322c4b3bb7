"""Interaction losses: weak supervision of the experts by replacing one modality.

After I2MoE (arXiv 2505.19190), on the latents as in the follow-up or on the logits as in I2MoE
(design 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fli2moe.errors import InputError, unknown_name
from fli2moe.losses.views import derangement, expert_logits, swapped
from fli2moe.model import FusionTransformer, View, expert_names
from fli2moe.precision import at_least_float32

SPACES = ("latent", "logit")


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
    latents: Tensor,
    replaced: Mapping[str, Tensor],
    *,
    synergy_floor: float | None = None,
    space: str = "latent",
) -> InteractionLosses:
    """Computes the M + 2 terms of design 3.2, in float32 at least.

    Args:
        model: a mixture with the experts `unique_<modality>`, `synergy`, `redundancy`.
        latents: (B, E, M * H) of the clean input.
        replaced: {modality: (B, E, M * H)} with that modality replaced.
        synergy_floor: the synergy term is max(floor, cos); None leaves the cosine plain.
        space: what the terms compare: `latent`, or `logit` (the experts' logits, as in I2MoE).

    Raises:
        InputError: when the model has other experts, or `space` is unknown.
    """
    check_experts(model)
    if space not in SPACES:
        raise unknown_name("losses.space", "space", space, SPACES)
    if space == "logit":
        latents = expert_logits(model, latents)
        replaced = {m: expert_logits(model, z) for m, z in replaced.items()}
    latents = at_least_float32(latents)
    replaced = {m: at_least_float32(z) for m, z in replaced.items()}
    terms: dict[str, Tensor] = {}
    for e, expert in enumerate(model.experts):
        clean = latents[:, e]  # (B, M * H), or (B, C) with logits
        without = {m: replaced[m][:, e] for m in model.modalities}
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


def check_experts(model: FusionTransformer) -> None:
    """Raises InputError when the model's experts are not those the losses are named after."""
    if set(model.experts) != set(expert_names(model.modalities)):
        expected = ", ".join(expert_names(model.modalities))
        raise InputError("interaction losses", f"experts {', '.join(model.experts)}", expected)


def replaced_views(
    model: FusionTransformer,
    view: View,
    generator: torch.Generator,
    *,
    replacement: str = "noise",
    means: Mapping[str, Tensor] | None = None,
) -> dict[str, View]:
    """Returns {modality: the view with that modality replaced}; padding stays padding.

    One draw serves all experts.

    Args:
        model: whose projection `mean` goes through.
        view: the clean batch.
        generator: source of the noise or of the partners, on the CPU.
        replacement: what a modality becomes; one of `REPLACEMENTS`.
        means: {modality: (D,)} training means of the features, for `replacement: mean`.

    Raises:
        InputError: when `replacement` is unknown, `mean` has no means, or `swap` has one sample.
    """
    if replacement not in REPLACEMENTS:
        raise unknown_name("losses.replacement", "replacement", replacement, REPLACEMENTS)
    if replacement == "mean" and means is None:
        raise InputError("losses.replacement", "mean without means", "training means (D,) each")
    centre = {m: model.projections[m](x.to(view.projected[m])) for m, x in (means or {}).items()}
    replace = REPLACEMENTS[replacement]
    return {m: replace(view, m, centre, generator) for m in model.modalities}


Centres = Mapping[str, Tensor]
"""{modality: (H,)} projected training means."""


def _noise(view: View, modality: str, centres: Centres, generator: torch.Generator) -> View:
    x = view.projected[modality]
    noise = torch.randn(x.shape, generator=generator).to(x)
    return view.replace(modality, noise, view.masks[modality])


def _zero(view: View, modality: str, centres: Centres, generator: torch.Generator) -> View:
    x = view.projected[modality]
    return view.replace(modality, torch.zeros_like(x), view.masks[modality])


def _mean(view: View, modality: str, centres: Centres, generator: torch.Generator) -> View:
    x = view.projected[modality]
    return view.replace(modality, centres[modality].to(x).expand_as(x), view.masks[modality])


def _swap(view: View, modality: str, centres: Centres, generator: torch.Generator) -> View:
    return swapped(view, [modality], derangement(len(view), generator))


REPLACEMENTS: dict[str, Callable[[View, str, Centres, torch.Generator], View]] = {
    "noise": _noise,  # N(0, 1) for every number: the papers'
    "zero": _zero,  # the zero vector of the projected space
    "mean": _mean,  # the projection of the training mean: what the explanations' baseline gives
    "swap": _swap,  # the same modality of another sample, with its mask
}

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
from fli2moe.losses.presence import Presence
from fli2moe.losses.views import derangement, expert_logits, swapped
from fli2moe.model import FusionModel, View, expert_names
from fli2moe.precision import at_least_float32

SPACES = ("latent", "logit")


@dataclass(frozen=True)
class InteractionLosses:
    """One scalar per expert, by expert name."""

    terms: Mapping[str, Tensor]

    @property
    def total(self) -> Tensor:
        """The mean of the terms: M + 2, or those of the experts that there are."""
        return torch.stack(list(self.terms.values())).mean()


def interaction_losses(
    model: FusionModel,
    latents: Tensor,
    replaced: Mapping[str, Tensor],
    presence: Presence,
    *,
    synergy_floor: float | None = None,
    space: str = "latent",
) -> InteractionLosses:
    """Computes one term per expert of design 3.2, in float32 at least.

    What an expert cannot see does not change when it is replaced: of an isolated unique expert the
    positive of the triplet is the anchor itself, and max(0, 1 - |z - z_-m|) is left (ours).

    Args:
        model: a mixture of some of the experts `unique_<modality>`, `synergy`, `redundancy`.
        latents: (B, E, M * H) of the clean input.
        replaced: {modality: (B, E, M * H)} with that modality replaced.
        presence: which samples count for a modality (`Presence.of_replaced`).
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

    def floored(cosine: Tensor) -> Tensor:
        return cosine if synergy_floor is None else cosine.clamp_min(synergy_floor)

    terms: dict[str, Tensor] = {}
    for e, expert in enumerate(model.experts):
        clean = latents[:, e]  # (B, M * H), or (B, C) with logits
        sees = model.sees[expert]
        without = {m: replaced[m][:, e] if m in sees else clean for m in model.modalities}
        values: dict[tuple[str, ...], Tensor] = {}  # (B,) of each
        if expert in ("synergy", "redundancy"):
            for m, z in without.items():
                alike = F.cosine_similarity(clean, z, dim=-1)
                values[(m,)] = 1 - alike if expert == "redundancy" else floored(alike)
        else:
            own = expert.removeprefix("unique_")
            for m in model.modalities:
                if m != own:
                    values[own, m] = triplet(clean, without[m], without[own])
        terms[expert] = presence.mean(values)
    return InteractionLosses(terms)


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Returns max(0, 1 + |anchor - positive| - |anchor - negative|) (B,) of latents (B, W)."""
    return F.triplet_margin_loss(anchor, positive, negative, reduction="none")


def check_experts(model: FusionModel) -> None:
    """Raises InputError when the losses are named after none, or not after all, of the experts."""
    names = expert_names(model.modalities)
    if not set(model.experts) <= set(names):
        found, expected = f"experts {', '.join(model.experts)}", f"some of {', '.join(names)}"
        raise InputError("interaction losses", found, expected)


def replaced_views(
    model: FusionModel,
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

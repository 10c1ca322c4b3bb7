"""The losses of design 3.2 from their formulas.

The replaced tokens come in ready-made, {modality: (tokens (B, T, H), mask (B, T))}, so that noise
can be shared with what is measured against this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from oracles.model import OracleModel, OracleOutput
from oracles.sparse import balance

Replaced = Mapping[str, tuple[Tensor, Tensor]]
"""{modality: (tokens (B, T, H), mask (B, T))}."""

Projected = Mapping[str, Tensor]
Masks = Mapping[str, Tensor]


def noise(projected: Projected, masks: Masks, generator: torch.Generator) -> Replaced:
    """Standard normal, drawn modality by modality; padding stays padding."""
    return {
        m: (torch.randn(x.shape, generator=generator).to(x), masks[m]) for m, x in projected.items()
    }


def zero(projected: Projected, masks: Masks) -> Replaced:
    """The zero vector of the projected space."""
    return {m: (torch.zeros_like(x), masks[m]) for m, x in projected.items()}


def mean(oracle: OracleModel, projected: Projected, masks: Masks, means: Projected) -> Replaced:
    """The projection of the training mean (D,)."""
    return {
        m: (oracle.projections[m](means[m]).expand_as(x), masks[m]) for m, x in projected.items()
    }


def swap(projected: Projected, masks: Masks, partners: Mapping[str, Tensor]) -> Replaced:
    """Another sample's tokens with its mask; partners {modality: (B,) rows}."""
    return {m: (x[partners[m]], masks[m][partners[m]]) for m, x in projected.items()}


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """(B, W) twice to (B,)."""
    lengths = x.norm(dim=-1).clamp_min(1e-8) * y.norm(dim=-1).clamp_min(1e-8)
    return (x * y).sum(-1) / lengths


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Margin 1, p 2, (B,); PyTorch adds 1e-6 to each difference, so that the root has a slope."""
    near = (anchor - positive + 1e-6).norm(dim=-1)
    far = (anchor - negative + 1e-6).norm(dim=-1)
    return (1 + near - far).clamp_min(0)


def interaction_terms(
    oracle: OracleModel,
    projected: Projected,
    masks: Masks,
    output: OracleOutput,
    replaced: Replaced,
    *,
    space: str = "latent",
    synergy_floor: float | None = None,
) -> dict[str, Tensor]:
    """{expert: its term}: one more pass of every expert for each modality that is replaced.

    The mean over the samples that have the modality before and after; a triplet needs both of its
    two. What an expert does not see leaves its latent as it is, dropout included.
    """
    without: dict[str, list[Tensor]] = {}  # {modality: per expert (B, M * H) or (B, C)}
    for m, (tokens, mask) in replaced.items():
        latents, _ = oracle.latents({**projected, m: tokens}, {**masks, m: mask})
        if space == "logit":
            latents = [c(z) for c, z in zip(oracle.classifiers, latents, strict=True)]
        without[m] = latents
    clean = output.latents if space == "latent" else output.expert_logits  # (B, E, ...)
    has = {m: (masks[m].any(1) & mask.any(1)).tolist() for m, (_, mask) in replaced.items()}
    terms = {}
    for e, name in enumerate(oracle.names):
        z, values = clean[:, e], []  # one value per sample and modality
        for m in oracle.modalities:
            own = name.removeprefix("unique_")
            other = without[m][e] if m in oracle.sees[e] else z
            if name == "synergy":
                value = cosine(z, other)
                value = value if synergy_floor is None else value.clamp_min(synergy_floor)
            elif name == "redundancy":
                value = 1 - cosine(z, other)
            elif m == own:
                continue
            else:
                value = triplet(z, other, without[own][e])
            needed = {m} if own == name else {m, own}
            values += [v for b, v in enumerate(value) if all(has[n][b] for n in needed)]
        terms[name] = torch.stack(values).mean() if values else 0 * z.sum()
    return terms


def decorrelation(kind: str, latents: Tensor) -> Tensor:
    """Mean over the pairs of experts of latents (B, E, W); in float64, for the sums cancel."""
    experts = latents.double().unbind(1)
    pairs = [DECORRELATIONS[kind](x, y) for x, y in combinations(experts, 2)]
    return torch.stack(pairs).mean().to(latents)


def cos(x: Tensor, y: Tensor) -> Tensor:
    """Mean over samples of the squared cosine."""
    return torch.stack(
        [(a @ b / (a.norm() * b.norm())) ** 2 for a, b in zip(x, y, strict=True)]
    ).mean()


def cka(x: Tensor, y: Tensor) -> Tensor:
    """<K, L> / (|K| |L|) of the Gram matrices of centred latents, sum by sum."""
    k, l_ = gram(x - x.mean(0)), gram(y - y.mean(0))
    size = range(len(x))

    def inner(a: list[list[Tensor]], b: list[list[Tensor]]) -> Tensor:
        return torch.stack([a[i][j] * b[i][j] for i in size for j in size]).sum()

    return inner(k, l_) / (inner(k, k) * inner(l_, l_)).sqrt()


def cka_debiased(x: Tensor, y: Tensor) -> Tensor:
    """HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)) with the unbiased HSIC."""
    return hsic(x, y) / (hsic(x, x) * hsic(y, y)).sqrt()


def barlow(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared off-diagonal of the cross-correlation."""
    c = correlation(x, y)
    width = range(len(c))
    return torch.stack([c[i][j] ** 2 for i in width for j in width if i != j]).mean()


def barlow_full(x: Tensor, y: Tensor) -> Tensor:
    """`barlow` plus the mean squared diagonal."""
    c = correlation(x, y)
    return barlow(x, y) + torch.stack([c[i][i] ** 2 for i in range(len(c))]).mean()


DECORRELATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda x, y: x.new_zeros(()),
    "cos": cos,
    "cka": cka,
    "cka_debiased": cka_debiased,
    "barlow": barlow,
    "barlow_full": barlow_full,
}


def gram(x: Tensor) -> list[list[Tensor]]:
    """All inner products of the rows of x (B, W)."""
    return [[a @ b for b in x] for a in x]


def hsic(x: Tensor, y: Tensor) -> Tensor:
    """Song et al. 2012, equation 5, sum by sum; the diagonals do not count."""
    n = len(x)
    k, l_ = gram(x), gram(y)
    for i in range(n):
        k[i][i] = l_[i][i] = x.new_zeros(())
    every = range(n)
    trace = sum(k[i][j] * l_[j][i] for i in every for j in every)
    sums = sum(map(sum, k)) * sum(map(sum, l_)) / ((n - 1) * (n - 2))
    chain = sum(k[i][j] * l_[j][m] for i in every for j in every for m in every)
    return (trace + sums - 2 * chain / (n - 2)) / (n * (n - 3))


def correlation(x: Tensor, y: Tensor) -> list[list[Tensor]]:
    """(W, W) over the batch; 1e-5 is added to each variance."""
    x, y = x - x.mean(0), y - y.mean(0)
    return [
        [(a @ b / len(a)) / ((a @ a / len(a) + 1e-5) * (b @ b / len(b) + 1e-5)).sqrt() for b in y.T]
        for a in x.T
    ]


def task_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of class numbers (B,); binary cross-entropy of 0/1 targets (B, C)."""
    if target.ndim == 1:
        return F.cross_entropy(logits, target)
    return F.binary_cross_entropy_with_logits(logits, target.to(logits))


def training_loss(
    oracle: OracleModel,
    projected: Projected,
    masks: Masks,
    target: Tensor,
    replaced: Replaced,
    *,
    interaction: float = 0.5,
    kind: str = "none",
    decorrelation_weight: float = 0.0,
    space: str = "latent",
    synergy_floor: float | None = None,
    balance_weight: float = 0.01,
) -> Tensor:
    """Task loss + lambda_int * mean of the M + 2 terms + lambda_dec * decorrelation."""
    output = oracle.fuse(projected, masks)
    loss = task_loss(output.logits, target)
    if oracle.names == ("sparse_moe",):
        return loss + balance_weight * balance(oracle.experts[0].layers)
    if not {"synergy", "redundancy", *(f"unique_{m}" for m in oracle.modalities)} >= {
        *oracle.names
    }:
        return loss
    terms = interaction_terms(
        oracle, projected, masks, output, replaced, space=space, synergy_floor=synergy_floor
    )
    loss = loss + interaction * torch.stack(list(terms.values())).mean()
    return loss + decorrelation_weight * decorrelation(kind, output.latents)

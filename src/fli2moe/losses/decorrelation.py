"""Decorrelation: experts that say the same in their latents are penalised, pair by pair.

Every kind maps latents (B, E, W), W = M * H, to one number: the mean over the pairs of experts.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from fli2moe.errors import InputError, unknown_name
from fli2moe.precision import at_least_float32

CONSTANT = 1e-8
"""A Gram matrix of smaller Frobenius norm is that of constant latents, and like to nothing."""

WHITENING = 1e-5
"""Added to a channel's variance, as in batch normalisation."""

WEIGHTS = {"none": 0.0, "cos": 3e-3, "cka": 1e-2, "barlow": 10.0}
"""Published lambda_dec; for `cka` there is a grid from 1e-5 to 10 only: its geometric mean."""
WEIGHTS |= {"cka_debiased": WEIGHTS["cka"], "barlow_full": WEIGHTS["barlow"]}


def decorrelation(kind: str, latents: Tensor) -> Tensor:
    """Returns how alike the experts are, the mean over their pairs; 0 for `none` or one expert.

    In float32 at least, also under mixed precision.

    Args:
        kind: one of `DECORRELATIONS`.
        latents: (B, E, W).

    Raises:
        InputError: when `kind` is unknown, or there are too few samples for it.
    """
    if kind not in DECORRELATIONS:
        raise unknown_name("losses.decorrelation", "decorrelation", kind, DECORRELATIONS)
    check_size(kind, len(latents))
    with torch.autocast(latents.device.type, enabled=False):
        experts = at_least_float32(latents).unbind(1)  # E x (B, W)
        if kind == "none" or len(experts) < 2:
            return experts[0].new_zeros(())
        return torch.stack(DECORRELATIONS[kind](experts)).mean()


def check_size(kind: str, samples: int) -> None:
    """Raises InputError when a batch has too few samples for a kind of decorrelation."""
    fewest = FEWEST.get(kind, 1)
    if samples < fewest:
        where = f"losses.decorrelation: {kind}"
        raise InputError(where, f"a batch of {samples}", f"at least {fewest} samples")


def cos(experts: tuple[Tensor, ...]) -> list[Tensor]:
    """Mean over samples of the squared cosine (the follow-up, ECML PKDD 2026)."""
    unit = [F.normalize(z, dim=-1) for z in experts]
    return [(x * y).sum(-1).square().mean() for x, y in combinations(unit, 2)]


def cka(experts: tuple[Tensor, ...]) -> list[Tensor]:
    """Linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414).

    |X'Y|^2 / (|X'X| |Y'Y|) in Frobenius norms with X, Y centred over the batch: the cosine of the
    two centred Gram matrices. Biased: wide latents (W >> B) that are independent come near 1
    (.89 at B = 32, W = 512), and its descent rewards collapse of the rank.
    """
    return _alignment([gram(z - z.mean(0)) for z in experts])


def cka_debiased(experts: tuple[Tensor, ...]) -> list[Tensor]:
    """CKA with the unbiased HSIC of Song et al. 2012 (equation 5), as in Nguyen et al. 2021.

    HSIC = [tr(KL) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'KL1 / (n-2)] / (n (n-3)) with zero diagonals.
    It equals <U(K), U(L)> / (n (n-3)) with U-centred Gram matrices (Szekely and Rizzo 2014), so
    that HSIC(K, K) >= 0 and CKA is once more a cosine. Its mean is near 0 for independent latents;
    single batches lie on both sides of 0.
    """
    return _alignment([u_centred(gram(z)) for z in experts])


def barlow(experts: tuple[Tensor, ...]) -> list[Tensor]:
    """Mean squared off-diagonal of the batch cross-correlation (after Zbontar et al. 2021).

    Identical experts whose channels are uncorrelated go unpunished: see `barlow_full`.
    """
    return [off_diagonal(c) for c in _correlations(experts)]


def barlow_full(experts: tuple[Tensor, ...]) -> list[Tensor]:
    """`barlow` plus the mean squared diagonal (ours): 1 for identical uncorrelated channels.

    Two means, not one over all W * W entries: the W of the diagonal would count for nothing there.
    """
    return [off_diagonal(c) + c.diagonal().square().mean() for c in _correlations(experts)]


DECORRELATIONS: dict[str, Callable[[tuple[Tensor, ...]], list[Tensor]]] = {
    "none": lambda experts: [],
    "cos": cos,
    "cka": cka,
    "barlow": barlow,
    "cka_debiased": cka_debiased,
    "barlow_full": barlow_full,
}
COUPLED = tuple(kind for kind in DECORRELATIONS if kind not in ("none", "cos"))
"""Kinds that compare samples with each other; `cos` is a mean over samples."""

FEWEST = {"cka": 2, "barlow": 2, "barlow_full": 2, "cka_debiased": 4}


def effective_rank(latents: Tensor) -> Tensor:
    """Returns the effective rank (E,) of each expert's latents, at most B - 1; without gradient.

    exp of the entropy of the singular values as shares of their sum (Roy and Vetterli 2007), of
    the latents centred over the batch (ours: a common offset must not hide a collapse). 0 where
    all samples have the same latent.

    Args:
        latents: (B, E, W).
    """
    experts = at_least_float32(latents.detach()).transpose(0, 1)  # (E, B, W)
    values = torch.linalg.svdvals(experts - experts.mean(1, keepdim=True))  # (E, min(B, W))
    noise = 1e-6 * torch.linalg.matrix_norm(experts)[:, None]  # of rounding
    values = torch.where(values > noise, values, 0.0)
    total = values.sum(-1, keepdim=True)
    share = values / total.clamp_min(torch.finfo(values.dtype).tiny)
    return torch.where(total[:, 0] > 0, torch.special.entr(share).sum(-1).exp(), 0.0)


def gram(x: Tensor) -> Tensor:
    """Returns the Gram matrix (B, B) of x (B, W)."""
    return x @ x.T


def u_centred(kernel: Tensor) -> Tensor:
    """Returns the U-centred matrix (B, B) of a kernel matrix, whose diagonal does not count."""
    size = len(kernel)
    off = 1 - torch.eye(size, dtype=kernel.dtype, device=kernel.device)
    rows = (kernel * off).sum(0)  # (B,)
    shift = rows.sum() / ((size - 1) * (size - 2))
    return off * (kernel - rows[:, None] / (size - 2) - rows[None] / (size - 2) + shift)


def off_diagonal(correlation: Tensor) -> Tensor:
    """Returns the mean square of a (W, W) matrix without its diagonal."""
    width = len(correlation)
    total = correlation.square().sum() - correlation.diagonal().square().sum()
    return total / max(1, width * (width - 1))


def _alignment(kernels: list[Tensor]) -> list[Tensor]:
    unit = [F.normalize(k.flatten(), dim=0, eps=CONSTANT) for k in kernels]
    return [x @ y for x, y in combinations(unit, 2)]


def _correlations(experts: tuple[Tensor, ...]) -> list[Tensor]:  # (W, W) each
    white = [(z - z.mean(0)) / (z.var(0, correction=0) + WHITENING).sqrt() for z in experts]
    return [x.T @ y / len(x) for x, y in combinations(white, 2)]

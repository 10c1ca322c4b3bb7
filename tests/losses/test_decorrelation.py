"""Decorrelation and effective rank against their formulas written out loop by loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import losses as oracles
from torch import Tensor

from fli2moe.errors import InputError
from fli2moe.losses import DECORRELATIONS, decorrelation, effective_rank
from fli2moe.losses.decorrelation import WEIGHTS

KINDS = tuple(kind for kind in DECORRELATIONS if kind != "none")
ALIGNMENTS = ("cka", "cka_debiased")


def draw(batch: int = 6, experts: int = 3, width: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, experts, width, generator=generator, dtype=torch.float64)


def alike(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x, y], dim=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("experts", [2, 4])
def test_each_kind_is_its_formula_averaged_over_the_pairs(kind: str, experts: int) -> None:
    latents = draw(experts=experts)
    expected = float(oracles.decorrelation(kind, latents))
    assert float(decorrelation(kind, latents)) == pytest.approx(expected, abs=1e-10)
    assert float(decorrelation(kind, latents.float())) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", DECORRELATIONS)
def test_a_single_expert_has_nothing_to_differ_from(kind: str) -> None:
    assert decorrelation(kind, draw(experts=1)) == 0
    assert decorrelation("none", draw()) == 0


def test_every_kind_has_a_weight() -> None:
    assert set(WEIGHTS) == set(DECORRELATIONS)


def test_wide_independent_latents_look_alike_to_cka_and_not_to_the_debiased_one() -> None:
    values = {kind: [] for kind in ALIGNMENTS}
    for seed in range(40):
        latents = draw(32, 2, 512, seed)
        for kind in ALIGNMENTS:
            values[kind].append(float(decorrelation(kind, latents)))
    assert np.mean(values["cka"]) > 0.85  # .89 in the design
    error = np.std(values["cka_debiased"]) / np.sqrt(40)
    assert abs(np.mean(values["cka_debiased"])) < max(4 * error, 1e-3)
    assert min(values["cka_debiased"]) < 0 < max(values["cka_debiased"])


def test_identical_whitened_experts_escape_barlow_but_not_barlow_full() -> None:
    white, _ = torch.linalg.qr(draw(32, 1, 8)[:, 0] - draw(32, 1, 8)[:, 0].mean(0))
    latents = alike(white, white) * 32**0.5  # columns of mean 0, variance 1, uncorrelated
    assert float(decorrelation("barlow", latents)) < 1e-12
    assert float(decorrelation("barlow_full", latents)) == pytest.approx(1, abs=1e-4)
    for kind in ("cos", *ALIGNMENTS):
        assert float(decorrelation(kind, latents)) == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 500), scale=st.floats(0.05, 20), shift=st.floats(-5, 5))
def test_cka_does_not_change_with_rotation_scale_and_shift(
    seed: int, scale: float, shift: float
) -> None:
    x, y = draw(8, 2, 5, seed).unbind(1)
    rotation, _ = torch.linalg.qr(draw(5, 1, 5, seed + 1)[:, 0])
    for kind in ALIGNMENTS:
        plain = float(decorrelation(kind, alike(x, y)))
        moved = float(decorrelation(kind, alike(x, scale * (y @ rotation) + shift)))
        assert moved == pytest.approx(plain, abs=1e-8)
        assert plain <= 1 + 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_samples_and_experts_does_not_matter(kind: str) -> None:
    latents = draw()
    plain = float(decorrelation(kind, latents))
    assert float(decorrelation(kind, latents.flip(0))) == pytest.approx(plain)
    assert float(decorrelation(kind, latents.flip(1))) == pytest.approx(plain)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    latents = draw(5, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: decorrelation(kind, z), latents)


CASES: dict[str, Tensor] = {
    "two samples": draw(2, 3, 4),
    "constant features": torch.full((6, 2, 4), 0.1),
    "zeros": torch.zeros(6, 2, 4),
    "one constant expert": alike(draw(6, 1)[:, 0], torch.ones(6, 4).double()),
    "identical experts": alike(draw()[:, 0], draw()[:, 0]),
    "one feature": draw(6, 2, 1),
    "float32": draw(32, 4, 64).float(),
    "bfloat16": draw(32, 4, 64).bfloat16(),
}


@pytest.mark.parametrize(
    ("kind", "case"),
    [(k, c) for k in KINDS for c in CASES if (k, c) != ("cka_debiased", "two samples")],
)
def test_values_and_gradients_are_finite(kind: str, case: str) -> None:
    latents = CASES[case].clone().requires_grad_()
    value = decorrelation(kind, latents)
    value.backward()
    assert torch.isfinite(value)
    assert -1 - 1e-6 <= float(value.detach()) <= 2 + 1e-6
    assert torch.isfinite(latents.grad).all()
    assert latents.grad.abs().max() < 1e3


def test_mixed_precision_does_not_reach_it() -> None:
    latents = draw(32, 3, 64).float()
    plain = [decorrelation(kind, latents) for kind in KINDS]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert [decorrelation(kind, latents) for kind in KINDS] == plain


@pytest.mark.parametrize("kind", KINDS)
def test_descent_makes_experts_less_alike(kind: str) -> None:
    shared = draw(12, 1, 4)
    latents = (shared + 0.3 * draw(12, 2, 4, 1)).requires_grad_()
    first = decorrelation(kind, latents)
    for _ in range(50):
        (gradient,) = torch.autograd.grad(decorrelation(kind, latents), latents)
        latents = (latents - 2 * gradient).detach().requires_grad_()
    assert decorrelation(kind, latents) < 0.9 * first


@pytest.mark.parametrize(
    ("kind", "batch", "fewest"),
    [("cka", 1, 2), ("barlow", 1, 2), ("barlow_full", 1, 2), ("cka_debiased", 3, 4)],
)
def test_too_small_a_batch_is_one_line(kind: str, batch: int, fewest: int) -> None:
    expected = f"losses.decorrelation: {kind}: a batch of {batch}; expected at least {fewest} sam"
    with pytest.raises(InputError, match=expected):
        decorrelation(kind, draw(batch))


def test_an_unknown_kind_names_the_closest() -> None:
    with pytest.raises(InputError, match=r"unknown decorrelation 'barlo'.*did you mean 'barlow'"):
        decorrelation("barlo", draw())


def test_the_effective_rank_is_the_entropy_of_the_singular_values() -> None:
    latents = draw(7, 2, 4)
    found = effective_rank(latents)
    for e in range(2):
        centred = latents[:, e].numpy() - latents[:, e].numpy().mean(0)
        values = np.linalg.svd(centred, compute_uv=False)
        share = values / values.sum()
        assert float(found[e]) == pytest.approx(np.exp(-sum(p * np.log(p) for p in share)))


def test_the_effective_rank_of_known_matrices() -> None:
    direction, place = draw(9, 1, 1)[:, 0], draw(1, 1, 5)[0]
    line = direction @ place  # (9, 5), rank 1
    orthogonal, _ = torch.linalg.qr(draw(9, 1, 5)[:, 0] - draw(9, 1, 5)[:, 0].mean(0))
    constant = torch.full((9, 5), 0.1).double()
    found = effective_rank(torch.stack([line, orthogonal, constant], dim=1))
    assert found.tolist() == pytest.approx([1, 5, 0])
    moved = effective_rank(torch.stack([line + 100, 3 * orthogonal - 100], dim=1))
    assert moved.tolist() == pytest.approx([1, 5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_effective_rank_has_no_gradient_and_takes_any_type(dtype: torch.dtype) -> None:
    latents = draw(8, 2, 3).to(dtype).requires_grad_()
    found = effective_rank(latents)
    assert not found.requires_grad
    assert ((found > 1) & (found <= 3 + 1e-4)).all()
    assert effective_rank(torch.full((8, 2, 3), 0.1, dtype=dtype)).tolist() == [0, 0]

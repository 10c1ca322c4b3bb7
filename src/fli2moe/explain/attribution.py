"""Attribution per head: which tokens a head's target logit depends on (design 3.3).

Every method returns raw values for every head from one pass; min-max is left to the display. No
state stays on the modules, no parameter gets a gradient, and `training` is left as it is. It is
computed where the model is, and comes back on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.rollout import content_of, rollout, trace
from fli2moe.model import FusionModel, check_baseline, check_batch, undisturbed
from fli2moe.tokens import TokenBatch


@dataclass(frozen=True)
class Attribution:
    """Raw attribution of tokens.

    Attributes:
        scores: {head: {modality: (B, T)}}; 0 at padding and structural tokens, and at those that
            an isolated expert does not see.
        convergence_delta: {head: (B,)} how far integrated gradients miss completeness (sum of
            attributions, structural tokens included, minus score difference); empty for other
            methods.
        score_difference: {head: (B,)} target score of the input minus that of the baseline; where
            there is a convergence delta.
    """

    scores: Mapping[str, Mapping[str, Tensor]]
    convergence_delta: Mapping[str, Tensor] = field(default_factory=dict)
    score_difference: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class _Request:
    model: FusionModel
    tokens: TokenBatch
    target: Tensor  # (B, C) weights of the classes in the score
    baseline: Mapping[str, Tensor]  # {modality: (D,)}
    steps: int
    seed: int
    reduction: str


def attribute(
    model: FusionModel,
    tokens: TokenBatch,
    target: Tensor,
    method: str = "attention_gradient",
    *,
    baseline: Mapping[str, Tensor] | None = None,
    steps: int = 32,
    seed: int = 0,
    reduction: str = "signed_sum",
) -> Attribution:
    """Attributes each head's target logit to the tokens.

    Args:
        model: any model of this library.
        tokens: the samples' features.
        target: (B, C) weights: the score is the weighted sum of a head's logits. One-hot for a
            single class, 1/n for each of a set of n labels (see `Task.target_weights`).
        method: one of `usable_methods`.
        baseline: {modality: (D,)} what absence is, for integrated gradients and gradient x input;
            zero vectors by default.
        steps: of integrated gradients, 16 or more.
        seed: of `random`.
        reduction: of integrated gradients, from a token's D features to one number; one of
            `REDUCTIONS`.

    Raises:
        InputError: for a method or reduction that is unknown or that the model cannot serve, a
            target of another shape, too few steps, or tokens or a baseline that do not fit the
            model.
    """
    if method not in METHODS:
        raise unknown_name("attribution", "method", method, METHODS)
    if method not in usable_methods(model):
        remedy = f"use {FALLBACK} or integrated_gradients"
        found = f"{method} of a model without attention maps"
        raise InputError("attribution", found, ", ".join(usable_methods(model)), remedy)
    shape = (tokens.batch_size, model.classes)
    if target.shape != shape:
        raise InputError("attribution target", f"shape {tuple(target.shape)}", f"{shape} weights")
    if reduction not in REDUCTIONS:
        raise unknown_name("attribution", "reduction", reduction, REDUCTIONS)
    if steps < 16:
        raise InputError("attribution steps", str(steps), "16 or more")
    check_batch(tokens, model.widths)
    tokens = tokens.to(model.device)
    if baseline is None:
        baseline = {m: t.features.new_zeros(t.width) for m, t in tokens.items()}
    check_baseline(baseline, model.widths)
    features = tokens[model.modalities[0]].features
    baseline = {m: x.to(tokens[m].features) for m, x in baseline.items()}
    request = _Request(model, tokens, target.to(features), baseline, steps, seed, reduction)
    with undisturbed(model), torch.enable_grad():
        result = METHODS[method](request)
    content = {head: content_of(model, tokens, head) for head in result.scores}
    clean = {
        head: {m: torch.where(content[head][m], s, 0.0).detach().cpu() for m, s in scores.items()}
        for head, scores in result.scores.items()
    }
    deltas, differences = (
        {head: x.detach().cpu() for head, x in values.items()}
        for values in (result.convergence_delta, result.score_difference)
    )
    return Attribution(clean, deltas, differences)


def attention_gradient(request: _Request) -> Attribution:
    """Attention x gradient rollout (Chefer et al. 2021), the skip path kept apart.

    Per layer, relu(A) * relu(dscore/dA), mean over heads, plus the identity, row-normalised; the
    layers multiplied; mean over content query tokens that the expert sees. The mixture is the sum
    over experts with gradients of the mixture's logit, the router held fixed. What the identity
    alone carries is subtracted (ours): gradients are tiny beside it, and it says nothing about
    tokens.
    """
    traced = trace(request.model, request.tokens, "relevance")
    # The sum over experts: each expert's own maps get its own gradient.
    score = torch.einsum("bec,bc->", traced.expert_logits, request.target)
    torch.autograd.grad(score, traced.leaves, allow_unused=True)  # fills in the relevances
    own = traced.per_expert()
    scores = _per_head(request, own)
    if len(own) == 1:
        return Attribution({request.model.heads[0]: scores[0]})
    # d mixture / d A_e = w_e * d logit_e / d A_e: the router does not depend on the maps.
    weights = traced.weights.T[:, :, None, None]  # (E, B, 1, 1)
    of_mixture = _per_head(
        request, [[a * w for a in layers] for layers, w in zip(own, weights, strict=True)]
    )
    mixture = {m: torch.stack([r[m] for r in of_mixture]).sum(0) for m in request.model.modalities}
    return _named(request, mixture, scores)


def attention_rollout(request: _Request) -> Attribution:
    """Attention rollout (Abnar & Zuidema 2020), the skip path kept apart; no target, no gradient.

    The mixture is the experts' rollouts weighed by the router (ours).
    """
    with torch.no_grad():
        traced = trace(request.model, request.tokens, "map")
    scores = _per_head(request, traced.per_expert())
    if len(scores) == 1:
        return Attribution({request.model.heads[0]: scores[0]})
    shares = traced.weights.T[..., None]  # (E, B, 1)
    mixture = {
        m: torch.stack([w * s[m] for w, s in zip(shares, scores, strict=True)]).sum(0)
        for m in request.model.modalities
    }
    return _named(request, mixture, scores)


def gradient_x_input(request: _Request) -> Attribution:
    """(input - baseline) * gradient of the head's logit, summed over features."""
    model, tokens = request.model, request.tokens
    leaves = [tokens[m].features.detach().requires_grad_() for m in model.modalities]
    logits = _head_scores(request, *leaves)  # (B, heads)
    scores = {}
    for h, head in enumerate(model.heads):
        gradients = torch.autograd.grad(logits[:, h].sum(), leaves, retain_graph=True)
        scores[head] = {
            m: ((x - request.baseline[m]) * g).sum(-1)
            for m, x, g in zip(model.modalities, leaves, gradients, strict=True)
        }
    return Attribution(scores)


def integrated_gradients(request: _Request) -> Attribution:
    """Integrated gradients (Sundararajan et al. 2017) by Captum.

    Over features the signed sum, which is complete, or the mean of absolute values, for parity with
    the reference code. The convergence delta is that of the signed sum in both cases.
    """
    from captum.attr import IntegratedGradients

    model, tokens = request.model, request.tokens
    baselines = tuple(
        request.baseline[m].expand_as(tokens[m].features).contiguous() for m in model.modalities
    )
    inputs = tuple(  # padding does not change from baseline to input, so it carries nothing
        torch.where(tokens[m].mask[..., None], tokens[m].features, b)
        for m, b in zip(model.modalities, baselines, strict=True)
    )
    scores, deltas, differences = {}, {}, {}
    for h, head in enumerate(model.heads):

        def forward(*features: Tensor, head_index: int = h) -> Tensor:
            return _head_scores(request, *features)[:, head_index]

        values, delta = IntegratedGradients(forward).attribute(
            inputs, baselines, n_steps=request.steps, return_convergence_delta=True
        )
        reduce = REDUCTIONS[request.reduction]
        scores[head] = {m: reduce(v) for m, v in zip(model.modalities, values, strict=True)}
        deltas[head] = delta
        differences[head] = sum(v.sum((1, 2)) for v in values) - delta
    return Attribution(scores, deltas, differences)


def random(request: _Request) -> Attribution:
    """Uniform random scores: the control every method must beat."""
    generator = torch.Generator().manual_seed(request.seed)
    masks = {m: request.tokens[m].mask for m in request.model.modalities}
    return Attribution(
        {
            head: {
                m: torch.rand(mask.shape, generator=generator).to(mask.device)
                for m, mask in masks.items()
            }
            for head in request.model.heads
        },
        {},
    )


REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "signed_sum": lambda values: values.sum(-1),
    "abs_mean": lambda values: values.abs().mean(-1),
}
METHODS: dict[str, Callable[[_Request], Attribution]] = {
    "attention_gradient": attention_gradient,
    "attention_rollout": attention_rollout,
    "integrated_gradients": integrated_gradients,
    "gradient_x_input": gradient_x_input,
    "random": random,
}

FALLBACK = "gradient_x_input"
"""The method for a model that cannot serve the one that was asked for."""

_NEED_MAPS = ("attention_gradient", "attention_rollout")


def usable_methods(model: FusionModel) -> tuple[str, ...]:
    """Returns the names of the methods that a model can serve: some need attention maps."""
    return tuple(name for name in METHODS if model.attends or name not in _NEED_MAPS)


def _head_scores(request: _Request, *features: Tensor) -> Tensor:
    """Target score of every head, (B', heads); B' is a multiple of B when Captum repeats inputs."""
    model, tokens = request.model, request.tokens
    repeats = features[0].shape[0] // tokens.batch_size
    rows = torch.arange(tokens.batch_size, device=features[0].device).repeat(repeats)
    parts = {
        m: tokens[m][rows].with_features(x) for m, x in zip(model.modalities, features, strict=True)
    }
    output = model(TokenBatch(parts))
    logits = output.head_logits if len(model.heads) > 1 else output.logits[:, None]
    return torch.einsum("bhc,bc->bh", logits, request.target[rows])


def _per_head(request: _Request, experts: list[list[Tensor]]) -> list[dict[str, Tensor]]:
    """Returns each expert's rollout {modality: (B, T)} of its layers' maps (B, T, T)."""
    named = zip(request.model.experts, experts, strict=True)
    return [
        rollout(layers, content_of(request.model, request.tokens, name)) for name, layers in named
    ]


def _named(
    request: _Request, mixture: dict[str, Tensor], experts: list[dict[str, Tensor]]
) -> Attribution:
    return Attribution(dict(zip(request.model.heads, [mixture, *experts], strict=True)))

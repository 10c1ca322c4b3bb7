"""`predictive`, `residual` and `complete` against their formulas, sample by sample."""

from __future__ import annotations

import pytest
import torch
from tiny import CLASSES, FOUR, THREE, WIDTHS, tiny_batch, tiny_model
from torch import Tensor
from torch.nn import functional as F

from fli2moe.errors import InputError
from fli2moe.losses import (
    VARIANTS,
    InteractionLosses,
    Presence,
    Supervision,
    View,
    derangement,
    evidence_views,
    run_views,
)
from fli2moe.losses.variants import RESIDUAL, centred, common_evidence
from fli2moe.model import FusionTransformer, masks_of
from fli2moe.task import Task
from fli2moe.tokens import TokenBatch

MULTICLASS = Task("multiclass", ("a", "b", "c"))
MULTILABEL = Task("multilabel", ("a", "b", "c"))
TARGETS = {
    "multiclass": torch.tensor([0, 2, 1, 2]),
    "multilabel": torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]]).double(),
}


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def supervised(task: Task, target: Tensor | None = None) -> Supervision:
    target = TARGETS[task.kind] if target is None else target
    return Supervision(task, target, lambda x, y: task.losses(x, y, smoothing=0.1))


def batch_of(widths: dict[str, int], *, gaps: bool = False) -> TokenBatch:
    """Four samples; with `gaps` the second lacks the last modality, the third has it alone."""
    lengths = [{m: 1 + (i + j) % 3 for j, m in enumerate(widths)} for i in range(4)]
    if gaps:
        *first, last = widths
        lengths[1][last] = 0
        lengths[2].update(dict.fromkeys(first, 0))
    return tiny_batch(lengths, widths=widths)


def found_terms(
    variant: str, model: FusionTransformer, batch: TokenBatch, task: Task, seed: int = 7
) -> dict[str, Tensor]:
    view = View(model.project(batch), masks_of(batch))
    return dict(losses_of(variant, model, view, supervised(task), seed).terms)


def losses_of(
    variant: str, model: FusionTransformer, view: View, supervision: Supervision, seed: int = 7
) -> InteractionLosses:
    passes = run_views(model, view, evidence_views(view, seeded(seed)))
    presence = Presence.of(view)
    return VARIANTS[variant](model, passes.output.latents, passes.latents, presence, supervision)


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


def plain_kappa(evidence: list[float]) -> float:
    if len({sign(x) for x in evidence}) > 1:
        return 0.0
    return sign(evidence[0]) * min(abs(x) for x in evidence)


def plain_terms(
    variant: str, model: FusionTransformer, batch: TokenBatch, task: Task, seed: int = 7
) -> dict[str, Tensor]:
    projected, masks, generator = model.project(batch), masks_of(batch), seeded(seed)
    size, names, target = batch.batch_size, model.modalities, TARGETS[task.kind]
    partners = [derangement(size, generator).tolist() for _ in range(2)]

    def logits(e: int, source: dict[str, int | None]) -> Tensor:
        """Of expert e, each modality taken from a row, or absent."""
        x = {m: projected[m][[row or 0]] for m, row in source.items()}
        mask = {m: masks[m][[row or 0]] & (row is not None) for m, row in source.items()}
        z = model.fuse(x, mask).expert_logits[0, e]
        part = len(model.experts) if variant == "complete" else 1
        return (z if task.multilabel else z - z.mean()) / part

    def loss(z: Tensor, b: int) -> Tensor:
        return task.losses(z[None], target[[b]], smoothing=0.1).mean()

    redundancy, terms = model.experts.index("redundancy"), {}
    unique = [e for e, name in enumerate(model.experts) if name.startswith("unique_")]
    for e, expert in enumerate(model.experts):
        of_pairs, of_samples = [], []  # each summand with the mean that it belongs to
        for b in range(size):
            has = [m for m in names if bool(masks[m][b].any())]
            clean = logits(e, dict.fromkeys(names, b))
            single = [logits(redundancy, {n: b if n == m else None for n in names}) for m in names]
            common = [plain_kappa([float(z[c].detach()) for z in single]) for c in range(CLASSES)]
            kappa = torch.tensor(common).double() * (len(has) == len(names))
            swaps = [
                {m: logits(e, {n: b if n == m else p[b] for n in names}) for m in names}
                for p in partners
            ]
            if expert == "redundancy":
                of_pairs += [loss(z, b) for m, z in zip(names, single, strict=True) if m in has]
                of_samples.append(((clean - kappa) ** 2).sum())
            elif expert == "synergy":
                of_pairs += [swaps[0][m] @ swaps[1][m] for m in has]
                own = (0.05 if variant in RESIDUAL else 0.0) * clean @ clean
                if variant == "complete":
                    left = [logits(u, dict.fromkeys(names, b)) for u in unique]
                    own = own + loss(kappa + torch.stack(left).sum(0).detach() + clean, b)
                of_samples.append(own)
            elif expert.removeprefix("unique_") in has:
                own = swaps[0][expert.removeprefix("unique_")]
                value = ((clean - own) ** 2).sum()
                if variant in RESIDUAL:
                    value = value + loss(kappa + own, b) + 0.05 * own @ own
                else:
                    value = value + loss(own, b)
                of_pairs.append(value)
        means = [torch.stack(x).mean() for x in (of_pairs, of_samples) if x]
        terms[expert] = torch.stack(means).sum()
    return terms


@pytest.mark.parametrize("gaps", [False, True], ids=["complete", "gaps"])
@pytest.mark.parametrize("widths", [WIDTHS, THREE, FOUR], ids=["two", "three", "four"])
@pytest.mark.parametrize("task", [MULTICLASS, MULTILABEL], ids=["multiclass", "multilabel"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_terms_are_those_of_the_definition(
    variant: str, task: Task, widths: dict[str, int], gaps: bool
) -> None:
    """And a term of a modality is a mean over the samples that have it."""
    model, batch = tiny_model(widths=widths), batch_of(widths, gaps=gaps)
    found = found_terms(variant, model, batch, task)
    expected = plain_terms(variant, model, batch, task)
    assert list(found) == list(model.experts) == list(expected)
    for expert, value in expected.items():
        torch.testing.assert_close(found[expert], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("evidence", "kappa"),
    [
        ((2.0, 3.0), 2.0),
        ((3.0, 2.0), 2.0),
        ((-2.0, -0.5), -0.5),
        ((2.0, -3.0), 0.0),
        ((0.0, 3.0), 0.0),
        ((0.0, -3.0), 0.0),
        ((1.0, 4.0, 2.0), 1.0),
        ((-1.0, -4.0, 2.0), 0.0),
        ((-1.0, -4.0, -2.0), -1.0),
    ],
)
def test_kappa_is_what_all_modalities_say_alike(evidence: tuple[float, ...], kappa: float) -> None:
    logits = torch.tensor(evidence)[:, None, None]
    assert common_evidence(logits).item() == kappa == plain_kappa(list(evidence))


def test_class_scores_are_centred_where_a_softmax_reads_them() -> None:
    logits = torch.tensor([[1.0, 2.0, 6.0]])
    assert centred(MULTICLASS, logits).tolist() == [[-2, -1, 3]]
    assert centred(MULTILABEL, logits) is logits


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_added_to_every_class_changes_nothing(variant: str) -> None:
    model, batch = tiny_model(), batch_of(WIDTHS)
    before = found_terms(variant, model, batch, MULTICLASS)
    with torch.no_grad():
        model.classifier.bias += torch.arange(4.0)[:, None]
    after = found_terms(variant, model, batch, MULTICLASS)
    for expert, value in before.items():
        torch.testing.assert_close(after[expert], value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("expert", range(4))
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_term_trains_its_own_expert_and_no_other(variant: str, expert: int) -> None:
    model = tiny_model()
    terms = found_terms(variant, model, batch_of(WIDTHS), MULTICLASS)
    terms[model.experts[expert]].backward()
    others = [e for e in range(4) if e != expert]
    for parameter in (*model.bank.parameters(), *model.classifier.parameters()):
        assert not parameter.grad[others].any()
    assert model.classifier.weight.grad[expert].any()
    assert all(p.grad is None for p in model.router.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_seed_gives_the_losses_and_the_global_generator_is_left_alone(variant: str) -> None:
    model, batch = tiny_model(), batch_of(WIDTHS)
    state = torch.random.get_rng_state()
    runs = [found_terms(variant, model, batch, MULTICLASS, seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert runs[0] == runs[1]
    assert not torch.equal(runs[0]["synergy"], runs[2]["synergy"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_those_of_finite_differences(variant: str) -> None:
    model, batch = tiny_model(layers=1), batch_of(WIDTHS)
    # kappa is held fixed in the gradient, so the redundancy expert is not moved here; in `complete`
    # the unique experts are, too
    fixed = ("redundancy", *(("unique_text", "unique_image") if variant == "complete" else ()))
    experts = [e for e, name in enumerate(model.experts) if name not in fixed]

    def total() -> Tensor:
        terms = found_terms(variant, model, batch, MULTICLASS)
        return torch.stack([terms[model.experts[e]] for e in experts]).sum()

    weight, step = model.classifier.weight, 1e-5
    (gradient,) = torch.autograd.grad(total(), weight)
    flat, slope = weight.data.view(-1), gradient.reshape(-1)
    for i in slope.abs().topk(6).indices.tolist():
        sides = []
        for direction in (1, -1):
            flat[i] += direction * step
            sides.append(float(total().detach()))
            flat[i] -= direction * step
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(float(slope[i]), rel=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("widths", [WIDTHS, THREE], ids=["two", "three"])
def test_samples_without_a_modality_give_finite_losses_and_gradients(
    variant: str, widths: dict[str, int]
) -> None:
    model, batch = tiny_model(widths=widths), batch_of(widths)
    view = View(model.project(batch), masks_of(batch))
    for row, m in ((0, "image"), (1, "text")):
        mask = view.masks[m].clone()
        mask[row] = False
        view = view.replace(m, view.projected[m], mask)
    result = losses_of(variant, model, view, supervised(MULTICLASS))
    result.total.backward()
    assert torch.isfinite(result.total)
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.bank.parameters())


def only_expert(model: FusionTransformer, expert: str, modality_rows: slice | None) -> None:
    """Leaves the expert's classifier only the weights of some of the pooled modalities."""
    e = model.experts.index(expert)
    with torch.no_grad():
        kept = torch.zeros_like(model.classifier.weight[e])
        if modality_rows is not None:
            kept[:, modality_rows] = model.classifier.weight[e][:, modality_rows]
        model.classifier.weight[e] = kept
        model.classifier.bias[e] = 0


def test_a_term_is_least_where_what_it_rewards_holds() -> None:
    """Without attention between tokens, a classifier over one half of the latent sees one input."""
    model, batch = tiny_model(layers=1), batch_of(WIDTHS)
    with torch.no_grad():
        for layer in model.bank.layers:
            layer.output.weight.zero_()
    mixed = found_terms("predictive", model, batch, MULTICLASS)
    own = slice(0, 8)  # the text's half of the latent
    only_expert(model, "unique_text", own)
    only_expert(model, "synergy", None)
    view = View(model.project(batch), masks_of(batch))
    sharp = Supervision(MULTICLASS, TARGETS["multiclass"], lambda x, y: 0 * x.sum(-1))
    pure = losses_of("predictive", model, view, sharp).terms
    assert pure["unique_text"].abs() < 1e-20  # it does not care whose picture it is
    assert pure["unique_image"] > 1e-3
    assert pure["synergy"] == 0 < mixed["synergy"]


def test_one_sample_has_no_partner() -> None:
    model, batch = tiny_model(), tiny_batch([{"text": 2, "image": 2}])
    view = View(model.project(batch), masks_of(batch))
    with pytest.raises(InputError, match="within the batch: 1 sample; expected at least 2"):
        evidence_views(view, seeded())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_without_interaction_experts_is_an_error(variant: str) -> None:
    with pytest.raises(InputError, match="experts dense; expected some of unique_text"):
        found_terms(variant, tiny_model("dense"), batch_of(WIDTHS), MULTICLASS)


def test_synergy_is_an_unbiased_estimate_of_the_squared_conditional_mean() -> None:
    """l_S(x1, x2) on a grid: the mean of <l(x1, x2'), l(x1, x2'')> is |E[l | x1]|^2."""
    generator, size = seeded(), 20
    grid = torch.randn(size, size, generator=generator) + torch.linspace(-1, 1, size)[:, None]
    others = ~torch.eye(size, dtype=torch.bool)  # a partner is another sample
    truth = torch.stack([row[o].mean() ** 2 for row, o in zip(grid, others, strict=True)]).mean()
    rows, estimates = torch.arange(size), []
    for _ in range(3000):
        first, second = (derangement(size, generator) for _ in range(2))
        estimates.append((grid[rows, first] * grid[rows, second]).mean())
    found = torch.stack(estimates)
    assert abs(found.mean() - truth) < 4 * found.std() / 3000**0.5


def test_the_cross_entropy_is_the_trainings_own() -> None:
    """Class weights and smoothing come with the supervision."""
    model, batch = tiny_model(), batch_of(WIDTHS)
    view = View(model.project(batch), masks_of(batch))
    calls: list[Tensor] = []

    def losses(logits: Tensor, target: Tensor) -> Tensor:
        calls.append(target)
        return F.cross_entropy(logits, target, reduction="none")

    target = TARGETS["multiclass"]
    losses_of("residual", model, view, Supervision(MULTICLASS, target, losses))
    assert len(calls) == 4  # text alone, picture alone, and each unique expert
    assert all(torch.equal(c, target) for c in calls)

"""The whole explanation of one sample, put together from attribution and pair probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fli2moe.explain.attribution import FALLBACK, attribute, usable_methods
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.pieces import (
    DROP_WARNING,
    completeness_notes,
    contribution_shares,
    found_settings,
    input_name,
    picture_size,
    probe_sample,
    token_tables,
)
from fli2moe.features import Progress
from fli2moe.tokens import TokenBatch

if TYPE_CHECKING:
    from fli2moe.predictor import Predictor


def explain_sample(
    predictor: Predictor,
    inputs: Mapping[str, Any],
    target: str | None,
    *,
    sample_id: str,
    labels: Sequence[str],
    budget: int | None,
    seed: int,
    tokens: TokenBatch | None,
    progress: Progress | None,
) -> Explanation:
    """Does what `Predictor.explain` says; the arguments are its own."""
    options = predictor.config.explain
    budget = options.budget if budget is None else budget
    chosen = None if target is None else predictor.task.index(target)
    tokens = predictor.encode([inputs]) if tokens is None else tokens
    output = predictor.run(tokens)
    probabilities = predictor.task.probabilities(output.logits)[0]
    chosen = int(probabilities.argmax()) if chosen is None else chosen
    name = predictor.task.classes[chosen]
    wanted = options.attribution
    method = wanted if wanted in usable_methods(predictor.model) else FALLBACK
    attribution = attribute(
        predictor.model,
        tokens,
        predictor.task.target_weights([[chosen]]),
        method,
        baseline=predictor.attribution_baseline(),
        steps=options.steps,
        reduction=options.reduction,
        seed=seed,
    )
    made = 0

    def count(evaluations: int) -> None:
        nonlocal made
        made = min(made + evaluations, budget)
        if progress:
            progress("model evaluations", made, budget)

    probed = probe_sample(
        lambda players: predictor.game(
            inputs, name, tokens=tokens, players=players, progress=count
        ),
        tokens,
        predictor.players(inputs, tokens),
        budget,
        options.contexts,
        seed,
    )
    notes = [*probed.notes, *completeness_notes(attribution)]
    if method != wanted:
        notes.append(f"{wanted} needs attention maps, which the model has not: {method} instead")
    if options.baseline == "drop":
        notes.append(DROP_WARNING)
    given = {m: e for m, e in predictor.encoders.items() if inputs.get(m) is not None}
    notes += [f"the sample has no {m}" for m in predictor.encoders if m not in given]
    settings = {**options.model_dump(mode="json"), "budget": budget, "attribution": method}
    weights = output.weights[0].tolist()
    shares = contribution_shares(predictor.task, output, [chosen])[0].tolist()
    return Explanation(
        sample_id=sample_id,
        target=name,
        class_index=chosen,
        task=predictor.task.kind,
        classes=predictor.task.classes,
        probabilities=tuple(probabilities.tolist()),
        heads=predictor.model.heads,
        expert_weights=dict(zip(predictor.model.experts, weights, strict=True)),
        expert_shares=dict(zip(predictor.model.experts, shares, strict=True)),
        attribution=method,
        token_scores=token_tables(tokens, attribution.scores),
        players=probed.players,
        parts=probed.parts,
        pairs=probed.pairs,
        inputs={m: input_name(inputs[m]) for m in given},
        labels=tuple(labels),
        sizes={m: picture_size(inputs[m]) for m, e in given.items() if e.kind == "image"},
        unseen={m: tuple(e.unseen(inputs[m])) for m, e in given.items()},
        notes=tuple(notes),
        settings={**settings, **found_settings(probed, attribution)},
        seed=seed,
        fingerprint=predictor.fingerprint,
    )

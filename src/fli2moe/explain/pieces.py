"""What an explanation is put together from: shares, pair scores, token tables, leak, warnings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fli2moe.encoders import open_picture
from fli2moe.explain.attribution import Attribution
from fli2moe.explain.coarse_to_fine import coarse_to_fine
from fli2moe.explain.explanation import TokenScores
from fli2moe.explain.game import TokenGame
from fli2moe.explain.players import cross_modal_pairs
from fli2moe.explain.scores import PairScores
from fli2moe.model import MoEOutput
from fli2moe.task import Task
from fli2moe.tokens import Player, TokenBatch

MISSED_SHARE, MISSED_LEAST = 0.05, 0.01  # of the score difference; in units of the score
DROP_WARNING = (
    "baseline drop takes hidden tokens out of the mean pooling, which by itself shows interactions "
    "where there are none; prefer the baseline mean"
)


@dataclass(frozen=True)
class Probed:
    """Pair scores of one sample and target.

    Attributes:
        players: of the game that was probed, grouped where the budget was short.
        parts: what the groups were made of; empty where nothing was grouped.
        pairs: {`synergy`: SII scores, `redundancy`: redundancy gaps}; empty where there is no
            cross-modal pair.
        notes: what a reader must know of it.
        evaluations: coalitions evaluated.
        leak: {head: score that structural tokens carry}; empty where there are none.
    """

    players: tuple[Player, ...]
    pairs: Mapping[str, PairScores] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    evaluations: int = 0
    leak: Mapping[str, float] = field(default_factory=dict)
    parts: tuple[Player, ...] = ()


def probe_sample(
    make_game: Callable[[Sequence[Player]], TokenGame],
    tokens: TokenBatch,
    players: Sequence[Player],
    budget: int,
    contexts: str,
    seed: int,
) -> Probed:
    """Scores the pairs of one sample, and what structural tokens carry where there are any.

    Args:
        make_game: makes the game of the players that it is given.
        tokens: the sample (B = 1).
        players: its words, patches and positions.
        budget: model evaluations, never exceeded.
        contexts: law of the contexts.
        seed: of the contexts.

    Raises:
        InputError: when the budget cannot even serve one group per modality.
    """
    apart = leak_players(tokens)
    leaks: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    if apart:
        leaks = leak(make_game(apart))
        notes = (leak_note(next(iter(leaks.values()))),)
        budget -= 2
    if has_pairs(players):
        probed = probe_pairs(make_game(players), budget, contexts, seed)
    else:
        alone = "no cross-modal pair: a modality has no content token"
        probed = Probed(tuple(players), notes=(alone,))
    spent = probed.evaluations + (2 if apart else 0)
    return replace(probed, notes=(*probed.notes, *notes), evaluations=spent, leak=leaks)


def has_pairs(players: Sequence[Player]) -> bool:
    """Whether two modalities have players, so that there is a pair to score."""
    return len(cross_modal_pairs(players)) > 0


def probe_pairs(game: TokenGame, budget: int, contexts: str, seed: int) -> Probed:
    """Scores all cross-modal pairs by SII and redundancy gap, the top ones measured afresh.

    SII is read on the mixture and the synergy expert, the gap on the mixture and the redundancy
    expert (design 3.6): their top pairs are audited.

    Args:
        game: with players of two modalities at least.
        budget: model evaluations; where it cannot serve all pairs, players are grouped, and the
            strongest groups opened (`coarse_to_fine`).
        contexts: law of the contexts.
        seed: of the contexts.

    Raises:
        InputError: when the budget cannot even serve one group per modality.
    """
    heads = game.head_names
    readings = {
        "sii": tuple(h for h in (heads[0], "synergy") if h in heads),
        "redundancy": tuple(h for h in (heads[0], "redundancy") if h in heads),
    }
    found = coarse_to_fine(game, budget, contexts=contexts, seed=seed, readings=readings)
    pairs = {"synergy": found.scores.sii, "redundancy": found.scores.redundancy}
    notes = (found.note,) if found.note else ()
    parts = game.players if found.note else ()
    evaluations = game.evaluations + game.repeats
    return Probed(found.game.players, pairs, notes, evaluations, parts=parts)


def contribution_shares(task: Task, output: MoEOutput, targets: Sequence[int]) -> Tensor:
    """Returns (B, E): each expert's share of sum over e of |w_e * score_e| (design 3.8).

    Args:
        task: whose score counts.
        output: of B samples.
        targets: one class per sample.
    """
    scores = [task.score(output.expert_logits[i], t) for i, t in enumerate(targets)]  # (E,) each
    parts = (output.weights * output.weights.new_tensor([s.tolist() for s in scores])).abs()
    return parts / parts.sum(-1, keepdim=True).clamp_min(1e-12)


def token_tables(
    tokens: TokenBatch, scores: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, TokenScores]:
    """Returns the content tokens of one sample with their attribution, {modality: table}.

    Args:
        tokens: one sample (B = 1).
        scores: {head: {modality: (1, T)}}.
    """
    tables = {}
    for m, t in tokens.items():
        content = t.content[0].nonzero()[:, 0]
        tables[m] = TokenScores(
            tokens=tuple(content.tolist()),
            spans=tuple(tuple(span) for span in t.spans[0, content].tolist()),
            scores={head: tuple(s[m][0, content].tolist()) for head, s in scores.items()},
        )
    return tables


def leak_players(tokens: TokenBatch) -> tuple[Player, ...]:
    """Returns the two kinds of evidence whose leak is asked for, all modalities apart.

    First one player for each modality's content tokens, then one for each one's structural tokens,
    named `content` and `structural`; without structural tokens nothing can leak and it is empty.
    """
    kinds = {
        "content": {m: t.content[0] for m, t in tokens.items()},
        "structural": {m: t.mask[0] & ~t.content[0] for m, t in tokens.items()},
    }
    if not any(bool(mask.any()) for mask in kinds["structural"].values()):
        return ()
    return tuple(
        Player(m, tuple(mask.nonzero()[:, 0].tolist()), name=kind)
        for kind, masks in kinds.items()
        for m, mask in masks.items()
        if bool(mask.any())
    )


def leak(game: TokenGame) -> dict[str, float]:
    """Returns {head: v(nothing kept) - v(everything hidden)} in two evaluations (design 3.6).

    What structural tokens (CLS, SEP) still carry of the hidden content, as the frozen encoder saw
    it.

    Args:
        game: of `leak_players`.
    """
    structural = np.array([player.name == "structural" for player in game.players])
    kept, hidden = game.heads(np.stack([structural, np.zeros_like(structural)]))
    return dict(zip(game.head_names, (kept - hidden).tolist(), strict=True))


def leak_note(value: float) -> str:
    """Returns the reader's note of the mixture's leak."""
    return f"with every word and patch hidden, structural tokens still carry {value:+.3g}"


def completeness_notes(attribution: Attribution) -> list[str]:
    """Returns a note for each head whose integrated gradients clearly miss the score difference.

    That is by more than 5% of it, and by more than .01.
    """
    notes = []
    for head, delta in attribution.convergence_delta.items():
        missed = float(delta.abs().max())
        difference = float(attribution.score_difference[head].abs().max())
        if missed > max(MISSED_SHARE * difference, MISSED_LEAST):
            notes.append(
                f"integrated gradients of {head} miss completeness by {missed:.3g} "
                f"of a score difference of {difference:.3g}; raise explain.steps"
            )
    return notes


def found_settings(probed: Probed, attribution: Attribution) -> dict[str, Any]:
    """Returns what an explanation's settings say beside the options: what was spent and missed.

    `leak` is there where structural tokens are in the sequence (what leaks through neighbours is
    not measured), `convergence_delta` where the attribution is integrated gradients.
    """
    found: dict[str, Any] = {"evaluations": probed.evaluations}
    if probed.leak:
        found["leak"] = dict(probed.leak)
    if attribution.convergence_delta:
        deltas = attribution.convergence_delta
        found["convergence_delta"] = {head: float(delta[0]) for head, delta in deltas.items()}
    return found


def picture_size(picture: Any) -> tuple[int, int]:
    """Returns (width, height) of the upright raw picture in pixels."""
    width, height = open_picture(picture).size
    return width, height


def input_name(raw: Any) -> str:
    """Returns a text or a path as it is; shape and digest of a picture or array given directly."""
    if isinstance(raw, str | Path):
        return str(raw)
    values = np.ascontiguousarray(np.asarray(raw))
    digest = hashlib.sha256(values.tobytes()).hexdigest()[:12]
    shape = " x ".join(str(n) for n in values.shape)
    return f"{type(raw).__name__} of {shape}, sha256 {digest}"

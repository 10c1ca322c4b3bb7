"""The game of one sample under one of our models: hidden tokens become the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.game import TokenGame
from fli2moe.model import (
    FusionModel,
    TwoStates,
    check_baseline,
    check_batch,
    masks_of,
    undisturbed,
)
from fli2moe.tokens import Player, TokenBatch

BASELINES = ("mean", "zero", "drop")


def model_game(
    model: FusionModel,
    tokens: TokenBatch,
    players: Sequence[Player],
    score: Callable[[Tensor], Tensor],
    baseline: Mapping[str, Tensor] | None,
    *,
    score_names: Sequence[str] | None = None,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> TokenGame:
    """Returns the game whose scores are those of every head of the model.

    A hidden token's features are replaced by the baseline before the projection, so its position
    stays; with `baseline=None` (`drop`) it is taken out of attention and pooling. Tokens that no
    player holds are always present.

    Args:
        model: any model of this library.
        tokens: one sample (B = 1).
        players: what may be hidden.
        score: maps logits (N, heads, C) to scores (N, heads), or (N, `score_names`).
        baseline: {modality: (D,)}, or None to drop hidden tokens.
        score_names: of what `score` returns; the model's heads by default.
        batch_size: coalitions in one forward pass.
        progress: called with the number of evaluations just made.

    Raises:
        InputError: when there is more than one sample, tokens or baseline do not fit the model, or
            a player names no token of the sample or one that another player holds.
    """
    if tokens.batch_size != 1:
        raise InputError("game", f"{tokens.batch_size} samples", "one sample")
    check_batch(tokens, model.widths)
    if baseline is not None:
        check_baseline(baseline, model.widths)
    masks = {m: mask.cpu() for m, mask in masks_of(tokens).items()}
    owner, tokens = _owners(tokens, players), tokens.to(model.device)
    with undisturbed(model), torch.no_grad():
        present = model.project(tokens)  # the projection is linear per token: done once
        absent = None
        if baseline is not None:
            absent = {
                m: model.projections[m](baseline[m].to(tokens[m].features))[None, None]
                for m in model.modalities
            }
    states = TwoStates(present, absent, masks)

    def evaluate(coalitions: Tensor) -> Tensor:  # (N, P) -> (N, heads)
        rows = torch.cat([coalitions, torch.ones(len(coalitions), 1, dtype=torch.bool)], dim=1)
        with undisturbed(model), torch.no_grad():
            output = model.under(states, {m: rows[:, owner[m]] for m in model.modalities})
        logits = output.head_logits if len(model.heads) > 1 else output.logits[:, None]
        return score(logits)

    names = model.heads if score_names is None else tuple(score_names)
    return TokenGame(evaluate, tuple(players), names, batch_size=batch_size, progress=progress)


def _owners(tokens: TokenBatch, players: Sequence[Player]) -> dict[str, Tensor]:
    """{modality: (T,) column of the player that holds each token}; P for nobody's tokens."""
    owner = {m: torch.full(t.mask.shape[1:], len(players)) for m, t in tokens.items()}
    for p, player in enumerate(players):
        if player.modality not in owner:
            raise unknown_name("player", "modality", player.modality, owner)
        for t in player.tokens:
            if not 0 <= t < len(owner[player.modality]):
                found = f"token {t} of {player.modality}"
                raise InputError("player", found, f"0 to {len(owner[player.modality]) - 1}")
            if owner[player.modality][t] != len(players):
                found = f"token {t} of {player.modality} in two players"
                raise InputError("player", found, "each token in at most one")
            owner[player.modality][t] = p
    return owner

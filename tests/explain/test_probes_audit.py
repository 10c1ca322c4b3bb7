"""Screening and audit: the same answers, better errors on the top, and never over budget."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fli2moe.explain import (
    TokenGame,
    exact_interactions,
    pair_interactions,
    redundancy_gaps,
    shapley_interactions,
)

READINGS = {"sii": ("score",), "redundancy": ("score",)}


def _game(calls: list[int], words: int = 10, patches: int = 10) -> TokenGame:
    """Player 0 AND player `words`, player 1 OR player `words + 1`, and small main effects."""

    def f(coalitions: Tensor) -> Tensor:
        calls.append(len(coalitions))
        z = coalitions.double()
        conjunction = 3 * z[:, 0] * z[:, words]
        disjunction = 2 * torch.maximum(z[:, 1], z[:, words + 1])
        return conjunction + disjunction + 0.1 * z.sum(1)

    return TokenGame.from_callable(f, {"text": words, "image": patches}, head_names=("score",))


def test_the_top_pairs_are_measured_afresh_and_their_errors_hold():
    calls: list[int] = []
    game = _game(calls)
    found = pair_interactions(game, 1000, readings=READINGS, seed=0)
    assert sum(calls) <= 1000
    best = found.sii.top(1)[0]
    assert (best.first.tokens, best.second.tokens) == ((0,), (0,))
    assert abs(best.value - 3) <= 2 * best.standard_error
    gap = found.redundancy.top(1)[0]
    assert (gap.first.tokens, gap.second.tokens) == ((1,), (1,))
    assert abs(gap.value - 2) <= 2 * gap.standard_error
    assert best.audited
    assert gap.audited
    assert len(found.sii) == 100
    assert found.sii.settings["audited_pairs"] >= 4


def test_same_seed_same_numbers_whatever_the_batch_size():
    first = pair_interactions(_game([]), 800, readings=READINGS, seed=3)
    game = _game([])
    small = TokenGame(lambda z: game.heads(z), game.players, ("score",), batch_size=7)
    second = pair_interactions(small, 800, readings=READINGS, seed=3)
    np.testing.assert_array_equal(first.sii.value, second.sii.value)
    np.testing.assert_array_equal(first.redundancy.value, second.redundancy.value)


def test_exact_where_the_budget_pays_for_it():
    game = _game([], words=3, patches=3)
    found = pair_interactions(game, 100, readings=READINGS)
    truth = exact_interactions(_game([], words=3, patches=3))
    np.testing.assert_allclose(found.sii.value, truth.sii.value, atol=1e-12)
    assert not found.sii.standard_error.any()


def test_what_is_shown_first_holds_no_luck_of_the_best_of_many():
    """A game of four-way noise: every pair's SII is known and small, its screened value is not."""
    generator = torch.Generator().manual_seed(5)
    groups = torch.randint(0, 24, (400, 4), generator=generator)
    weights = torch.randn(400, generator=generator, dtype=torch.float64)

    def f(coalitions: Tensor) -> Tensor:
        present = coalitions.double()[:, groups]  # (N, 400, 4)
        return (present.prod(-1) * weights).sum(-1)

    truth = np.zeros((24, 24))  # SII of a unanimity game of s players: 1/(s - 1) for each pair
    for group, weight in zip(groups.tolist(), weights.tolist(), strict=True):
        distinct = sorted(set(group))
        share = 1 / (len(distinct) - 1) if len(distinct) > 1 else 0.0
        for a in distinct:
            for b in distinct:
                truth[a, b] += share * weight if a < b else 0.0
    excess_audited, excess_picked = [], []
    for seed in range(12):
        game = TokenGame.from_callable(f, {"text": 12, "image": 12}, head_names=("score",))
        found = pair_interactions(game, 1200, readings=READINGS, seed=seed)
        top = found.sii.top(5)
        assert all(pair.audited for pair in top)
        table = found.sii
        audited = table.columns["audited"] == 1
        error = table.value - truth[table.first, table.second]
        excess_audited.append(error[audited].mean())
        without = shapley_interactions(game, 960, "quadblock", seed=seed)
        picked = np.argsort(-without.value)[:5]
        excess_picked.append((without.value - truth[without.first, without.second])[picked].mean())
    spread = np.std(excess_audited, ddof=1) / np.sqrt(len(excess_audited))
    assert abs(np.mean(excess_audited)) <= 3 * spread
    assert np.mean(excess_picked) > np.mean(excess_audited) + 3 * spread


def test_both_tables_come_from_one_draw():
    calls: list[int] = []
    game = _game(calls)
    found = pair_interactions(game, 600, seed=4)
    spent = sum(calls)
    assert found.sii.settings["evaluations"] == found.redundancy.settings["evaluations"] == spent
    np.testing.assert_array_equal(found.sii.value, shapley_interactions(game, 600, seed=4).value)
    np.testing.assert_array_equal(found.redundancy.value, redundancy_gaps(game, 600, seed=4).value)

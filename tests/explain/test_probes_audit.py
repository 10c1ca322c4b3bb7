"""Screening and audit: the same answers, better errors on the top, and never over budget."""

from __future__ import annotations

from itertools import combinations

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
from fli2moe.explain.probes.audit import audit
from fli2moe.explain.probes.screen import screen

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
    """Four hundred terms of four players: more than a surrogate can learn, pairs alike.

    The five pairs of the largest screened value look better than they are; the same five pairs,
    measured afresh, do not.
    """
    generator = torch.Generator().manual_seed(5)
    groups = torch.stack([torch.randperm(24, generator=generator)[:4] for _ in range(400)])
    weights = torch.randn(400, generator=generator, dtype=torch.float64)

    def f(coalitions: Tensor) -> Tensor:
        return coalitions.double()[:, groups].prod(-1) @ weights  # (N, 400, 4)

    truth = np.zeros((24, 24))  # a unanimity game of four players gives each of its pairs 1/3
    for group, weight in zip(groups.tolist(), weights.tolist(), strict=True):
        for a, b in combinations(sorted(group), 2):
            truth[a, b] += weight / 3
    pairs = np.array([(i, j) for i in range(12) for j in range(12, 24)])
    screened, measured = [], []
    for seed in range(24):
        game = TokenGame.from_callable(f, {"text": 12, "image": 12}, head_names=("score",))
        found = screen(game, "sparse", "asked for", 600, seed, ("score",))
        guess = found.surrogates[0].interactions(pairs, "shapley")[0]
        best = pairs[np.argsort(-guess)[:5]]
        fresh = audit(game, best, "shapley", 600, np.random.default_rng([seed, 1]))
        exact = truth[best[:, 0], best[:, 1]]
        screened.append(float(np.mean(np.sort(guess)[-5:]) - exact.mean()))
        measured.append(float(fresh.measured.interactions()["value"].mean() - exact.mean()))
    error = np.std(measured, ddof=1) / np.sqrt(len(measured))
    assert abs(np.mean(measured)) <= 3 * error
    luck = np.std(screened, ddof=1) / np.sqrt(len(screened))
    assert np.mean(screened) >= 4 * luck
    assert np.mean(screened) >= abs(np.mean(measured)) + 3 * np.hypot(error, luck)


def test_both_tables_come_from_one_draw():
    calls: list[int] = []
    game = _game(calls)
    found = pair_interactions(game, 600, seed=4)
    spent = sum(calls)
    assert found.sii.settings["evaluations"] == found.redundancy.settings["evaluations"] == spent
    np.testing.assert_array_equal(found.sii.value, shapley_interactions(game, 600, seed=4).value)
    np.testing.assert_array_equal(found.redundancy.value, redundancy_gaps(game, 600, seed=4).value)

"""Screening and audit: the same answers, better errors on the top, and never over budget."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fli2moe.explain import TokenGame, exact_interactions
from fli2moe.explain.probes.audit import audited_interactions

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


def test_the_top_pairs_are_measured_in_more_contexts_and_closer():
    calls: list[int] = []
    game = _game(calls)
    found = audited_interactions(game, 1000, READINGS, seed=0)
    assert sum(calls) <= 1000
    best = found.sii.top(1)[0]
    assert (best.first.tokens, best.second.tokens) == ((0,), (0,))
    assert abs(best.value - 3) <= 2 * best.standard_error
    gap = found.redundancy.top(1)[0]
    assert (gap.first.tokens, gap.second.tokens) == ((1,), (1,))
    assert abs(gap.value - 2) <= 2 * gap.standard_error
    assert best.n_contexts > int(np.median(found.sii.n_contexts))
    assert len(found.sii) == 100
    assert found.sii.settings["audited_pairs"] >= 4


def test_same_seed_same_numbers_whatever_the_batch_size():
    first = audited_interactions(_game([]), 800, READINGS, seed=3)
    game = _game([])
    small = TokenGame(lambda z: game.heads(z), game.players, ("score",), batch_size=7)
    second = audited_interactions(small, 800, READINGS, seed=3)
    np.testing.assert_array_equal(first.sii.value, second.sii.value)
    np.testing.assert_array_equal(first.redundancy.value, second.redundancy.value)


def test_exact_where_the_budget_pays_for_it():
    game = _game([], words=3, patches=3)
    found = audited_interactions(game, 100, READINGS)
    truth = exact_interactions(_game([], words=3, patches=3))
    np.testing.assert_allclose(found.sii.value, truth.sii.value, atol=1e-12)
    assert not found.sii.standard_error.any()

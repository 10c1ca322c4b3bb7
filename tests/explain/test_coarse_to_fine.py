"""Blocks first, then what is inside the strongest: finer than blocks alone, never over budget."""

import numpy as np
import pytest

from fli2moe.errors import InputError
from fli2moe.explain import TokenGame, coarse_to_fine, group_to_budget

from .games import Counted, all_of, halves, moebius
from .test_grouping import patches, words

TEXT = "the red dog ran to the old house on the hill and slept there"


def _players():
    return (*words(TEXT), *patches(14, 14))


def _planted(word=2, patch=100):
    return moebius({(word, patch): 3.0, (word,): 0.5, (patch,): 0.5, (5,): 1.0})


@pytest.mark.parametrize("seed", range(4))
def test_the_pair_inside_the_strongest_blocks_is_found(seed):
    f, budget = Counted(_planted()), 500
    players = _players()
    game = TokenGame(f, players, ("score",))
    found = coarse_to_fine(game, budget, seed=seed)
    assert f.rows <= budget
    assert game.n_players > found.game.n_players
    best = found.scores.sii.top(1)[0]
    assert best.first == players[2]
    assert best.second == players[100]
    assert abs(best.value - 3.0) <= 1.96 * best.standard_error
    assert "strongest blocks opened" in found.note
    alone = group_to_budget(TokenGame(f, players, ("score",)), budget)
    assert len(alone.game.players) > 2
    blocks = found.blocks.sii.top(1)[0]
    assert set(best.second.tokens) < set(blocks.second.tokens)


def test_where_the_budget_serves_all_players_nothing_is_grouped():
    game = halves(all_of(0, 12), 24)
    found = coarse_to_fine(game, 600, seed=1)
    assert found.game is game
    assert found.blocks is None
    assert found.note == ""
    assert found.scores.sii.top(1)[0].value == pytest.approx(1.0)


def test_every_token_is_in_one_player():
    game = TokenGame(_planted(), _players(), ("score",))
    mixed = coarse_to_fine(game, 400).game
    tokens = sorted((p.modality, t) for p in mixed.players for t in p.tokens)
    assert tokens == sorted((p.modality, t) for p in game.players for t in p.tokens)


@pytest.mark.parametrize("budget", [4, 40, 100, 300])
@pytest.mark.parametrize("method", ["auto", "sparse", "quadblock", "kernel", "monte_carlo"])
def test_the_budget_is_never_exceeded(budget, method):
    f = Counted(_planted())
    game = TokenGame(f, _players(), ("score",))
    refused = ""
    try:
        found = coarse_to_fine(game, budget, method)
    except InputError as error:
        refused = str(error)
    if refused:
        assert "at least" in refused
        assert f.rows == 0
        return
    assert f.rows <= budget
    assert np.isfinite(found.scores.sii.value).all()

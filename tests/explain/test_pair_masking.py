"""Pair masking on games whose answers are known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from fli2moe.errors import InputError
from fli2moe.explain import TokenGame
from fli2moe.explain.edge_swap import edge_swapped
from fli2moe.explain.pair_masking import (
    COUNTS,
    PRIMARY,
    compare_pairs,
    disjoint_pairs,
    mask_pairs,
)
from fli2moe.explain.probes.laws import draw_contexts
from fli2moe.explain.probes.monte_carlo import corners_in
from fli2moe.explain.probes.terms import gap_terms
from fli2moe.tokens import Player

from .games import (
    Counted,
    Function,
    added,
    all_of,
    any_of,
    halves,
    main_effects,
    random_table,
)

PLAYERS = [Player(m, (i,)) for m in ("text", "image") for i in range(6)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def masked(f: Function, pairs: list[tuple[int, int]], n: int = 12):
    game = halves(f, n)
    return mask_pairs(game, np.array(pairs), np.arange(n, dtype=float), rng(), (len(pairs),))


def possible(pairs: list[tuple[int, int]]) -> bool:
    """By trying all sets of edges between the players of the pairs."""
    left, right = sorted({i for i, _ in pairs}), sorted({j for _, j in pairs})
    edges = [(i, j) for i in left for j in right if (i, j) not in pairs]
    degrees = sorted(p for pair in pairs for p in pair)
    return any(
        sorted(p for pair in chosen for p in pair) == degrees
        for chosen in combinations(edges, len(pairs))
    )


def test_swapped_pairs_keep_every_players_count_and_none_of_the_pairs():
    seen = {True: 0, False: 0}
    for seed in range(200):
        g = rng(seed)
        every = [(i, j) for i in range(4) for j in range(6, 10)]
        chosen = g.choice(len(every), int(g.integers(1, 5)), replace=False)
        pairs = [every[k] for k in chosen]
        found = edge_swapped(np.array(pairs), PLAYERS, g)
        assert (found is not None) == possible(pairs)
        seen[found is not None] += 1
        if found is not None:
            swapped = [tuple(p) for p in found.tolist()]
            assert not set(swapped) & set(pairs)
            assert len(set(swapped)) == len(swapped)
            assert sorted(np.array(swapped).ravel()) == sorted(np.array(pairs).ravel())
            assert all(i < 6 <= j for i, j in swapped)
    assert min(seen.values()) > 20


def test_swaps_of_three_modalities_stay_within_a_kind_of_pair():
    players = [Player(m, (i,)) for m in ("a", "b", "c") for i in range(3)]
    pairs = np.array([[0, 3], [1, 4], [2, 6], [0, 7]])
    found = edge_swapped(pairs, players, rng())
    kinds = sorted((players[i].modality, players[j].modality) for i, j in found.tolist())
    assert kinds == [("a", "b"), ("a", "b"), ("a", "c"), ("a", "c")]
    assert edge_swapped(pairs[:3], players, rng()) is None  # one pair of its kind has no partner


def test_random_exchanges_reach_different_answers():
    pairs = np.array([[0, 6], [1, 7], [2, 8], [3, 9]])
    answers = {tuple(map(tuple, edge_swapped(pairs, PLAYERS, rng(s)).tolist())) for s in range(40)}
    assert len(answers) > 5


@pytest.mark.parametrize(
    ("f", "pairs", "block", "joint"),
    [
        (all_of(0, 6), [(0, 6)], -1.0, 1.0),
        (any_of(0, 6), [(0, 6)], 1.0, 1.0),
        (any_of(0, 6, 7, 8, 9), [(0, 6), (0, 7), (0, 8), (0, 9)], 1.0, 1.0),
        (main_effects(np.arange(12.0)), [(1, 8)], 0.0, 9.0),
        (lambda z: -any_of(0, 6)(z), [(0, 6)], -1.0, -1.0),
    ],
)
def test_the_block_statistic_of_known_games(f, pairs, block, joint):
    hidden = masked(f, pairs).hidden[len(pairs)]
    assert hidden.block[0] == pytest.approx(block)
    assert hidden.joint[0] == pytest.approx(joint)


def test_the_block_of_the_top_players_is_their_own():
    pairs, importance = np.array([(0, 6)]), np.array([0, 9.0, 0, 0, 0, 0, 0, 9.0, 0, 0, 0, 0])
    game = halves(added(all_of(0, 6), lambda z: -any_of(1, 7)(z)), 12)
    hidden = mask_pairs(game, pairs, importance, rng(), (1,)).hidden[1]
    assert (hidden.block[0], hidden.joint[0]) == (-1, 1)
    assert (hidden.top_block[0], hidden.top_joint[0]) == (-1, -1)


def test_members_of_three_modalities_make_no_two_blocks():
    game = TokenGame.from_callable(all_of(0, 2), {"a": 2, "b": 2, "c": 2})
    hidden = mask_pairs(game, np.array([(0, 2), (1, 4)]), np.zeros(6), rng(), (1, 2)).hidden
    assert hidden[1].block[0] == -1
    assert np.isnan(hidden[2].block[0])
    assert hidden[2].joint[0] == 1


def test_hidden_sets_have_the_sizes_that_their_names_say():
    coalitions: list[np.ndarray] = []

    def f(z):
        coalitions.append(z.numpy().copy())
        return z.double().sum(dim=1)

    game = TokenGame.from_callable(f, {"text": 6, "image": 6}, batch_size=4096)
    pairs = np.array([(0, 6), (0, 7), (1, 6), (2, 9)])
    importance = np.array([0, 0, 0, 5, 4, 3, 0, 0, 9, 8, 7, 0.0])
    found = mask_pairs(game, pairs, importance, rng(), (4,), draws=7).hidden[4]
    assert found.players == 6
    shapes = {name: values.shape for name, values in found.values.items()}
    assert shapes == {
        "ranked": (1, 1),
        "random_pairs": (7, 1),
        "same_players": (7, 1),
        "top_players": (1, 1),
    }
    assert game.evaluations <= 1 + 2 + 2 * 7 + 4  # all, ranked and top, random ones, blocks
    assert found.values["ranked"][0, 0] == 12 - 6
    assert (found.values["same_players"] == 12 - 6).all()
    rows = np.concatenate(coalitions)
    top = np.ones(12, dtype=bool)
    top[[3, 4, 5, 8, 9, 10]] = False
    assert (rows == top).all(axis=1).any()


def test_a_ranking_shorter_than_m_is_not_measured():
    found = mask_pairs(halves(all_of(0, 6), 12), np.array([(0, 6), (1, 7)]), np.zeros(12), rng())
    assert list(found.hidden) == [1, 2]
    assert [m for m in COUNTS if m > 2] == [5, 10, 20]
    assert compare_pairs(halves(all_of(0, 6), 12), [np.array([(0, 6)])], 4, rng()) == [{}]


def test_importance_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"importance of shape \(3,\).*\(12,\)"):
        mask_pairs(halves(all_of(0, 6), 12), np.array([(0, 6)]), np.zeros(3), rng())


STRONG = np.array([5.0, 4, 3, 2, 0, 0, 5, 4, 3, 2, 0, 0])
TOP = np.array([(0, 6), (1, 7), (2, 8), (3, 9)])


def test_without_pair_structure_top_players_beat_random_pairs_but_not_swapped_ones():
    game = halves(main_effects(STRONG), 12)
    hidden = mask_pairs(game, TOP, STRONG, rng(), (4,)).hidden[4]
    drop = game.heads(np.ones((1, 12), dtype=bool))[0] - hidden.values["ranked"][0]
    others = (28 - hidden.values["random_pairs"].mean(), 28 - hidden.values["same_players"].mean())
    assert drop[0] == 28
    assert max(others) < 25
    contrast = compare_pairs(game, [TOP], 8, rng(), (4,))[0][4]
    assert contrast.interaction[0] == pytest.approx(0.0, abs=1e-9)
    assert contrast.gap[0] == pytest.approx(0.0, abs=1e-9)


def test_planted_pairs_beat_swapped_ones():
    synergy = added(main_effects(STRONG), *(all_of(i, j) for i, j in TOP.tolist()))
    backups = added(*(any_of(i, j) for i, j in TOP.tolist()))
    together = compare_pairs(halves(synergy, 12), [TOP], 16, rng(), (4,))[0][4]
    instead = compare_pairs(halves(backups, 12), [TOP], 16, rng(), (4,))[0][4]
    assert together.interaction[0] == pytest.approx(1.0)
    assert together.ranked_interaction[0] == pytest.approx(1.0)
    assert instead.gap[0] == pytest.approx(1.0)
    assert instead.interaction[0] == pytest.approx(-1.0)


def test_every_share_of_the_contexts_has_its_own_swap():
    ranked = np.array([(0, 6), (1, 7), (2, 8), (3, 9)])
    found = compare_pairs(halves(random_table(12, 0), 12), [ranked], 8, rng(5), (4,), swaps=2)[0][4]
    generator, game = rng(5), halves(random_table(12, 0), 12)
    contexts = draw_contexts("shapley", 8, 12, generator)
    gained, gaps, swaps = [], [], []
    for rows in ([0, 1, 4, 5], [2, 3, 6, 7]):  # antithetic pairs stay together
        swapped = edge_swapped(ranked, game.players, generator)
        own, other = (corners_in(game, pairs, contexts[rows]) for pairs in (ranked, swapped))
        gained.append(own.interaction.mean() - other.interaction.mean())
        gaps.append(gap_terms(own).gap.mean() - gap_terms(other).gap.mean())
        swaps.append(swapped.tolist())
    assert swaps[0] != swaps[1]
    assert found.interaction[0] == pytest.approx(np.mean(gained))
    assert found.gap[0] == pytest.approx(np.mean(gaps))


def test_more_pairs_than_the_primary_ones_cost_one_share_of_the_contexts():
    ranked = np.array([(i, j) for i in range(10) for j in (10 + i, 10 + (i + 1) % 10)])
    costs = {}
    for counts in ((PRIMARY,), (PRIMARY, 20)):
        f = Counted(main_effects(np.arange(20.0)))
        found = compare_pairs(halves(f, 20, head_names=("score",)), [ranked], 16, rng(), counts)
        assert set(found[0]) == set(counts)
        costs[counts] = f.rows
    assert costs[PRIMARY,] <= 16 * (1 + 20 + 2 * PRIMARY)
    assert costs[PRIMARY, 20] <= costs[PRIMARY,] + 4 * (10 + 10 + 20)


def test_rankings_share_contexts_and_the_cost_is_that_of_their_union():
    f = Counted(added(all_of(0, 6), main_effects(STRONG)))
    game = halves(f, 12, head_names=("score",))
    found = compare_pairs(game, [TOP, TOP[::-1]], 4, rng(), (4,))
    distinct = 4 * (1 + 8 + 3 * 4)  # one ranking's pairs, and two draws of swapped ones at most
    assert f.rows <= distinct
    same = compare_pairs(halves(f, 12), [TOP, TOP[::-1]], 4, rng(), (4,))
    assert [x[4].interaction.tolist() for x in found] == [x[4].interaction.tolist() for x in same]


def test_disjoint_pairs_are_the_first_of_which_no_two_share_a_player():
    ranked = np.array([[0, 5], [0, 6], [1, 5], [1, 7], [2, 6], [3, 8], [4, 9]])
    assert disjoint_pairs(ranked, 3).tolist() == [[0, 5], [1, 7], [2, 6]]
    assert disjoint_pairs(ranked).tolist() == [[0, 5], [1, 7], [2, 6], [3, 8], [4, 9]]
    assert disjoint_pairs(ranked[:3]).tolist() == [[0, 5]]
    assert disjoint_pairs(np.empty((0, 2), dtype=np.int64)).shape == (0, 2)


def test_a_star_has_no_other_partners_but_disjoint_pairs_have():
    star = np.array([[0, 4], [0, 5], [0, 6], [1, 5]])
    players = tuple(Player("text" if i < 4 else "image", (i,)) for i in range(8))
    assert edge_swapped(star[:3], players, rng()) is None
    swapped = edge_swapped(disjoint_pairs(star), players, rng())
    assert sorted(map(tuple, swapped.tolist())) == [(0, 5), (1, 4)]

import numpy as np
import pytest

from fli2moe.errors import InputError
from fli2moe.explain import TokenGame, blocks, group_to_budget, shapley_interactions
from fli2moe.explain.players import join_players
from fli2moe.tokens import Player

from .games import Counted, all_of, halves, moebius, random_table

TEXT = "the red dog sat on the mat"


def words(text: str = TEXT) -> list[Player]:
    found, start = [], 0
    for index, word in enumerate(text.split()):
        start = text.index(word, start)
        found.append(Player("text", (index,), ((start, start + len(word)),), word))
        start += len(word)
    return found


def patches(rows: int, columns: int, size: float = 16.0) -> list[Player]:
    boxes = [
        (c * size, r * size, (c + 1) * size, (r + 1) * size)
        for r in range(rows)
        for c in range(columns)
    ]
    return [
        Player("image", (i,), (box,), "patch ({:g}, {:g})-({:g}, {:g})".format(*box))
        for i, box in enumerate(boxes)
    ]


def test_words_are_joined_with_a_space_and_touching_pieces_without():
    joined = join_players(words()[1:3])
    assert (joined.name, joined.tokens, joined.spans) == ("red dog", (1, 2), ((4, 7), (8, 11)))
    halves_of_a_word = [
        Player("text", (0,), ((0, 4),), "play"),
        Player("text", (1,), ((4, 7),), "ing"),
    ]
    assert join_players(halves_of_a_word) == Player("text", (0, 1), ((0, 7),), "playing")
    long = join_players(words("many words " * 10))
    assert long.name == "many … words"


def test_patches_become_their_bounding_box():
    grid = patches(2, 2)
    joined = join_players([grid[3], grid[0]])
    assert joined == Player("image", (0, 3), ((0, 0, 32, 32),), "patch (0, 0)-(32, 32)")
    assert join_players([grid[1]]) is grid[1]


def test_players_of_two_modalities_are_not_joined():
    with pytest.raises(InputError, match="image, text"):
        join_players([words()[0], patches(1, 1)[0]])
    with pytest.raises(InputError, match="no player"):
        join_players([])


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (14, 14), (3, 5)])
def test_blocks_are_rectangles_of_the_grid_in_any_order(rows, columns):
    grid = patches(rows, columns)
    shuffled = [grid[i] for i in np.random.default_rng(0).permutation(len(grid))]
    limit = -(-rows // 2) * -(-columns // 2)
    groups = blocks(shuffled, max_players=limit)
    assert len(groups) == limit
    assert sorted(p for group in groups for p in group) == list(range(rows * columns))
    for group in groups:
        x0, y0, x1, y1 = join_players([shuffled[p] for p in group]).spans[0]
        assert (x1 - x0) * (y1 - y0) == 256 * len(group)
        assert max(x1 - x0, y1 - y0) <= 32


def test_clipped_border_patches_stay_in_the_grid():
    clipped = [
        Player(p.modality, p.tokens, (tuple(max(3.0, x) for x in p.spans[0]),), p.name)
        for p in patches(4, 4)
    ]
    assert blocks(clipped, max_players=4) == blocks(patches(4, 4), max_players=4)


def test_runs_are_of_about_equal_length_and_contiguous():
    groups = blocks(words(), max_players=3)
    assert [len(group) for group in groups] == [3, 2, 2]
    assert [p for group in groups for p in group] == list(range(7))


@pytest.mark.parametrize("max_pairs", [1, 5, 30, 111, 112])
def test_pairs_fit_and_the_larger_modality_gives_way_first(max_pairs):
    players = [*words(), *patches(4, 4)]
    groups = blocks(players, max_pairs=max_pairs)
    texts = sum(players[group[0]].modality == "text" for group in groups)
    assert texts * (len(groups) - texts) <= max_pairs
    assert blocks(players, max_pairs=112) == tuple((p,) for p in range(23))
    with pytest.raises(InputError, match="one group per modality"):
        blocks(players, max_pairs=0)


def test_a_grouped_game_is_the_fine_game_on_unions():
    f = Counted(random_table(8, 0))
    game = halves(f, 8)
    groups = [(0, 2), (1,), (3,), (4, 5, 6), (7,)]
    grouped = game.grouped(groups)
    rows = np.random.default_rng(0).random((20, 5)) < 0.5
    fine = np.zeros((20, 8), dtype=bool)
    for g, group in enumerate(groups):
        fine[:, list(group)] = rows[:, [g]]
    np.testing.assert_array_equal(grouped(rows), game(fine))
    assert f.rows == game.evaluations == grouped.evaluations
    assert grouped.players[0].name == "text[0] text[2]"
    again = grouped.grouped([(0, 1, 2), (3, 4)])
    assert again(np.array([True, False])) == game(np.arange(8) < 4)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([(0, 1, 2), (3, 4)], "player 5 missing"),
        ([(0, 1, 2), (2, 3, 4, 5)], "exactly once"),
        ([(0, 1, 2, 3), (4, 5)], "players of image, text"),
        ([(0, 1, 2), (), (3, 4, 5)], "no player"),
        ([(0, 1, 2), (3, 4, 6)], "player 5 missing"),
    ],
)
def test_groups_must_be_a_partition_within_modalities(groups, message):
    with pytest.raises(InputError, match=message):
        halves(all_of(0, 3)).grouped(groups)


@pytest.mark.parametrize(
    ("method", "budget"),
    [
        *[(m, b) for m in ("monte_carlo", "direct", "exact") for b in (300, 2000, 15_000)],
        *[(m, b) for m in ("auto", "sparse", "quadblock", "kernel") for b in (300, 700)],
    ],
)
def test_grouping_makes_the_probe_affordable(method, budget):
    f = Counted(moebius({(0, 20): 1.0, (3,): 1.0}))
    players = (*words(TEXT + " and slept there"), *patches(14, 14))
    result = group_to_budget(TokenGame(f, players, ("score",)), budget, method)
    assert "196 image players into" in result.note
    assert f.rows == 0
    scores = shapley_interactions(result.game, budget, method)
    assert f.rows <= budget
    assert (scores.n_contexts >= (6 if method not in ("monte_carlo", "direct") else 8)).all()
    assert len(scores) == len(result.game.cross_modal_pairs())


def test_no_more_grouping_than_needed():
    game = halves(all_of(0, 12), 24)
    same = group_to_budget(game, 2000, "monte_carlo")
    assert same.game is game
    assert same.note == ""
    one_context = group_to_budget(game, 169, contexts="full")
    assert one_context.game is game


def test_what_no_grouping_can_serve_is_refused():
    game = halves(all_of(0, 12), 24)
    with pytest.raises(InputError, match="at least 36 for one group per modality"):
        group_to_budget(game, 35, "monte_carlo")
    assert group_to_budget(game, 36, "monte_carlo").game.n_players == 2
    with pytest.raises(InputError, match="two modalities"):
        group_to_budget(TokenGame.from_callable(all_of(0), {"text": 9}), 1000)
    with pytest.raises(InputError, match="unknown method"):
        group_to_budget(game, 1000, "sparsely")

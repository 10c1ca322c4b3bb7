import numpy as np
import pytest
import torch
from torch import Tensor

from fli2moe.errors import InputError, MachineError
from fli2moe.explain import TokenGame
from fli2moe.tokens import Player

from .games import Counted, all_of, halves, random_table


def coalitions(n: int, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, n)) < 0.5


def test_values_are_those_of_the_function_in_float64():
    f = random_table(6, 0, heads=3)
    game = halves(f)
    rows = coalitions(6, 40)
    expected = f(torch.from_numpy(rows)).numpy()
    assert game.heads(rows).dtype == np.float64
    np.testing.assert_array_equal(game.heads(rows), expected)
    np.testing.assert_array_equal(game(torch.from_numpy(rows)), expected[:, 0])
    np.testing.assert_array_equal(game.on("head 2")(rows), expected[:, 2])


def test_one_coalition_gives_one_value():
    game = halves(all_of(0, 3))
    assert game(np.ones(6, dtype=bool)).tolist() == [1.0]
    assert game(torch.zeros(6, dtype=torch.bool)).shape == (1,)
    assert game(np.ones((0, 6), dtype=bool)).shape == (0,)


def test_every_coalition_is_evaluated_once():
    f = Counted(random_table(6, 0, heads=2))
    game = halves(f)
    rows = coalitions(6, 30)
    game(np.concatenate([rows, rows]))
    game.on("head 1")(rows[::-1])
    game.grouped([(0,), (1,), (2,), (3, 4, 5)])(rows[:, :4])
    distinct = len(np.unique(rows, axis=0))
    assert f.rows == game.evaluations
    assert game.evaluations >= distinct
    before = f.rows
    game(rows)
    assert f.rows == before


@pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
def test_a_value_does_not_depend_on_the_batch_size(batch_size):
    f = Counted(random_table(7, 1))
    rows = coalitions(7, 50)
    values = halves(f, 7, batch_size=batch_size)(rows)
    np.testing.assert_array_equal(values, halves(f.f, 7)(rows))
    assert f.largest <= batch_size


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_batches_are_halved_when_memory_runs_out(error):
    f = random_table(6, 2)

    def small(z: Tensor) -> Tensor:
        if len(z) > 5:
            raise error
        return f(z)

    seen: list[int] = []
    game = halves(small, batch_size=64, progress=seen.append)
    rows = coalitions(6, 50)
    np.testing.assert_array_equal(game(rows), halves(f)(rows))
    assert game.batch_size <= 5
    assert sum(seen) == game.evaluations


def test_a_cpu_allocation_failure_counts_as_out_of_memory_and_other_errors_do_not():
    def full(z: Tensor) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate ...")

    def broken(z: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(MachineError, match="out of memory on a single coalition"):
        halves(full)(coalitions(6, 4))
    with pytest.raises(RuntimeError, match="mat1"):
        halves(broken)(coalitions(6, 4))


def test_gradients_are_not_kept():
    weight = torch.ones(6, requires_grad=True)
    game = halves(lambda z: z.float() @ weight)
    assert game(np.ones(6, dtype=bool)).tolist() == [6.0]
    assert weight.grad is None


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda z: torch.full((len(z),), torch.nan), "game: nan"),
        (lambda z: torch.full((len(z),), torch.inf), "game: inf"),
        (lambda z: torch.zeros(len(z) + 1), "shape"),
        (lambda z: torch.zeros(len(z), 2, 2), "shape"),
        (lambda z: torch.tensor(1.0), "shape"),
        (lambda z: 1.0, "a float"),
    ],
)
def test_bad_values_are_one_clear_line(f, message):
    with pytest.raises(InputError, match=message) as caught:
        halves(f)(coalitions(6, 4))
    assert "\n" not in str(caught.value)


def test_the_number_of_heads_must_stay():
    players = {"text": 2, "image": 2}
    with pytest.raises(InputError, match=r"values of shape \(1, 3\); expected \(1, 2\)"):
        TokenGame.from_callable(lambda z: torch.zeros(len(z), 3), players, ("a", "b"))(
            np.ones(4, dtype=bool)
        )


def test_bad_games_and_coalitions():
    with pytest.raises(InputError, match="at least two"):
        TokenGame.from_callable(all_of(0), {"text": 1})
    with pytest.raises(InputError, match="batch_size 0"):
        halves(all_of(0), batch_size=0)
    with pytest.raises(InputError, match="each named once"):
        TokenGame.from_callable(all_of(0), {"text": 2}, ("a", "a"))
    with pytest.raises(InputError, match="did you mean 'synergy'"):
        TokenGame.from_callable(all_of(0), {"text": 2}, ("synergy",)).on("sinergy")
    with pytest.raises(InputError, match=r"expected bool \(N, 6\)"):
        halves(all_of(0))(np.ones((2, 5), dtype=bool))
    with pytest.raises(InputError, match="float64"):
        halves(all_of(0))(np.ones((2, 6)))


def test_a_game_that_changes_its_mind_is_found_out():
    generator = torch.Generator().manual_seed(0)
    noisy = halves(lambda z: z.sum(1) + torch.randn(len(z), generator=generator))
    with pytest.raises(InputError, match="the same coalition gave"):
        noisy.check()


def test_the_check_costs_one_repeat_and_only_once():
    f = Counted(all_of(0, 3))
    game = halves(f)
    game.check()
    game.check()
    game.on("score").check()
    assert (f.rows, game.evaluations, game.repeats) == (2, 1, 1)


def test_cross_modal_pairs_in_order():
    game = TokenGame.from_callable(all_of(0), {"text": 2, "image": 1, "lab": 1})
    expected = [[0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert game.cross_modal_pairs().tolist() == expected
    assert [str(p) for p in game.players] == ["text[0]", "text[1]", "image[0]", "lab[0]"]


def test_heads_are_named_or_numbered_and_the_first_is_the_default():
    players = (Player("text", (0,)), Player("image", (0,)))
    game = TokenGame(lambda z: torch.zeros(len(z), 2), players, ("mixture", "synergy"), "synergy")
    assert game.head == "synergy"
    assert game.heads_known
    assert halves(all_of(0)).head_names == ("score",)
    assert halves(random_table(6, 0, 2)).head_names == ("head 0", "head 1")

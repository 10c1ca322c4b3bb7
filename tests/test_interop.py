import sys

import numpy as np
import pytest
from explain.games import all_of, halves, moebius, random_table

from fli2moe.errors import InputError, MachineError
from fli2moe.explain import redundancy_gaps, shapley_interactions
from fli2moe.interop import as_shapiq_game, from_shapiq, from_shapiq_game, to_shapiq
from fli2moe.tokens import Player

shapiq = pytest.importorskip("shapiq")

GAME = moebius({(0, 3): 1.5, (1, 4): -2.0, (2,): 1.0, (0, 3, 5): 0.5, (): 7.0})


def numpy_game(coalitions: np.ndarray) -> np.ndarray:
    assert isinstance(coalitions, np.ndarray)
    assert coalitions.dtype == np.bool_
    return 2.0 * (coalitions[:, 1] & coalitions[:, 4]) - coalitions[:, 0] + 3.0


@pytest.mark.parametrize("law", ["shapley", "banzhaf"])
def test_pair_scores_become_interaction_values(law):
    game = halves(GAME)
    scores = shapley_interactions(game, budget=64, contexts=law)
    values = to_shapiq(scores, baseline_value=7.0)
    exact = shapiq.ExactComputer(as_shapiq_game(game))(values.index, 2)
    assert values.index == {"shapley": "SII", "banzhaf": "BII"}[law]
    assert (values.n_players, values.min_order, values.max_order) == (6, 2, 2)
    assert (values.estimated, values.estimation_budget) == (False, 64)
    assert values.baseline_value == 7.0
    assert len(values) == 9  # cross-modal pairs alone; the other six are missing, not 0
    assert (0, 1) not in values.interaction_lookup
    for pair, value in values.dict_values.items():
        assert value == pytest.approx(exact[pair], abs=1e-9)


def test_estimates_are_marked_as_such():
    scores = shapley_interactions(halves(random_table(6, 1)), budget=50, method="monte_carlo")
    values = to_shapiq(scores)
    assert values.estimated
    assert values.estimation_budget == scores.settings["evaluations"] <= 50


def test_one_head_is_chosen():
    scores = shapley_interactions(halves(random_table(6, 1, heads=2)), budget=64)
    second = to_shapiq(scores, head="head 1")
    assert second[(0, 3)] == pytest.approx(scores.for_head("head 1").value[0])
    assert to_shapiq(scores) != second
    with pytest.raises(InputError, match="unknown head 'head 3'"):
        to_shapiq(scores, head="head 3")


@pytest.mark.parametrize("some", [slice(None), slice(0, 4), slice(0, 0)])
def test_interaction_values_survive_shapiqs_own_files(tmp_path, some):
    scores = shapley_interactions(halves(GAME), budget=64)
    values = to_shapiq(scores.select(np.arange(len(scores))[some]), baseline_value=-1.0)
    values.save(tmp_path / "values.json")
    again = shapiq.InteractionValues.load(tmp_path / "values.json")
    for loaded in (again, shapiq.InteractionValues.from_dict(values.to_dict())):
        assert loaded == values
        assert loaded.dict_values == values.dict_values
        assert loaded.estimated == values.estimated
        assert loaded.estimation_budget == values.estimation_budget
    assert len(values) == len(from_shapiq(again, scores.players))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_interaction_values_survive_npz(tmp_path):
    values = to_shapiq(shapley_interactions(halves(GAME), budget=64))
    values.save(tmp_path / "values.npz", as_npz=True)
    with np.load(tmp_path / "values.npz", allow_pickle=False) as data:  # no pickle in it
        assert set(data["interaction_lookup_keys"]) >= {"0,3", "1,4"}
    assert shapiq.InteractionValues.load(tmp_path / "values.npz") == values


def test_what_shapiq_does_not_have_is_refused():
    with pytest.raises(InputError, match=r"redundancy_gap .* which shapiq does not have"):
        to_shapiq(redundancy_gaps(halves(GAME), budget=64))
    with pytest.raises(InputError, match="SII over full contexts"):
        to_shapiq(shapley_interactions(halves(GAME), budget=64, contexts="full"))


def test_interaction_values_become_pair_scores():
    game = halves(GAME)
    exact = shapiq.ExactComputer(game, n_players=6)("SII", 2)
    scores = from_shapiq(exact, game.players)
    assert len(scores) == 15
    assert (scores.standard_error == 0).all()
    top = scores.top(1)[0]
    assert (str(top.first), str(top.second)) == ("text[0]", "image[0]")
    assert top.value == pytest.approx(1.75)
    estimator = shapiq.PermutationSamplingSII(n=6, max_order=2, index="SII", random_state=0)
    estimate = from_shapiq(estimator.approximate(200, game), game.players)
    assert np.isnan(estimate.standard_error).all()
    assert 0 < estimate.settings["evaluations"] <= 200
    assert (estimate.n_contexts == 0).all()


def test_round_trip_through_shapiq():
    scores = shapley_interactions(halves(GAME), budget=64)
    again = from_shapiq(to_shapiq(scores), scores.players)
    assert again.value.tolist() == scores.value.tolist()
    assert (again.first.tolist(), again.second.tolist()) == (
        scores.first.tolist(),
        scores.second.tolist(),
    )


def test_other_indices_are_refused_by_name():
    game = halves(GAME)
    computer = shapiq.ExactComputer(game, n_players=6)
    for index in ("k-SII", "STII"):
        with pytest.raises(InputError, match=f"index {index}"):
            from_shapiq(computer(index, 2), game.players)
    with pytest.raises(InputError, match="5 players for values of 6"):
        from_shapiq(computer("SII", 2), game.players[:5])
    with pytest.raises(InputError, match="index SV"):
        from_shapiq(computer("SII", 2).get_n_order(1), game.players)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_token_game_is_a_shapiq_game(normalize):
    game = halves(GAME)
    theirs = as_shapiq_game(game, normalize=normalize)
    assert isinstance(theirs, shapiq.Game)
    assert theirs.player_name_lookup["image[0]"] == 3
    assert theirs(theirs.empty_coalition)[0] == (0.0 if normalize else 7.0)
    assert theirs([("text[0]", "image[0]")])[0] == (1.5 if normalize else 8.5)
    exact = theirs.exact_values("SII", 2)
    for approximator, budget in (
        (shapiq.PermutationSamplingSII(n=6, max_order=2, index="SII", random_state=0), 3000),
        (shapiq.KernelSHAPIQ(n=6, max_order=2, index="SII", random_state=0), 64),
        (shapiq.SHAPIQ(n=6, max_order=2, index="SII", random_state=0), 64),
    ):
        values = approximator.approximate(budget, theirs)
        assert values[(0, 3)] == pytest.approx(exact[(0, 3)], abs=0.3)
    assert game.evaluations == 64  # kept and shared, however often shapiq asks


def test_a_sparse_approximator_runs_on_a_token_game():
    pytest.importorskip("lightgbm")
    theirs = as_shapiq_game(halves(moebius({(0, 7): 3.0, (1, 8): -3.0}), 10))
    estimator = shapiq.ProxySPEX(n=10, max_order=2, index="FBII", random_state=0)
    values = estimator.approximate(512, theirs)
    assert values[(1, 8)] < -1 < 1 < values[(0, 7)]


def test_names_that_occur_twice_stay_apart():
    f = all_of(0, 3)
    game = halves(f)
    twice = type(game)(
        f, tuple(Player(p.modality, p.tokens, name="the") for p in game.players), None
    )
    lookup = as_shapiq_game(twice).player_name_lookup
    assert list(lookup.values()) == list(range(6))
    assert list(lookup)[:2] == ["the", "the (1)"]


def test_our_probes_run_on_a_numpy_function():
    game = from_shapiq_game(numpy_game, {"text": 3, "image": 3})
    assert game.players[4].name == "image[1]"
    top = shapley_interactions(game, budget=64).top(1)[0]
    assert (str(top.first), str(top.second), top.value) == ("text[1]", "image[1]", 2.0)


def test_our_probes_run_on_a_shapiq_game_before_its_normalisation():
    class Numpy(shapiq.Game):
        def value_function(self, coalitions):
            return numpy_game(coalitions)

    theirs = Numpy(6, normalization_value=3.0, player_names=list("abcdef"))
    game = from_shapiq_game(theirs, {"text": 3, "image": 3})
    assert game(np.zeros(6, dtype=bool))[0] == 3.0
    assert theirs(np.zeros(6, dtype=bool))[0] == 0.0
    assert [p.name for p in game.players] == list("abcdef")
    ours, exact = shapley_interactions(game, budget=64), theirs.exact_values("SII", 2)
    for i, j, value in zip(ours.first, ours.second, ours.value, strict=True):
        assert value == pytest.approx(exact[(int(i), int(j))], abs=1e-9)
    with pytest.raises(InputError, match="7 in all; expected 6"):
        from_shapiq_game(theirs, {"text": 3, "image": 4})


def test_without_shapiq_the_error_says_what_to_install(monkeypatch):
    scores = shapley_interactions(halves(GAME), budget=64)
    monkeypatch.setitem(sys.modules, "shapiq", None)
    with pytest.raises(MachineError, match=r'shapiq: is not installed; pip install "fli2moe'):
        to_shapiq(scores)
    with pytest.raises(MachineError, match="is not installed"):
        as_shapiq_game(halves(GAME))

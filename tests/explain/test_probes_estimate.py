from math import comb

import numpy as np
import pytest
import torch

from fli2moe.errors import InputError
from fli2moe.explain import (
    TokenGame,
    exact_interactions,
    redundancy_gaps,
    shapley_interactions,
)
from fli2moe.explain.probes.laws import draw_contexts, size_weights

from .games import Counted, all_of, any_of, halves, moebius, odd_of, random_table

SAMPLERS = ["monte_carlo", "direct"]
PROBES = [shapley_interactions, redundancy_gaps]


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("method", SAMPLERS)
@pytest.mark.parametrize("budget", [16, 17, 37, 40, 100, 1000])
def test_the_budget_is_never_exceeded(probe, method, budget):
    f = Counted(random_table(12, 0))
    game = halves(f, 12)
    pairs = [(0, 6), (1, 7), (2, 8)]
    scores = probe(game, budget, method, pairs)
    assert f.rows <= budget
    assert scores.settings["evaluations"] == f.rows == game.evaluations + game.repeats


@pytest.mark.parametrize("budget", [64, 65, 300])
def test_the_budget_of_exact_is_never_exceeded(budget):
    f = Counted(random_table(6, 0))
    scores = shapley_interactions(halves(f), budget)
    assert scores.settings["method"] == "exact"
    assert f.rows <= min(budget, 65)


@pytest.mark.parametrize("method", SAMPLERS)
@pytest.mark.parametrize("law", ["shapley", "banzhaf", "full"])
def test_the_second_probe_costs_nothing(method, law):
    f = Counted(random_table(10, 0, heads=2))
    game = halves(f, 10)
    shapley_interactions(game, 500, method, contexts=law, seed=3)
    before = f.rows
    redundancy_gaps(game, 500, method, contexts=law, seed=3)
    assert f.rows == before


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("method", [*SAMPLERS, "exact"])
def test_same_seed_same_numbers_whatever_the_batch_size_and_the_cache(probe, method):
    f = random_table(8, 0, heads=2)
    warm = halves(f, 8)
    exact_interactions(warm)
    games = [halves(f, 8), halves(f, 8, batch_size=3), warm]
    tables = [probe(game, 600, method, seed=11).to_dataframe() for game in games]
    for table in tables[1:]:
        assert table.equals(tables[0])
    if method != "exact":
        assert not probe(games[0], 600, method, seed=12).to_dataframe().equals(tables[0])


@pytest.mark.parametrize("method", SAMPLERS)
@pytest.mark.parametrize("law", ["shapley", "banzhaf"])
def test_estimates_approach_the_exact_scores(method, law):
    game = halves(random_table(8, 4, heads=2), 8)
    pairs = [(0, 4), (1, 5), (0, 1)]
    exact = exact_interactions(game, pairs, law)
    for probe, truth in ((shapley_interactions, exact.sii), (redundancy_gaps, exact.redundancy)):
        scores = probe(game, 20_000, method, pairs, law)
        assert scores.head == truth.head
        error = np.abs(scores.value - truth.value) / scores.standard_error
        assert error.max() < 4
        assert np.abs(scores.value - truth.value).max() < 0.2
        for name in ("positive", "negative", "overlap") if probe is redundancy_gaps else ():
            gap = np.abs(scores.columns[name] - truth.columns[name])
            assert (gap < 4 * scores.columns[f"{name}_error"]).all()


@pytest.mark.parametrize("probe", PROBES)
def test_the_full_context_is_exact_for_any_number_of_players(probe):
    f = moebius({(0, 6): 1.5, (0, 6, 7): -0.5, (1,): 1.0})
    truth = exact_interactions(halves(f, 12), contexts="full")
    scores = probe(halves(f, 12), 100, contexts="full")
    assert scores.settings["method"] == "monte_carlo"
    expected = truth.sii if probe is shapley_interactions else truth.redundancy
    np.testing.assert_allclose(scores.value, expected.value, atol=1e-12)
    assert (scores.standard_error == 0).all()
    assert (scores.n_contexts == 1).all()


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("f", [all_of(0, 3), any_of(0, 3), odd_of(0, 3), all_of(1, 4)])
def test_no_standard_error_is_zero_because_the_contexts_agreed(probe, f):
    scores = probe(halves(f, 18), 60, pairs=[(0, 9), (1, 10)], method="monte_carlo")
    assert (scores.standard_error > 0).all()


def test_where_nothing_ever_varied_the_error_is_unknown():
    constant = halves(lambda z: torch.ones(len(z)), 18)
    assert np.isnan(shapley_interactions(constant, 60, pairs=[(0, 9)]).standard_error).all()


COVERAGE = {
    "nine-way OR": (any_of(*range(9)), 10, (0, 5), 8),
    "seven-way AND": (all_of(*range(7)), 8, (0, 4), 16),
    "random": (random_table(8, 0), 8, (0, 5), 8),
    "concave": (lambda z: torch.log1p(z.double().sum(1)), 8, (0, 5), 16),
    "presence XOR": (odd_of(0, 5, 6), 8, (0, 5), 16),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", SAMPLERS)
@pytest.mark.parametrize("name", COVERAGE)
def test_nominal_95_percent_intervals_cover_90(name, method):
    f, n, pair, contexts = COVERAGE[name]
    game = halves(f, n)
    exact = exact_interactions(game, [pair])
    for probe, truth in ((shapley_interactions, exact.sii), (redundancy_gaps, exact.redundancy)):
        hits, values = 0, []
        for seed in range(200):
            scores = probe(game, 4 * contexts + 4, method, [pair], seed=1000 + seed)
            assert scores.n_contexts.tolist() == [contexts]
            hits += abs(scores.value[0] - truth.value[0]) <= 1.96 * scores.standard_error[0]
            values.append(scores.value[0])
        assert hits >= 180
        standard_error = np.std(values) / np.sqrt(200)
        assert np.mean(values) == pytest.approx(truth.value[0], abs=4 * standard_error + 1e-9)


def test_pairs_that_were_not_asked_for_have_no_row():
    scores = shapley_interactions(halves(random_table(12, 0), 12), 500, pairs=[(7, 2), (0, 6)])
    assert list(zip(scores.first, scores.second, strict=True)) == [(2, 7), (0, 6)]
    assert list(scores.to_dataframe().columns) == [
        *("first", "second", "value", "standard_error", "n_contexts")
    ]


def test_heads_are_scored_together_and_can_be_chosen():
    f = Counted(random_table(8, 0, heads=3))
    game = halves(f, 8)
    scores = shapley_interactions(game.on("head 2"), 200, "monte_carlo")
    assert scores.heads == ("head 2", "head 0", "head 1")
    assert f.rows <= 200 + 1  # naming the head had evaluated the empty coalition
    chosen = shapley_interactions(game, 200, "monte_carlo", heads=["head 1"])
    np.testing.assert_array_equal(chosen.value, scores.for_head("head 1").value)


def test_auto_says_what_it_chose_and_why():
    small = shapley_interactions(halves(all_of(0, 3)), 64)
    assert small.settings["method"] == "exact"
    assert "64 coalitions" in small.settings["reason"]
    poor = shapley_interactions(halves(all_of(0, 3)), 60)
    assert poor.settings["method"] == "monte_carlo"
    assert "exact needs 64" in poor.settings["reason"]
    large = shapley_interactions(halves(all_of(0, 3), 20), 500)
    assert "at most 16" in large.settings["reason"]
    assert large.settings["seed"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "0 evaluations"),
        ({"budget": 100, "method": "exact"}, "at least 4096"),
        ({"budget": 48, "method": "monte_carlo"}, "at least 49 for one context of 36 pairs"),
        ({"budget": 143, "method": "direct"}, "at least 144 for one context of 36 pairs"),
        ({"method": "monte carlo"}, "did you mean 'monte_carlo'"),
        ({"contexts": "shapely"}, "did you mean 'shapley'"),
        ({"pairs": []}, "m at least 1"),
        ({"pairs": [(0, 1, 2)]}, r"\(m, 2\)"),
        ({"pairs": [(3, 3)]}, "player 3 paired with itself"),
        ({"pairs": [(0, 12)]}, "player 12; expected 0 to 11"),
        ({"pairs": [(-1, 2)]}, "player -1"),
        ({"pairs": [(0, 7), (7, 0)]}, r"\(0, 7\) given twice"),
        ({"pairs": [(0.0, 7.0)]}, "player indices"),
        ({"heads": ["head 9"]}, "unknown head 'head 9'"),
        ({"heads": []}, "at least one head"),
        ({"heads": "head 0"}, "a sequence"),
    ],
)
@pytest.mark.parametrize("probe", PROBES)
def test_bad_requests_are_one_clear_line(probe, options, message):
    game = halves(random_table(12, 0, heads=2), 12)
    with pytest.raises(InputError, match=message) as caught:
        probe(game, **{"budget": 5000, "method": "monte_carlo", **options})
    assert "\n" not in str(caught.value)


def test_one_modality_needs_a_list_of_pairs():
    game = TokenGame.from_callable(all_of(0, 1), {"text": 5})
    with pytest.raises(InputError, match="two modalities"):
        shapley_interactions(game, 100)
    assert shapley_interactions(game, 100, pairs=[(0, 1)]).value.tolist() == [1.0]


@pytest.mark.parametrize("method", ["auto", *SAMPLERS])
def test_a_game_that_changes_its_mind_is_found_out(method):
    generator = torch.Generator().manual_seed(0)
    game = halves(lambda z: z.sum(1) + torch.randn(len(z), generator=generator), 8)
    with pytest.raises(InputError, match="the same coalition gave"):
        shapley_interactions(game, 300, method)


def test_contexts_are_antithetic_stratified_and_of_uniform_size():
    n = 4000
    contexts = draw_contexts("shapley", n, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(contexts[0::2], ~contexts[1::2])
    sizes = np.bincount(contexts.sum(axis=1), minlength=6) / n
    np.testing.assert_allclose(sizes, 1 / 6, atol=0.03)
    assert draw_contexts("shapley", 1, 5, np.random.default_rng(0)).shape == (1, 5)
    half = draw_contexts("banzhaf", n, 5, np.random.default_rng(0))
    np.testing.assert_allclose(half.mean(axis=0), 0.5)


@pytest.mark.parametrize("law", ["shapley", "banzhaf", "full"])
@pytest.mark.parametrize("others", [0, 1, 14])
def test_the_weights_of_a_law_sum_to_one(law, others):
    counts = np.array([comb(others, size) for size in range(others + 1)])
    assert size_weights(law, others) @ counts == pytest.approx(1.0)

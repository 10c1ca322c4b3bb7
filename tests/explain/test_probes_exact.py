import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fli2moe.errors import InputError
from fli2moe.explain import TokenGame, exact_interactions, interaction_share

from .games import all_of, any_of, brute_force, halves, moebius, odd_of, random_table


def sii(f, pair=(0, 3), n=6, law="shapley"):
    return float(exact_interactions(halves(f, n), [pair], law).sii.value[0])


def gap(f, pair=(0, 3), n=6, law="shapley"):
    return float(exact_interactions(halves(f, n), [pair], law).redundancy.value[0])


def column(f, name, pair=(0, 3), law="shapley"):
    return float(exact_interactions(halves(f), [pair], law).redundancy.columns[name][0])


def test_known_interactions():
    assert sii(all_of(0, 3)) == pytest.approx(1.0)
    assert sii(any_of(0, 3)) == pytest.approx(-1.0)
    assert sii(odd_of(0, 2), (0, 2), n=4) == pytest.approx(-2.0)
    assert [sii(all_of(0, 3, 4), pair) for pair in ((0, 3), (0, 4), (3, 4))] == pytest.approx(
        [0.5] * 3
    )
    assert sii(all_of(0, 3), (1, 4)) == 0.0
    assert sii(lambda z: z.double() @ torch.arange(6.0).double()) == pytest.approx(0.0)
    # A 12-way AND: two fixed Gauss nodes give half of it.
    assert sii(all_of(*range(12)), (0, 6), 12) == pytest.approx(1 / 11)


def test_known_redundancy_gaps():
    additive = moebius({(0,): 1.0, (3,): 0.5, (1,): -2.0})
    assert gap(any_of(0, 3), (1, 4)) == 0.0  # dummies
    assert gap(additive) == pytest.approx(0.0)
    assert gap(any_of(0, 3)) == pytest.approx(1.0)
    assert gap(lambda z: -any_of(0, 3)(z)) == pytest.approx(1.0)
    assert gap(all_of(0, 3)) == 0.0
    assert gap(odd_of(0, 3)) == 0.0
    assert gap(odd_of(0, 3, 4)) == 0.0
    assert gap(any_of(0, 3, 4)) == pytest.approx(0.5)
    assert gap(lambda z: (0.6 * (z[:, 0].double() + z[:, 3])).clamp(max=1.0)) == pytest.approx(0.2)


@pytest.mark.parametrize("m", [2, 3, 4, 5, 6])
def test_redundancy_gap_of_m_copies(m):
    copies = any_of(*(0, 3, 1, 4, 2, 5)[:m])
    assert gap(copies) == pytest.approx(1 / (m - 1))
    assert gap(copies, law="banzhaf") == pytest.approx(2.0 ** -(m - 2))
    assert gap(copies, law="full") == (1.0 if m == 2 else 0.0)
    for law in ("shapley", "banzhaf"):
        assert column(copies, "overlap", law=law) == pytest.approx(1.0)


def test_a_concave_game_gives_every_pair_some_gap():
    def concave(z):
        return torch.log1p(z.double().sum(dim=1))

    assert gap(concave) == pytest.approx(0.108, abs=5e-4)
    assert column(concave, "overlap") == pytest.approx(0.30, abs=5e-3)


def test_the_gap_is_split_by_the_sign_of_the_evidence():
    assert column(any_of(0, 3), "positive") == pytest.approx(1.0)
    assert column(any_of(0, 3), "negative") == pytest.approx(0.0)
    assert column(lambda z: -any_of(0, 3)(z), "negative") == pytest.approx(1.0)
    assert np.isnan(column(all_of(0, 3), "overlap"))


@pytest.mark.parametrize("law", ["shapley", "banzhaf", "full"])
def test_exact_is_brute_force(law):
    f = random_table(6, 5)
    scores = exact_interactions(halves(f), [(0, 3), (4, 1), (0, 1)], law)
    assert scores.sii.first.tolist() == [0, 1, 0]
    for row, (i, j) in enumerate([(0, 3), (1, 4), (0, 1)]):
        expected = brute_force(f, 6, i, j, law)
        got = scores.sii.value[row], scores.redundancy.value[row]
        assert got == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [4, 7])
def test_exact_sii_agrees_with_shapiq(n):
    shapiq = pytest.importorskip("shapiq")
    game = halves(random_table(n, 3), n)
    theirs = shapiq.ExactComputer(game, n_players=n)("SII", 2)
    ours = exact_interactions(game).sii
    for i, j, value in zip(ours.first, ours.second, ours.value, strict=True):
        assert value == pytest.approx(theirs[(int(i), int(j))], abs=1e-9)


def test_a_game_can_be_handed_to_a_shapiq_approximator():
    shapiq = pytest.importorskip("shapiq")
    game = halves(moebius({(0, 3): 1.0, (1, 4): -2.0, (2,): 1.0}))
    approximator = shapiq.InconsistentKernelSHAPIQ(n=6, max_order=2, index="SII", random_state=0)
    theirs = approximator.approximate(budget=64, game=game)
    ours = exact_interactions(game).sii
    for i, j, value in zip(ours.first, ours.second, ours.value, strict=True):
        assert theirs[(int(i), int(j))] == pytest.approx(value, abs=1e-6)


terms = st.dictionaries(
    st.sets(st.integers(0, 5), min_size=1).map(lambda s: tuple(sorted(s))),
    st.floats(-3, 3, allow_nan=False),
    min_size=1,
    max_size=8,
)


@settings(max_examples=30, deadline=None)
@given(terms)
def test_moebius_games_match_the_closed_form(weights):
    """SII of a pair is the sum over terms T that contain it of weight / (|T| - 1)."""
    scores = exact_interactions(halves(moebius(weights))).sii
    for i, j, value in zip(scores.first, scores.second, scores.value, strict=True):
        expected = sum(w / (len(t) - 1) for t, w in weights.items() if i in t and j in t)
        assert value == pytest.approx(expected, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-2, 2), st.floats(-5, 5))
def test_gap_invariants(seed, scale, shift):
    f = random_table(6, seed)
    plain = exact_interactions(halves(f)).redundancy
    moved = exact_interactions(halves(lambda z: scale * f(z) + shift)).redundancy
    np.testing.assert_allclose(moved.value, abs(scale) * plain.value, atol=1e-9)
    assert (plain.value >= 0).all()
    np.testing.assert_allclose(plain.columns["positive"] + plain.columns["negative"], plain.value)
    table = halves(f)
    for i, j, value in zip(plain.first, plain.second, plain.value, strict=True):
        weaker = min(_mean_marginal(table, i, j), _mean_marginal(table, j, i))
        assert value <= weaker + 1e-12


def _mean_marginal(game: TokenGame, i: int, other: int) -> float:
    """E|v(S+i) - v(S)| over contexts S without i and the other, of uniform size."""
    codes = np.arange(64)
    bits = (codes[:, None] >> np.arange(6)) & 1 == 1
    s = bits[~bits[:, i] & ~bits[:, other]]
    sizes = s.sum(axis=1)
    weights = 1 / (5 * np.array([1, 4, 6, 4, 1])[sizes])
    added = s.copy()
    added[:, i] = True
    return float(weights @ np.abs(game(added) - game(s)))


def test_relabelling_players_permutes_the_scores():
    f = random_table(6, 8)
    order = np.array([3, 1, 5, 0, 4, 2])
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    plain = exact_interactions(halves(f), pairs)
    inverse = torch.from_numpy(np.argsort(order))
    moved = exact_interactions(halves(lambda z: f(z[:, inverse])), [order[list(p)] for p in pairs])
    np.testing.assert_allclose(moved.sii.value, plain.sii.value, atol=1e-12)
    np.testing.assert_allclose(moved.redundancy.value, plain.redundancy.value, atol=1e-12)


def test_symmetric_players_and_null_players():
    f = moebius({(0, 1, 3): 1.0, (0, 4): 0.5, (1, 4): 0.5, (3,): 2.0})
    game = halves(f)
    scores = exact_interactions(game, [(0, 3), (1, 3), (0, 4), (1, 4), (2, 3), (2, 5)])
    value = scores.sii.value
    assert value[0] == pytest.approx(value[1])
    assert value[2] == pytest.approx(value[3])
    assert value[4:].tolist() == [0.0, 0.0]
    assert scores.redundancy.value[4:].tolist() == [0.0, 0.0]


def test_all_heads_are_scored_from_one_table():
    game = halves(random_table(6, 2, heads=3))
    scores = exact_interactions(game.on("head 1"))
    assert scores.sii.heads == ("head 1", "head 0", "head 2")
    assert len(scores.sii) == 27
    assert game.evaluations == 64
    alone = exact_interactions(halves(lambda z: random_table(6, 2, heads=3)(z)[:, 1]))
    np.testing.assert_allclose(scores.sii.for_head("head 1").value, alone.sii.value)
    assert (scores.sii.standard_error == 0).all()
    assert (scores.sii.n_contexts == 16).all()


def test_too_many_players():
    with pytest.raises(InputError, match="at most 16 players"):
        exact_interactions(halves(all_of(0), 17))


def test_interaction_share_of_known_games():
    additive = interaction_share(halves(moebius({(0,): 1.0, (3,): -2.0})))
    assert (additive.main, additive.standard_error) == (pytest.approx(1.0), 0.0)
    assert additive.interactions == pytest.approx(0.0, abs=1e-12)
    parity = interaction_share(halves(odd_of(0, 3)))
    assert (parity.pairs, parity.main) == (pytest.approx(1.0), pytest.approx(0.0))
    # AND of two: 1/4 (1 + chi_i)(1 + chi_j): main effects two thirds, the pair one third.
    conjunction = interaction_share(halves(all_of(0, 3)))
    assert conjunction.interactions == pytest.approx(1 / 3)
    three = interaction_share(halves(odd_of(0, 3, 4)))
    assert three.higher == pytest.approx(1.0)
    assert np.isnan(interaction_share(halves(lambda z: torch.ones(len(z)))).interactions)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [200, 1000])
def test_the_estimated_share_is_unbiased_and_its_error_holds(budget):
    f, weights = random_table(12, 0), torch.from_numpy(np.random.default_rng(1).normal(size=12))
    game = halves(lambda z: z.double() @ weights + 0.3 * f(z)[:, 0], 12)
    truth = interaction_share(game).interactions
    shares = [interaction_share(game, budget, seed) for seed in range(200)]
    values = np.array([share.interactions for share in shares])
    errors = np.array([share.standard_error for share in shares])
    assert values.mean() == pytest.approx(truth, abs=3 * values.std() / np.sqrt(200))
    assert np.mean(np.abs(values - truth) < 1.96 * errors) >= 0.9
    assert errors.mean() == pytest.approx(values.std(), rel=0.25)


def test_the_estimated_share_keeps_its_budget():
    game = halves(moebius({(0,): 1.0, (10,): 1.0, (0, 10): 0.5}), 20)
    assert interaction_share(game, 301).evaluations == 300
    assert game.evaluations <= 300
    with pytest.raises(InputError, match="no budget"):
        interaction_share(game)
    with pytest.raises(InputError, match="at least 16"):
        interaction_share(game, 10)

"""The parts of screening: designs, regressions, the pursuit, and what surrogates say of pairs."""

from itertools import combinations

import numpy as np
import pytest
import torch

from fli2moe.explain import TokenGame, exact_interactions, shapley_interactions
from fli2moe.explain.probes.design import (
    Design,
    antithetic_groups,
    flipped,
    flips,
    modality_groups,
    products,
    see,
)
from fli2moe.explain.probes.kernel import KernelSurrogate
from fli2moe.explain.probes.pursuit import NOISE, heirs_of, strongest_triples, threshold
from fli2moe.explain.probes.regression import Regression
from fli2moe.explain.probes.screen import _antithetic, screen
from fli2moe.explain.probes.surrogate import SparseSurrogate, Surrogate, credibility, surrogate_game

from .games import Function, halves, moebius, planted, random_table, tanh_network

SPARSE = moebius({(0,): 1.0, (0, 5): 1.5, (1, 6): -1.0, (2, 3, 7): 0.8, (0, 1, 5, 8): -1.2})


def design_of(game: TokenGame, units: int, split: str = "antithetic", seed: int = 0) -> Design:
    generator = np.random.default_rng(seed)
    group = antithetic_groups(game) if split == "antithetic" else modality_groups(game)
    return see(game, generator.random((units, game.n_players)) < 0.5, group)


def three_modalities(f: Function) -> TokenGame:
    return TokenGame.from_callable(f, {"text": 3, "image": 3, "sound": 2})


@pytest.mark.parametrize("split", ["antithetic", "modalities"])
@pytest.mark.parametrize("modalities", [2, 3])
def test_the_parts_of_a_design_make_up_the_values_of_its_masks(modalities, split):
    f = random_table(8, 0, heads=2)
    game = halves(f, 8) if modalities == 2 else three_modalities(f)
    design = design_of(game, 7, split)
    n_groups = 1 if split == "antithetic" else modalities
    assert design.n_groups == n_groups
    assert len(design.parts) == len(flips(n_groups)) == 2**n_groups
    np.testing.assert_allclose(design.values(), game.heads(design.masks()), atol=1e-12)
    np.testing.assert_array_equal(design.masks()[: design.units], design.chi > 0)
    np.testing.assert_allclose(design.low, design.values().min(axis=0), atol=1e-12)
    np.testing.assert_allclose(design.high, design.values().max(axis=0), atol=1e-12)


@pytest.mark.parametrize("term", [(), (0,), (4,), (0, 1), (0, 4), (0, 4, 5), (0, 1, 4, 5)])
def test_a_term_is_in_the_part_of_its_parity_only(term):
    game = halves(lambda z: (2 * z[:, list(term)].double() - 1).prod(dim=1), 8)
    design = design_of(game, 16, "modalities")
    own = design.parity(term)
    assert own == (sum(p < 4 for p in term) % 2, sum(p >= 4 for p in term) % 2)
    for parity, part in design.parts.items():
        assert (np.abs(part).max() > 0.5) == (parity == own)


def test_flipping_twice_gives_the_masks_back():
    masks = np.random.default_rng(0).random((5, 6)) < 0.5
    group = np.array([0, 1, 0, 2, 1, 2])
    four = flipped(masks, group).reshape(8, 5, 6)
    np.testing.assert_array_equal(four[0], masks)
    np.testing.assert_array_equal(four[-1], ~masks)
    assert len(np.unique(four.reshape(-1, 6), axis=0)) > 5


@pytest.mark.parametrize("modalities", [2, 3])
def test_the_same_values_make_an_antithetic_design(modalities):
    f = random_table(8, 3, heads=2)
    game = halves(f, 8) if modalities == 2 else three_modalities(f)
    flat = _antithetic(design_of(game, 9, "modalities"))
    assert flat.n_groups == 1
    assert flat.units == 9 * 2 ** (modalities - 1)
    np.testing.assert_allclose(flat.values(), game.heads(flat.masks()), atol=1e-12)


def test_products_are_products():
    chi = np.where(np.random.default_rng(0).random((20, 6)) < 0.5, 1.0, -1.0).astype(np.float32)
    terms = [(), (2,), (0, 5), (1, 2, 3), (0, 1, 4, 5)]
    expected = np.stack([chi[:, list(t)].prod(axis=1) for t in terms], axis=1)
    np.testing.assert_array_equal(products(chi, terms), expected)
    assert products(chi, []).shape == (20, 0)


def _regression(constant: bool = True) -> tuple[Regression, np.ndarray, list[tuple[int, ...]]]:
    generator = np.random.default_rng(5)
    chi = np.where(generator.random((40, 7)) < 0.5, 1.0, -1.0).astype(np.float32)
    y = 1 + chi[:, 0] * chi[:, 1] + 0.5 * generator.normal(size=40)
    part = Regression(chi, y.astype(np.float64), constant)
    terms = [(0, 1), (2, 3), (1, 4, 5), (6,)]
    part.add(terms[:2])
    part.add(terms[2:])
    return part, y.astype(np.float64), [()] * constant + terms


@pytest.mark.parametrize("constant", [True, False])
def test_the_regression_is_least_squares(constant):
    part, y, terms = _regression(constant)
    x = products(part.chi, terms).astype(np.float64)
    expected, squares, *_ = np.linalg.lstsq(x, y, rcond=None)
    assert part.terms == terms
    np.testing.assert_allclose(part.coefficients, expected, atol=1e-6)
    np.testing.assert_allclose(part.residual, y - x @ expected, atol=1e-6)
    assert part.sigma == pytest.approx(float(np.sqrt(squares[0] / (40 - len(terms)))), rel=1e-6)
    errors = part.sigma * np.sqrt(np.diag(np.linalg.inv(x.T @ x)))
    np.testing.assert_allclose(part.t(), expected / errors, rtol=1e-5)
    kept = np.array([t in ((), (0, 1), (6,)) for t in terms])
    part.keep(kept)
    np.testing.assert_allclose(
        part.coefficients, np.linalg.lstsq(x[:, kept], y, rcond=None)[0], atol=1e-6
    )


def test_the_jackknife_is_a_refit_without_each_mask():
    part, y, terms = _regression()
    x = products(part.chi, terms).astype(np.float64)
    weights = np.random.default_rng(1).normal(size=(3, len(terms)))
    left_out = []
    for u in range(len(x)):
        rest = np.arange(len(x)) != u
        left_out.append(weights @ np.linalg.lstsq(x[rest], y[rest], rcond=None)[0])
    shifts = np.array(left_out) - weights @ part.coefficients
    expected = np.sqrt((len(x) - 1) / len(x) * (shifts**2).sum(axis=0))
    np.testing.assert_allclose(part.jackknife(weights), expected, rtol=1e-5)


@pytest.mark.parametrize("keep", [1, 2, 5, 500])
def test_the_strongest_triples_are_those_of_all_triples(keep):
    generator = np.random.default_rng(7)
    chi = np.where(generator.random((30, 20)) < 0.5, 1.0, -1.0).astype(np.float32)
    residual = generator.normal(size=30).astype(np.float32)
    sums = {t: float(residual @ chi[:, list(t)].prod(axis=1)) for t in combinations(range(20), 3)}
    triples, found = strongest_triples(chi, residual, keep)
    noise = NOISE * float(np.linalg.norm(residual))
    loud = [t for t in sorted(sums, key=lambda t: -abs(sums[t])) if abs(sums[t]) > noise]
    assert len(loud) > 8
    assert [tuple(t) for t in triples.tolist()] == loud[:keep]
    assert found.tolist() == pytest.approx([sums[t] for t in loud[:keep]], abs=1e-4)


def test_parities_of_many_terms_are_those_of_each():
    group = np.array([0, 0, 1, 1, 1, 2])
    nothing = np.zeros(0)
    design = Design(np.ones((1, 6), dtype=np.float32), group, {}, nothing, nothing)
    for order in (1, 2, 3, 4):
        terms = list(combinations(range(6), order))
        for parity in flips(3):
            expected = [design.parity(term) == parity for term in terms]
            assert design.have_parity(np.array(terms), parity).tolist() == expected


def test_what_found_terms_suggest():
    assert heirs_of([]) == set()
    assert heirs_of([(0,), (1,)]) == set()
    assert heirs_of([(0, 1)]) == set()
    assert heirs_of([(0, 1), (2, 3)]) == set()
    assert heirs_of([(0, 1), (1, 2)]) == {(0, 1, 2)}
    assert heirs_of([(0, 1, 2)]) == {(0, 1), (0, 2), (1, 2)}
    assert (0, 1, 2, 3) in heirs_of([(0, 1, 2), (0, 1, 3)])  # two triples that share a pair
    assert (0, 1, 2, 3) not in heirs_of([(0, 1, 2), (0, 4, 3)])
    tied = [(0, 1, 2), (0, 3), (1, 3)]  # player 3 is tied to two members
    assert (0, 1, 2, 3) in heirs_of(tied)
    assert (0, 1, 2, 3) not in heirs_of(tied[:2])
    four = heirs_of([(0, 1, 2, 3)])
    assert set(combinations(range(4), 2)) | set(combinations(range(4), 3)) == four


def test_more_candidates_need_a_larger_z():
    levels = [threshold(count) for count in (1, 10, 100, 10_000)]
    assert levels == sorted(levels)
    assert levels[0] > 0


def test_credibility_grows_with_size_and_spares_noise():
    generator = np.random.default_rng(0)
    z = np.concatenate([generator.normal(size=400), [8.0, -9.0, 5.0]])
    credit = credibility(z)
    assert ((credit >= 0) & (credit <= 1)).all()
    order = np.argsort(-np.abs(z))
    assert (np.diff(credit[order]) <= 0).all()
    assert (credit[400:] > 0.9).all()
    np.testing.assert_array_equal(credibility(-z), credit)
    noise = np.stack([credibility(generator.normal(size=400)) for _ in range(100)])
    assert (noise == 0).mean() > 0.8
    assert noise.mean() < 0.01


SURROGATES = ("sparse", "quadblock", "kernel")


def fitted(method: str, game: TokenGame, budget: int = 400, heads: int = 1) -> list[Surrogate]:
    found = screen(game, method, "asked for", budget, 0, game.head_names[:heads])
    assert found.evaluations <= budget
    return list(found.surrogates)


@pytest.mark.parametrize("law", ["shapley", "banzhaf"])
@pytest.mark.parametrize("method", SURROGATES)
def test_a_surrogate_knows_its_own_interactions(method, law):
    network = tanh_network(8, 0, heads=2)
    game = halves(lambda z: network(z) + SPARSE_8(z)[:, None], 8)
    surrogates = fitted(method, game, 200, heads=2)
    pairs = np.array(list(combinations(range(8), 2)))
    truth = exact_interactions(surrogate_game(game, surrogates), pairs, law).sii
    for name, surrogate in zip(game.head_names, surrogates, strict=True):
        own = truth.for_head(name).value
        np.testing.assert_allclose(surrogate.expected(pairs, law), own, atol=1e-9)
        assert np.abs(own).max() > 0.5


SPARSE_8 = moebius({(0, 4): 1.5, (1, 5): -1.0, (0, 1, 6): 0.8, (0, 1, 4, 7): -1.2})


@pytest.mark.parametrize("method", SURROGATES)
def test_a_game_of_few_terms_is_predicted_everywhere(method):
    game = halves(SPARSE, 10)
    surrogate = fitted(method, game, 600)[0]
    masks = np.random.default_rng(9).random((200, 10)) < 0.5
    truth = game(masks)
    wrong = surrogate.predict(masks) - truth
    assert np.mean(wrong**2) <= (1e-9 if method != "kernel" else 1e-2) * truth.var()
    if method == "kernel":  # it interpolates, up to the noise that it believes in
        seen = surrogate.design.masks()
        np.testing.assert_allclose(surrogate.predict(seen), game(seen), atol=0.02)
    assert surrogate.predict(masks[:0]).shape == (0,)


@pytest.mark.parametrize("kind", [SparseSurrogate, KernelSurrogate])
def test_a_constant_game_has_no_interactions(kind):
    game = halves(lambda z: torch.full((len(z),), 2.5), 8)
    surrogate = kind(design_of(game, 32), 0)
    pairs = np.array([(0, 4), (1, 5)])
    value, _ = surrogate.interactions(pairs, "shapley")
    np.testing.assert_allclose(value, 0.0, atol=1e-8)
    np.testing.assert_allclose(surrogate.backup_scores(), 0.0, atol=1e-8)
    np.testing.assert_allclose(surrogate.predict(np.ones((3, 8), dtype=np.bool_)), 2.5)


@pytest.mark.parametrize("kind", [SparseSurrogate, KernelSurrogate])
def test_backup_scores_are_largest_where_players_stand_in_for_each_other(kind):
    """Nothing ties players 2 and 6 together, though one of them counts; 0 and 4 are an OR."""
    either = moebius({(0,): 1.0, (4,): 1.0, (0, 4): -1.0, (2,): 0.7, (6, 3): 0.2})
    surrogate = kind(design_of(halves(either, 8), 150), 0)
    scores = surrogate.backup_scores()
    np.testing.assert_allclose(scores, scores.T, atol=1e-9)
    assert np.unravel_index(np.argmax(scores), scores.shape) == (0, 4)
    assert scores[0, 4] > 0.4
    assert scores[2, 6] < 0.01
    assert scores[3, 6] < 0.25


def recovery(seed: int, text: int, image: int, terms: int, budget: int, method: str):
    """(precision@k, NMSE) of the cross-modal pairs of a planted game."""
    game = planted(seed, text, image, terms)
    table = shapley_interactions(game.game(), budget, method, seed=seed)
    truth = game.sii()[table.first, table.second]
    k = int((truth != 0).sum())
    found = np.argsort(-np.abs(table.value), kind="stable")[:k]
    return float((truth[found] != 0).mean()), float(
        ((table.value - truth) ** 2).sum() / (truth**2).sum()
    )


@pytest.mark.parametrize("method", ["sparse", "quadblock"])
@pytest.mark.parametrize("seed", [101, 102, 103])
def test_a_planted_game_of_forty_players_is_recovered_from_500_evaluations(method, seed):
    precision, error = recovery(seed, 20, 20, 12, 500, method)
    assert precision >= 0.9
    assert error <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sparse", "quadblock"])
@pytest.mark.parametrize("seed", [201, 202])
def test_a_planted_game_of_260_players_is_recovered_from_2000_evaluations(method, seed):
    precision, error = recovery(seed, 64, 196, 36, 2000, method)
    assert precision >= 0.9
    assert error <= 0.02

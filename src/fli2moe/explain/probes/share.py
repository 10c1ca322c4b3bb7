"""How much of a game its interactions explain, and how much single players do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import InputError
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.exact import MOST_PLAYERS, value_table
from fli2moe.explain.probes.terms import Values

LEAST_MASKS = 8  # antithetic pairs: two folds of four
RIDGE = 1e-3  # of the mean diagonal: keeps the fit defined where masks are fewer than players


@dataclass(frozen=True)
class InteractionShare:
    """Shares of the variance of v(S) when each player is present with probability 1/2.

    Attributes:
        interactions: share of all orders from two on, 1 - main; NaN where v never varies. An
            estimate may fall outside [0, 1] by its error.
        main: share of the main effects.
        pairs: share of the pairs alone, of one modality or two.
        higher: share of the orders from three on.
        standard_error: of `interactions` (and `main`); 0 where exact.
        pairs_error, higher_error: standard errors of these two.
        evaluations: coalitions it rests on.
    """

    interactions: float
    main: float
    pairs: float
    higher: float
    standard_error: float
    pairs_error: float
    higher_error: float
    evaluations: int


def interaction_share(
    game: TokenGame, budget: int | None = None, seed: int = 0
) -> InteractionShare:
    """Returns which share of the variance of the game's head interactions explain.

    With at most 16 players, and a budget that allows it, exact: squared Walsh-Hadamard coefficients
    summed by order. Else estimated, from antithetic masks z and 1 - z at q = 1/2. Their half
    difference holds the odd orders, their half sum the even ones, which are all interactions. In
    the odd part a ridge fit on one fold of the masks predicts the main effects; on the other fold
    the residual r has E[r^2] = odd interactions + |beta - fit|^2, and |beta - fit|^2 is estimated
    without bias by the U-statistic of r chi_i over pairs of masks. Pairs are taken out of the even
    part likewise: a kernel ridge fit g of all products chi_i chi_j on one fold, and on the other
    |beta|^2 = 2 E[v g] - |g|^2 + |beta - g|^2. The folds change places; standard errors are
    delete-one jackknives over masks, z and 1 - z together, each fit held fixed. The estimator is
    ours; the even part is centred by its sample mean, a bias of the order of 1 / masks.

    Args:
        game: its head is scored.
        budget: evaluations to spend at most; None for exact.
        seed: of the masks.

    Raises:
        InputError: more than 16 players without a budget, or a budget below 16 for an estimate.
    """
    if game.n_players <= MOST_PLAYERS and (budget is None or budget >= 2**game.n_players):
        return _exact(game)
    if budget is None:
        found = f"{game.n_players} players and no budget"
        expected = f"at most {MOST_PLAYERS} players, or a budget"
        raise InputError("interaction_share", found, expected, "give a budget to estimate it")
    if budget < 2 * LEAST_MASKS:
        expected = f"at least {2 * LEAST_MASKS}"
        raise InputError("budget", f"{budget} evaluations", expected, "raise it")
    generator = np.random.default_rng(seed)
    units = budget // 2
    present = generator.random((units, game.n_players)) < 0.5
    values = game(np.concatenate([present, ~present]))
    chi: Values = np.where(present, 1.0, -1.0)  # (units, P)
    odd, even = (values[:units] - values[units:]) / 2, (values[:units] + values[units:]) / 2
    return _estimate(chi, odd, even)


def _exact(game: TokenGame) -> InteractionShare:
    values = value_table(game)
    table = values[:, game.head_names.index(game.head)]
    coefficients = walsh_hadamard(table)
    codes = np.arange(len(table))
    orders = np.zeros_like(codes)
    for p in range(game.n_players):
        orders += (codes >> p) & 1
    power = np.bincount(orders, coefficients**2)  # (P + 1,)
    variance = power[1:].sum()
    scale = np.abs(table).max()
    if variance <= (1e-12 * scale) ** 2:  # constant up to rounding
        return _constant(0.0, len(table))
    main, pairs = float(power[1] / variance), float(power[2] / variance)
    interactions, higher = float(power[2:].sum()), float(power[3:].sum())
    return InteractionShare(
        interactions / float(variance),
        main,
        pairs,
        higher / float(variance),
        0.0,
        0.0,
        0.0,
        len(table),
    )


def walsh_hadamard(table: Values) -> Values:
    """Returns (2^P,) the mean of v(S) times the product over i in T of chi_i, for every T."""
    out = table.copy()
    step = 1
    while step < len(out):
        pairs = out.reshape(-1, 2, step)
        absent, present = pairs[:, 0].copy(), pairs[:, 1].copy()
        pairs[:, 0], pairs[:, 1] = (absent + present) / 2, (present - absent) / 2
        step *= 2
    return out


def _estimate(chi: Values, odd: Values, even: Values) -> InteractionShare:
    units = len(odd)
    fold = np.arange(units) % 2 == 0
    variance = np.var(even, ddof=1) + np.mean(odd**2)
    if variance <= (1e-12 * max(np.abs(odd).max(), np.abs(even).max())) ** 2:
        return _constant(np.nan, 2 * units)
    centred = even - even.mean()
    odd_rest, pairs = _Power(units), _Power(units)
    for held in (fold, ~fold):
        fit = _ridge(chi[~held], odd[~held])
        odd_rest.add(held, *_odd_interactions(odd[held] - chi[held] @ fit, chi[held]))
        pairs.add(held, *_pair_power(chi, centred, held))
    deleted = _deleted_variance(even)
    whole = deleted + (np.sum(odd**2) - odd**2) / (units - 1)
    every = float(np.var(even, ddof=1)) + odd_rest.value
    without = deleted + odd_rest.without
    share, of_pairs = every / float(variance), pairs.value / float(variance)
    return InteractionShare(
        interactions=share,
        main=1.0 - share,
        pairs=of_pairs,
        higher=share - of_pairs,
        standard_error=_jackknife(without / whole),
        pairs_error=_jackknife(pairs.without / whole),
        higher_error=_jackknife((without - pairs.without) / whole),
        evaluations=2 * units,
    )


def _constant(error: float, evaluations: int) -> InteractionShare:
    """Of a game that never varies: nothing to share out."""
    nan = float("nan")
    return InteractionShare(nan, nan, nan, nan, error, error, error, evaluations)


class _Power:
    """A variance estimated on two folds in turn, and with each mask left out."""

    def __init__(self, units: int) -> None:
        self.value, self.without = 0.0, np.zeros(units)

    def add(self, held: NDArray[np.bool_], whole: float, without: Values) -> None:
        """Adds the estimate of one fold, weighted by its share of the masks."""
        weight = held.sum() / len(held)
        self.value += weight * whole
        self.without[held] += weight * without
        self.without[~held] += weight * whole


def _jackknife(without: Values) -> float:
    n = len(without)
    return float(np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2)))


def _pair_power(chi: Values, even: Values, held: NDArray[np.bool_]) -> tuple[float, Values]:
    """Sum of the squared coefficients of all pairs: on the held masks, and with each left out."""
    seen, here = chi[~held], chi[held]
    gram = _pair_kernel(seen, seen)
    ridge = np.mean(np.diag(gram)) * np.eye(len(seen))  # of the size of a mask's own kernel
    dual = np.linalg.solve(gram + ridge, even[~held])
    guess, known = _pair_kernel(here, seen) @ dual, float(dual @ gram @ dual)
    n, products = len(here), 2 * even[held] * guess
    residual, kernel = even[held] - guess, _pair_kernel(here, here)
    rows = residual * (kernel @ residual) - np.diag(kernel) * residual**2  # over the other masks
    whole = products.mean() - known + rows.sum() / (n * (n - 1))
    without = (products.sum() - products) / (n - 1) - known
    without = without + (rows.sum() - 2 * rows) / ((n - 1) * (n - 2))
    return float(whole), without


def _pair_kernel(a: Values, b: Values) -> Values:
    """(N, M) sum over i < j of chi_i chi_j chi'_i chi'_j."""
    kernel: Values = ((a @ b.T) ** 2 - a.shape[1]) / 2
    return kernel


def _ridge(chi: NDArray[np.float64], odd: Values) -> Values:
    """Least squares with a small ridge, in whichever of the two forms is smaller."""
    rows, players = chi.shape
    if rows >= players:
        gram = chi.T @ chi + RIDGE * rows * np.eye(players)
        return np.linalg.solve(gram, chi.T @ odd)
    kernel = chi @ chi.T + RIDGE * rows * np.eye(rows)
    weights: Values = chi.T @ np.linalg.solve(kernel, odd)
    return weights


def _odd_interactions(residual: Values, chi: Values) -> tuple[float, Values]:
    """E[r^2] minus the U-statistic of |E[r chi]|^2: over all masks, and with each left out."""
    n, players = chi.shape
    sums = residual @ chi  # (P,)
    own = residual**2 * players  # |r chi|^2, as |chi|^2 = P
    squares, length = np.sum(residual**2), sums @ sums
    whole = squares / n - (length - own.sum()) / (n * (n - 1))
    rest = length - 2 * residual * (chi @ sums) + own  # |sums without this mask|^2
    without = (squares - residual**2) / (n - 1)
    without = without - (rest - (own.sum() - own)) / ((n - 1) * (n - 2))
    return float(whole), without


def _deleted_variance(even: Values) -> Values:
    """Sample variance with each value left out."""
    n = len(even)
    deviation = even - even.mean()
    # Leaving x out moves the mean by deviation / (n - 1).
    left: Values = (np.sum(deviation**2) - deviation**2 * n / (n - 1)) / (n - 2)
    return left

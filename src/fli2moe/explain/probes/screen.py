"""Screening: a surrogate of every head from random masks, sparse or smooth as the game demands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import InputError
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.design import (
    Design,
    Parity,
    antithetic_groups,
    flips,
    modality_groups,
    see,
)
from fli2moe.explain.probes.kernel import KernelSurrogate
from fli2moe.explain.probes.surrogate import SparseSurrogate, Surrogate
from fli2moe.explain.probes.terms import Values
from fli2moe.explain.probes.threads import in_threads

LEAST_UNITS = 16  # masks, without their flips, that a surrogate is fitted to at least
MOST_FLIPPED = 3  # modalities that are flipped apart: 8 evaluations a mask
PILOT = 0.5  # of the screening budget: what the choice of a surrogate rests on
HELD_OUT = 0.25  # of the pilot's masks
MOST = {"sparse": 24_000, "quadblock": 24_000, "kernel": 3_000}
"""Evaluations that masks take at most: what is left audits more, and fitting stays a matter of
seconds, which for a Gaussian process grow with the cube of the masks."""
SCREENS = tuple(MOST)


@dataclass(frozen=True, eq=False)
class Screen:
    """What screening found.

    Attributes:
        method: one of `SCREENS`.
        reason: why that one.
        surrogates: one for each head of the game that was asked for.
        heads: their names.
        evaluations: coalitions that the surrogates rest on.
    """

    method: str
    reason: str
    surrogates: tuple[Surrogate, ...]
    heads: tuple[str, ...]
    evaluations: int


def screen(
    game: TokenGame, method: str, reason: str, budget: int, seed: int, heads: Sequence[str]
) -> Screen:
    """Fits a surrogate to each head, from at most `budget` evaluations.

    `sparse`: antithetic masks z and 1 - z, each player present with probability 1/2, and a sparse
    expansion. `quadblock`: every mask under all flips of whole modalities, so that main effects,
    within-modality and cross-modal interactions fall into different regressions; the same sparse
    expansion. `kernel`: antithetic masks, half of them with other probabilities than 1/2
    (stratified), and a Gaussian process. `auto`: a pilot of half of the budget, whose masks
    serve either way; the surrogate that predicts the even half (v(z) + v(1 - z)) / 2 of held-out
    masks of the pilot better is fitted to everything.

    Raises:
        InputError: when the budget is too small (says how many are needed), or `quadblock` has
            one modality, or more than three.
    """
    if method == "quadblock" and not _flippable(game):
        n_modalities = int(modality_groups(game).max()) + 1
        expected = f"two to {MOST_FLIPPED} modalities"
        raise InputError("quadblock", f"{n_modalities} modalities", expected, "use 'sparse'")
    needed = least_screening(game, method)
    if budget < needed:
        found, remedy = f"{budget} evaluations for screening", "raise it, or use 'monte_carlo'"
        raise InputError(f"budget of {method}", found, f"at least {needed}", remedy)
    columns = [game.head_names.index(head) for head in heads]
    generator = np.random.default_rng(seed)
    pilot: Design | None = None
    if method == "auto":
        split = modality_groups(game) if _flippable(game) else antithetic_groups(game)
        cost = len(flips(int(split.max()) + 1))
        units = max(LEAST_UNITS, int(PILOT * min(budget, MOST["kernel"])) // cost)
        pilot = see(game, _even_odds(units, game.n_players, generator), split)
        method, why = _better(pilot, columns[0], seed)
        reason = f"{reason}; {why}"
    design = _seen(game, method, min(budget, MOST[method]), pilot, generator)
    surrogates = _fit(method, design, columns, seed)
    evaluations = design.units * 2**design.n_groups
    return Screen(method, reason, surrogates, tuple(heads), evaluations)


def least_screening(game: TokenGame, method: str) -> int:
    """Returns the fewest evaluations that screening takes."""
    flipping = method in ("auto", "quadblock") and _flippable(game)
    n_groups = int(modality_groups(game).max()) + 1 if flipping else 1
    return int(LEAST_UNITS * 2**n_groups)


def _flippable(game: TokenGame) -> bool:
    return 1 < int(modality_groups(game).max()) + 1 <= MOST_FLIPPED


def _seen(
    game: TokenGame,
    method: str,
    budget: int,
    pilot: Design | None,
    generator: np.random.Generator,
) -> Design:
    """The masks of a method for a budget, those of the pilot among them."""
    n_players = game.n_players
    if method == "kernel":
        units = budget // 2
        if pilot is None:
            masks = _even_odds((units + 1) // 2, n_players, generator)
        else:
            masks = pilot.masks()[: pilot.units * 2 ** (pilot.n_groups - 1)]  # without complements
        rest = _stratified(units - len(masks), n_players, generator)
        return see(game, np.concatenate([masks, rest]), antithetic_groups(game))
    split = modality_groups(game) if method == "quadblock" else antithetic_groups(game)
    units = budget // len(flips(int(split.max()) + 1))
    masks = np.empty((0, n_players), dtype=np.bool_) if pilot is None else pilot.chi > 0
    rest = _even_odds(units - len(masks), n_players, generator)
    return see(game, np.concatenate([masks, rest]), split)


def _fit(method: str, design: Design, columns: Sequence[int], seed: int) -> tuple[Surrogate, ...]:
    """One surrogate for each column; the first one's hyperparameters start those of the others."""
    if method != "kernel":
        return tuple(in_threads(partial(SparseSurrogate, design), columns))
    first = in_threads(lambda column: KernelSurrogate(design, column, seed), columns[:1])[0]
    others = in_threads(lambda c: KernelSurrogate(design, c, seed, first), columns[1:])
    return (first, *others)


def _better(pilot: Design, head: int, seed: int) -> tuple[str, str]:
    """The surrogate that predicts held-out masks better, and by how much."""
    held = max(2, int(HELD_OUT * pilot.units))
    seen = _select(pilot, np.arange(pilot.units) >= held)
    test = _select(pilot, np.arange(pilot.units) < held)
    both = _antithetic(test)
    truth = both.parts[(0,)][:, head]
    makers: dict[str, Callable[[], Surrogate]] = {
        "sparse": lambda: SparseSurrogate(seen, head),
        "kernel": lambda: KernelSurrogate(_antithetic(seen), head, seed),
    }

    def missed(name: str) -> float:
        predicted = makers[name]().predict(both.masks()).reshape(2, -1).mean(axis=0)
        return float(np.mean((predicted - truth) ** 2))

    errors = dict(zip(makers, in_threads(missed, list(makers)), strict=True))
    spread = float(truth.var()) or 1.0
    fits = {name: 1 - error / spread for name, error in errors.items()}
    method = "kernel" if errors["kernel"] < errors["sparse"] else "sparse"
    if method == "sparse" and pilot.n_groups > 1:
        method = "quadblock"
    return method, (
        f"of the variance of held-out masks (even orders) a sparse expansion explains "
        f"{fits['sparse']:.2f}, a Gaussian process {fits['kernel']:.2f}"
    )


def _even_odds(units: int, n_players: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    return generator.random((units, n_players)) < 0.5


def _stratified(units: int, n_players: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Masks whose q is stratified over [0, 1/2]; their complements have 1 - q."""
    q = (np.arange(units) + generator.random(units)) / (2 * max(units, 1))
    return generator.random((units, n_players)) < q[:, None]


def _antithetic(design: Design) -> Design:
    """The same values as a design of antithetic masks."""
    masks = design.masks()
    half = len(masks) // 2
    values: Values = design.values()
    n_groups = design.n_groups
    block = values.reshape(2**n_groups, design.units, -1)
    first, second = block[: len(block) // 2], block[::-1][: len(block) // 2]  # complements
    flat = first.reshape(half, -1), second.reshape(half, -1)
    parts: dict[Parity, Values] = {(0,): (flat[0] + flat[1]) / 2, (1,): (flat[0] - flat[1]) / 2}
    chi = np.where(masks[:half], 1.0, -1.0).astype(np.float32)
    return Design(chi, np.zeros_like(design.group), parts, design.low, design.high)


def _select(design: Design, rows: NDArray[np.bool_]) -> Design:
    parts = {parity: part[rows] for parity, part in design.parts.items()}
    return Design(design.chi[rows], design.group, parts, design.low, design.high)

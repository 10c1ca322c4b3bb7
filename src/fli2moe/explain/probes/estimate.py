"""Pair scores of any game within a budget: the public functions and their estimators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.direct import DIRECT
from fli2moe.explain.probes.exact import MOST_PLAYERS, measure_exact
from fli2moe.explain.probes.laws import check_law
from fli2moe.explain.probes.monte_carlo import MONTE_CARLO
from fli2moe.explain.probes.pairs import Pairs, asked_heads, asked_pairs
from fli2moe.explain.probes.sampling import Request, Sampler
from fli2moe.explain.scores import Interactions, PairScores


@dataclass(frozen=True)
class Estimator:
    """How one method answers: SII and redundancy gap of the pairs of a request."""

    interactions: Callable[[TokenGame, Request], PairScores]
    gaps: Callable[[TokenGame, Request], PairScores]
    both: Callable[[TokenGame, Request], Interactions]


def shapley_interactions(
    game: TokenGame,
    budget: int,
    method: str = "auto",
    pairs: Pairs | None = None,
    contexts: str = "shapley",
    seed: int = 0,
    heads: Sequence[str] | None = None,
) -> PairScores:
    """Returns the Shapley interaction index of pairs of players, each with its standard error.

    SII = E[v(S+i+j) - v(S+i) - v(S+j) + v(S)] over the contexts' law (Grabisch and Roubens 1999;
    the full index, not half of it), in units of the game's score. Standard errors are those of
    `uncertainty.standard_error`, our definition; 0 means exact.

    Args:
        game: the game; all its heads are scored from the same evaluations.
        budget: most new evaluations of the model, never exceeded.
        method: `exact` (all coalitions, at most 16 players), `monte_carlo` (contexts shared by all
            pairs: 1 + players + pairs evaluations each), `direct` (four for each pair and context),
            or `auto`: exact where the budget pays for it, else monte_carlo.
        pairs: (m, 2) player indices, of one modality too; None for all cross-modal pairs.
        contexts: `shapley` (SII), `banzhaf` (each player present with probability 1/2) or `full`
            (everybody else present: one context, exact).
        seed: of the contexts; same seed and budget, same numbers, whatever the batch size or the
            cache, and `redundancy_gaps` then reuses every evaluation.
        heads: names of the heads that get rows; None for all, the game's own first.

    Raises:
        InputError: a budget too small (says how many are needed), an unknown name, pairs that
            cannot be, a game that returns NaN, a wrong shape or changing values.
    """
    request = _request(game, budget, method, pairs, contexts, seed, heads)
    return METHODS[request.method].interactions(game, request)


def redundancy_gaps(
    game: TokenGame,
    budget: int,
    method: str = "auto",
    pairs: Pairs | None = None,
    contexts: str = "shapley",
    seed: int = 0,
    heads: Sequence[str] | None = None,
) -> PairScores:
    """Returns the redundancy gap of pairs of players, each with its standard error.

    RG = E[1{ab > 0} max(0, min(|a|, |b|) - | sign(a) c - max(|a|, |b|) |)], our definition
    (design 3.6), with columns `positive` and `negative` (RG+ and RG-, by the sign of the evidence),
    `overlap` (rho, NaN where the pair shares nothing) and, where sampled, `positive_error`,
    `negative_error`, `overlap_error`.

    Args:
        game: as in `shapley_interactions`.
        budget: as in `shapley_interactions`.
        method: as in `shapley_interactions`.
        pairs: as in `shapley_interactions`.
        contexts: as in `shapley_interactions`.
        seed: as in `shapley_interactions`.
        heads: as in `shapley_interactions`.

    Raises:
        InputError: as in `shapley_interactions`.
    """
    request = _request(game, budget, method, pairs, contexts, seed, heads)
    return METHODS[request.method].gaps(game, request)


def pair_interactions(
    game: TokenGame,
    budget: int,
    method: str = "auto",
    pairs: Pairs | None = None,
    contexts: str = "shapley",
    seed: int = 0,
    heads: Sequence[str] | None = None,
) -> Interactions:
    """Returns the SII and the redundancy gap of the same pairs from the same evaluations.

    Arguments and errors are those of `shapley_interactions`; the tables equal those of the two
    functions called one after the other.
    """
    request = _request(game, budget, method, pairs, contexts, seed, heads)
    return METHODS[request.method].both(game, request)


def choose_method(n_players: int, budget: int, contexts: str) -> tuple[str, str]:
    """Returns the method that `auto` takes, and why."""
    needed = 2**n_players
    if contexts == "full":
        return "monte_carlo", "auto: one shared context is all there is to 'full'"
    if n_players > MOST_PLAYERS:
        return "monte_carlo", f"auto: {n_players} players, exact takes at most {MOST_PLAYERS}"
    if needed > budget:
        return "monte_carlo", f"auto: exact needs {needed} evaluations, the budget is {budget}"
    return "exact", f"auto: all {needed} coalitions of {n_players} players are within the budget"


def _request(
    game: TokenGame,
    budget: int,
    method: str,
    pairs: Pairs | None,
    contexts: str,
    seed: int,
    heads: Sequence[str] | None,
) -> Request:
    check_law(contexts)
    if method != "auto" and method not in METHODS:
        raise unknown_name("method", "method", method, ("auto", *METHODS))
    if budget < 1:
        raise InputError("budget", f"{budget} evaluations", "at least 1")
    wanted = asked_pairs(game, pairs)
    if isinstance(heads, str) or (heads is not None and not heads):
        raise InputError("heads", repr(heads), "a sequence of at least one head name")
    if game.heads_known:  # a wrong name is found before anything is spent
        asked_heads(game, heads)
    reason = "asked for"
    if method == "auto":
        method, reason = choose_method(game.n_players, budget, contexts)
    names = None if heads is None else tuple(heads)
    return Request(method, reason, wanted, contexts, int(budget), int(seed), names)


def _exact(game: TokenGame, request: Request) -> Interactions:
    needed = 2**game.n_players
    if game.n_players <= MOST_PLAYERS and request.budget < needed:
        found, remedy = f"{request.budget} evaluations", "raise it, or use method='monte_carlo'"
        raise InputError("budget of exact", found, f"at least {needed}", remedy)
    return measure_exact(game, request)


def _sampled(sampler: Sampler) -> Estimator:
    return Estimator(sampler.interactions, sampler.gaps, sampler.both)


METHODS: dict[str, Estimator] = {  # a new estimator is one module and one line here
    "exact": Estimator(
        lambda g, r: _exact(g, r).sii,
        lambda g, r: _exact(g, r).redundancy,
        lambda g, r: _exact(g, r),
    ),
    "monte_carlo": _sampled(MONTE_CARLO),
    "direct": _sampled(DIRECT),
}

"""Pair scores of any game within a budget: the public functions and their estimators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.direct import DIRECT
from fli2moe.explain.probes.exact import MOST_PLAYERS, measure_exact
from fli2moe.explain.probes.laws import check_law
from fli2moe.explain.probes.monte_carlo import MONTE_CARLO, shared_cost
from fli2moe.explain.probes.pairs import Pairs, asked_heads, asked_pairs
from fli2moe.explain.probes.race import Race
from fli2moe.explain.probes.raced import raced
from fli2moe.explain.probes.sampling import Request, Sampler
from fli2moe.explain.probes.screen import least_screening
from fli2moe.explain.probes.screened import screened
from fli2moe.explain.scores import Interactions, PairScores

MANY_CONTEXTS = 64  # of listed pairs: so many need no surrogate


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
    top: int | None = None,
    confidence: float = 0.95,
) -> PairScores:
    """Returns the Shapley interaction index of pairs of players, each with its standard error.

    SII = E[v(S+i+j) - v(S+i) - v(S+j) + v(S)] over the contexts' law (Grabisch and Roubens 1999;
    the full index, not half of it), in units of the game's score. Standard errors are those of
    `uncertainty.standard_error` for what was measured in contexts and those of
    `surrogate.SparseSurrogate` or `kernel.KernelSurrogate` for what was screened, our
    definitions; 0 means exact.

    Args:
        game: the game; all its heads are scored from the same evaluations.
        budget: most new evaluations of the model, never exceeded.
        method: `exact`: all coalitions, at most 16 players. `monte_carlo`: contexts shared by all
            pairs, 1 + players + pairs evaluations each. `direct`: four for each pair and context.
            `sparse`, `quadblock`, `kernel`: a surrogate learnt from random masks scores all pairs,
            and a shortlist is measured afresh (`screen.screen` says how they differ). `auto`:
            exact where the budget pays for it; monte_carlo where the pairs were listed and it
            pays for 64 contexts of them, or where it is too small for a surrogate; else whichever
            surrogate predicts held-out masks better. The result's settings say what was chosen
            and why.
        pairs: (m, 2) player indices, of one modality too; None for all cross-modal pairs.
        contexts: `shapley` (SII), `banzhaf` (each player present with probability 1/2) or `full`
            (everybody else present: one context, exact).
        seed: of everything random; same seed and budget, same numbers, whatever the batch size or
            the cache, and `redundancy_gaps` then reuses the evaluations.
        heads: names of the heads that get rows; None for all, the game's own first.
        top: stop when the `top` pairs of the first head are separated from all others at
            `confidence`, and measure no longer what surely is not among them (racing); the columns
            `rank_from` and `rank_to` bound each audited pair's rank. None spends the budget.
        confidence: that all separations hold together.

    Raises:
        InputError: a budget too small (says how many are needed), an unknown name, pairs that
            cannot be, a game that returns NaN, a wrong shape or changing values.
    """
    request = _request(
        game, budget, method, pairs, contexts, seed, heads, ("sii",), top, confidence
    )
    return ESTIMATORS[request.method].interactions(game, request)


def redundancy_gaps(
    game: TokenGame,
    budget: int,
    method: str = "auto",
    pairs: Pairs | None = None,
    contexts: str = "shapley",
    seed: int = 0,
    heads: Sequence[str] | None = None,
    top: int | None = None,
    confidence: float = 0.95,
) -> PairScores:
    """Returns the redundancy gap of pairs of players, each with its standard error.

    RG = E[1{ab > 0} max(0, min(|a|, |b|) - | sign(a) c - max(|a|, |b|) |)], our definition
    (design 3.6), with columns `positive` and `negative` (RG+ and RG-, by the sign of the evidence),
    `overlap` (rho, NaN where the pair shares nothing) and, where sampled, `positive_error`,
    `negative_error`, `overlap_error`. It is not linear in the game: where a surrogate screens, its
    own gaps are measured on it, and the pairs with the largest ones in the game; pairs that the
    surrogate says nothing of have no row.

    Args:
        game: as in `shapley_interactions`.
        budget: as in `shapley_interactions`.
        method: as in `shapley_interactions`.
        pairs: as in `shapley_interactions`.
        contexts: as in `shapley_interactions`.
        seed: as in `shapley_interactions`.
        heads: as in `shapley_interactions`.
        top: as in `shapley_interactions`.
        confidence: as in `shapley_interactions`.

    Raises:
        InputError: as in `shapley_interactions`.
    """
    readings = ("redundancy",)
    request = _request(
        game, budget, method, pairs, contexts, seed, heads, readings, top, confidence
    )
    return ESTIMATORS[request.method].gaps(game, request)


def pair_interactions(
    game: TokenGame,
    budget: int,
    method: str = "auto",
    pairs: Pairs | None = None,
    contexts: str = "shapley",
    seed: int = 0,
    heads: Sequence[str] | None = None,
    readings: Mapping[str, Sequence[str]] | None = None,
) -> Interactions:
    """Returns the SII and the redundancy gap of the same pairs from the same evaluations.

    Arguments and errors are those of `shapley_interactions`. Where nothing is screened, the tables
    equal those of the two functions called one after the other.

    Args:
        game: as in `shapley_interactions`.
        budget: as in `shapley_interactions`.
        method: as in `shapley_interactions`.
        pairs: as in `shapley_interactions`.
        contexts: as in `shapley_interactions`.
        seed: as in `shapley_interactions`.
        heads: as in `shapley_interactions`.
        readings: {`sii` or `redundancy`: heads} whose best pairs are audited after screening;
            None for both of all heads.

    Raises:
        InputError: as in `shapley_interactions`.
    """
    request = _request(game, budget, method, pairs, contexts, seed, heads, ("sii", "redundancy"))
    if readings is not None:
        for kind in readings:
            if kind not in READINGS:
                raise unknown_name("readings", "reading", kind, READINGS)
        request = replace(
            request, readings={k: tuple(asked_heads(game, h)) for k, h in readings.items()}
        )
    return ESTIMATORS[request.method].both(game, request)


def choose_method(
    n_players: int, budget: int, contexts: str, least: int = 0, listed_cost: int | None = None
) -> tuple[str, str]:
    """Returns what `auto` takes, and why; `auto` itself for a surrogate yet to be chosen.

    Args:
        n_players: P.
        budget: of evaluations.
        contexts: their law.
        least: evaluations that screening takes at least.
        listed_cost: of one context of the pairs, where they were listed one by one.
    """
    needed = 2**n_players
    if contexts == "full":
        return "monte_carlo", "auto: one shared context is all there is to 'full'"
    if n_players <= MOST_PLAYERS and needed <= budget:
        return (
            "exact",
            f"auto: all {needed} coalitions of {n_players} players are within the budget",
        )
    if n_players > MOST_PLAYERS:
        why = f"auto: {n_players} players, exact takes at most {MOST_PLAYERS}"
    else:
        why = f"auto: exact needs {needed} evaluations, the budget is {budget}"
    if listed_cost is not None and budget >= MANY_CONTEXTS * listed_cost:
        return "monte_carlo", f"{why}; the budget pays for {budget // listed_cost} contexts"
    if budget < least:
        return "monte_carlo", f"{why}; a surrogate takes {least} evaluations"
    return "auto", why


def _request(
    game: TokenGame,
    budget: int,
    method: str,
    pairs: Pairs | None,
    contexts: str,
    seed: int,
    heads: Sequence[str] | None,
    readings: Sequence[str],
    top: int | None = None,
    confidence: float = 0.95,
) -> Request:
    check_law(contexts)
    if method not in ESTIMATORS:
        raise unknown_name("method", "method", method, ("auto", *METHODS))
    if budget < 1:
        raise InputError("budget", f"{budget} evaluations", "at least 1")
    if seed < 0:
        raise InputError("seed", f"{seed}", "0 or more")
    if method in SCREENED and contexts == "full":
        raise InputError(f"contexts of {method}", "full", "shapley or banzhaf", "use 'monte_carlo'")
    if top is not None:
        Race(top, confidence)  # checks both
        if method == "direct":
            raise InputError(
                "top", "method direct", "contexts that pairs share", "use 'monte_carlo'"
            )
    wanted = asked_pairs(game, pairs)
    if isinstance(heads, str) or (heads is not None and not heads):
        raise InputError("heads", repr(heads), "a sequence of at least one head name")
    if game.heads_known:  # a wrong name is found before anything is spent
        asked_heads(game, heads)
    reason = "asked for"
    if method == "auto":
        listed = None if pairs is None else shared_cost(wanted)
        least = least_screening(game, "auto")
        method, reason = choose_method(game.n_players, budget, contexts, least, listed)
    names = None if heads is None else tuple(heads)
    return Request(
        method,
        reason,
        wanted,
        contexts,
        int(budget),
        int(seed),
        names,
        dict.fromkeys(readings, ()),
        top,
        confidence,
        pairs is not None,
    )


def _exact(game: TokenGame, request: Request) -> Interactions:
    needed = 2**game.n_players
    if game.n_players <= MOST_PLAYERS and request.budget < needed:
        found, remedy = f"{request.budget} evaluations", "raise it, or use method='monte_carlo'"
        raise InputError("budget of exact", found, f"at least {needed}", remedy)
    return measure_exact(game, request)


def _sampled(sampler: Sampler) -> Estimator:
    return Estimator(sampler.interactions, sampler.gaps, sampler.both)


def _both(function: Callable[[TokenGame, Request], Interactions]) -> Estimator:
    """An estimator that makes both tables at once."""
    return Estimator(
        lambda game, request: function(game, request).sii,
        lambda game, request: function(game, request).redundancy,
        function,
    )


def _monte_carlo() -> Estimator:
    plain, racing = _sampled(MONTE_CARLO), _both(raced)
    return Estimator(
        lambda g, r: (plain if r.top is None else racing).interactions(g, r),
        lambda g, r: (plain if r.top is None else racing).gaps(g, r),
        plain.both,
    )


READINGS = ("sii", "redundancy")
SCREENED = ("sparse", "quadblock", "kernel")
METHODS: dict[str, Estimator] = {  # a new estimator is one module and one line here
    "exact": _both(_exact),
    "monte_carlo": _monte_carlo(),
    "direct": _sampled(DIRECT),
    **dict.fromkeys(SCREENED, _both(screened)),
}
ESTIMATORS = {**METHODS, "auto": _both(screened)}
"""With `auto`, as far as it stands for a surrogate that is chosen while screening."""

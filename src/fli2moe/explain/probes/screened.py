"""Screen all pairs with a surrogate, measure the best ones afresh: `sparse`, `quadblock`, `kernel`.

Four fifths of the budget (half, in a race) go to the masks that the surrogate is fitted to, the
rest to the audit of a shortlist, if it pays for `audit.CONTEXTS` contexts of a few pairs; else all
goes to the masks. Rows of audited pairs (of all heads) hold what was measured, and the column
`audited` is 1 there; the other rows hold what the surrogate says.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np
from numpy.typing import NDArray

from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.audit import CONTEXTS, ENDS, Audit, audit
from fli2moe.explain.probes.guess import Guess, guess_gaps, known_terms
from fli2moe.explain.probes.monte_carlo import shared_cost
from fli2moe.explain.probes.pairs import asked_heads, with_heads
from fli2moe.explain.probes.sampling import Request
from fli2moe.explain.probes.screen import least_screening, screen
from fli2moe.explain.probes.surrogate import surrogate_game
from fli2moe.explain.probes.tables import Tables, race_of
from fli2moe.explain.probes.terms import Values
from fli2moe.explain.probes.threads import in_threads
from fli2moe.explain.scores import Interactions

AUDITED, RACED = 0.2, 0.5  # share of the budget for the audit, and where it is a race
MOST_AUDITED = 32  # pairs on a shortlist, unless the budget pays for `PLENTY` contexts of more
PLENTY = 64
LEAST_AUDITED = 4
CHECK = 3  # a check that the game is deterministic takes two, and names of heads, known or not, one


def screened(game: TokenGame, request: Request) -> Interactions:
    """Returns the SII and the redundancy gap of the request's pairs, the best ones audited.

    Raises:
        InputError: when the budget is too small for the masks.
    """
    before = game.evaluations + game.repeats
    names = 0 if game.heads_known else 1
    heads = asked_heads(game, request.heads)  # evaluates one coalition where they are not known
    seen = with_heads(game, heads)
    reserved = _reserved(game, request)
    left = request.budget - reserved
    checked = left >= least_screening(game, request.method) + CHECK
    spare = CHECK if checked else names
    found = screen(seen, request.method, request.reason, left - spare, request.seed, heads)
    if checked:
        game.check()
    generator = np.random.default_rng([request.seed, 1])
    sii = in_threads(lambda s: s.interactions(request.pairs, request.law), found.surrogates)
    values, errors = (np.stack(column, axis=1) for column in zip(*sii, strict=True))  # (m, H)
    stand_in = surrogate_game(seen, found.surrogates)
    gaps = guess_gaps(seen, found.surrogates, request, errors, generator)
    budget = request.budget - found.evaluations - spare if reserved else 0
    rows = _shortlist(request, heads, values, gaps, budget)
    audited: Audit | None = None
    if len(rows):
        pairs = request.pairs[rows]
        known = known_terms(stand_in, found.surrogates, pairs, request.law, errors[rows], generator)
        race = race_of(request, heads)
        audited = audit(seen, pairs, request.law, budget, generator, known, race)
    settings = {
        "method": found.method,
        "reason": found.reason,
        "evaluations": game.evaluations + game.repeats - before,
        "screening_evaluations": found.evaluations,
    }
    tables = Tables(game, request, heads, rows, audited, found.evaluations, settings)
    return Interactions(
        tables.make("SII", {"value": values, "standard_error": errors}),
        tables.make("redundancy_gap", gaps.columns, gaps.scored),
    )


def _reserved(game: TokenGame, request: Request) -> int:
    """Evaluations kept for the audit; 0 where that would measure too few pairs, or masks lack."""
    few = min(LEAST_AUDITED, len(request.pairs))
    reserved = int((AUDITED if request.top is None else RACED) * request.budget)
    enough = reserved >= CONTEXTS * (1 + 3 * few)
    left = request.budget - reserved - CHECK >= least_screening(game, request.method)
    return reserved if enough and left else 0


def _shortlist(
    request: Request, heads: Sequence[str], sii: Values, gaps: Guess, budget: int
) -> NDArray[np.int64]:
    """Rows of the pairs to audit: the best of every reading in turn, as many as can be paid for.

    For `sii` the largest values and the largest sizes take turns: what contradicts the target is
    worth knowing too. Pairs that were asked for one by one are all audited where possible.
    """
    rankings: list[NDArray[np.int64]] = []
    for kind, readers in request.readings.items():
        for head in readers or heads:
            h = heads.index(head)
            if kind == "sii":
                rankings += [_descending(sii[:, h]), _descending(np.abs(sii[:, h]))]
            else:
                ranked = _descending(gaps.columns["value"][:, h])
                rankings.append(ranked[gaps.scored[ranked, h]])
    turns = chain.from_iterable(zip_longest(*(r.tolist() for r in rankings)))
    order = list(dict.fromkeys(row for row in turns if row is not None))

    def affordable(count: int) -> bool:
        most = MOST_AUDITED if request.top is None else 2 * request.top + LEAST_AUDITED
        contexts = PLENTY if count > most and not request.listed else CONTEXTS
        return contexts * shared_cost(request.pairs[order[:count]]) + ENDS <= budget

    count = bisect_left(range(1, len(order) + 1), True, key=lambda n: not affordable(n))
    return np.array(sorted(order[:count]), dtype=np.int64)


def _descending(values: Values) -> NDArray[np.int64]:
    return np.argsort(-values, kind="stable")

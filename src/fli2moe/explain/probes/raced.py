"""A race without screening: all pairs in shared contexts, those that surely lost left out."""

from __future__ import annotations

import numpy as np

from fli2moe.errors import InputError
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.audit import audit
from fli2moe.explain.probes.measured import Measured
from fli2moe.explain.probes.monte_carlo import shared_cost
from fli2moe.explain.probes.pairs import asked_heads, with_heads
from fli2moe.explain.probes.sampling import Request
from fli2moe.explain.probes.tables import Tables, race_of
from fli2moe.explain.scores import Interactions

CHECK = 2  # evaluations of a check that the game is deterministic


def raced(game: TokenGame, request: Request) -> Interactions:
    """Returns both tables; every pair of the request is in the race at first.

    Raises:
        InputError: when the budget does not pay for two contexts of all pairs.
    """
    needed = 2 * shared_cost(request.pairs)
    if request.budget < needed:
        found, remedy = f"{request.budget} evaluations", "raise it, or use method='auto'"
        expected = f"at least {needed} for two contexts of {len(request.pairs)} pairs"
        raise InputError("budget of monte_carlo", found, expected, remedy)
    before = game.evaluations + game.repeats
    heads = asked_heads(game, request.heads)
    race = race_of(request, heads)
    generator = np.random.default_rng(request.seed)
    rows = np.arange(len(request.pairs))
    spare = CHECK if request.budget >= needed + CHECK else 0
    budget, seen = request.budget - spare, with_heads(game, heads)
    outcome = audit(seen, request.pairs, request.law, budget, generator, race=race)
    if spare:
        game.check()
    settings = {"evaluations": game.evaluations + game.repeats - before}
    tables = Tables(game, request, heads, rows, outcome, 0, settings)
    nothing = np.full((len(rows), len(heads)), np.nan)
    return Interactions(
        tables.make("SII", dict.fromkeys(("value", "standard_error"), nothing)),
        tables.make("redundancy_gap", dict.fromkeys(Measured.GAPS, nothing)),
    )

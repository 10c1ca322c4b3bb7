"""Fewer, larger players: blocks of patches and runs of words, as coarse as a budget demands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.game import TokenGame
from fli2moe.explain.players import cross_modal_pairs
from fli2moe.explain.probes.direct import DIRECT
from fli2moe.explain.probes.exact import MOST_PLAYERS
from fli2moe.explain.probes.monte_carlo import MONTE_CARLO
from fli2moe.explain.probes.sampling import affordable
from fli2moe.explain.probes.screen import SCREENS, least_screening
from fli2moe.tokens import Player

Groups = tuple[tuple[int, ...], ...]
SAMPLERS = {"monte_carlo": MONTE_CARLO, "direct": DIRECT}
CONTEXTS = 8  # fewest contexts that a grouping by budget aims for: four antithetic pairs
LEARNT = "their interactions can be learnt"
PER_PLAYER = 4  # evaluations for each player that a surrogate should rest on


@dataclass(frozen=True, eq=False)
class GroupedGame:
    """A game whose players were grouped until a budget sufficed.

    Attributes:
        game: with the players grouped; the given game itself where that was not needed.
        note: what was grouped and why, for the reader of the result; empty where nothing was.
    """

    game: TokenGame
    note: str


def blocks(
    players: Sequence[Player], max_pairs: int | None = None, max_players: int | None = None
) -> Groups:
    """Returns groups of players, as fine as the limits allow, in the order of their first members.

    Players with pixel boxes are joined into square blocks of g x g of the grid that their boxes
    form; others into runs of neighbours whose lengths differ by one at most. The modality with the
    most groups is made coarser, one step (g or the run's length) at a time.

    Args:
        players: of any number of modalities.
        max_pairs: most cross-modal pairs of groups.
        max_players: most groups in all.

    Raises:
        InputError: when one group per modality is still too much.
    """

    def fits(groups: Groups) -> bool:
        joined = [players[group[0]] for group in groups]  # modalities are all that counts here
        pairs = len(cross_modal_pairs(joined))
        return (max_pairs is None or pairs <= max_pairs) and (
            max_players is None or len(groups) <= max_players
        )

    groups = _coarsen(players, fits)
    if groups is None:
        found = f"at most {max_pairs} pairs" if max_pairs is not None else f"at most {max_players}"
        raise InputError("blocks", found, "room for one group per modality", "raise the limit")
    return groups


def group_to_budget(
    game: TokenGame,
    budget: int,
    method: str = "auto",
    contexts: str = "shapley",
    min_contexts: int = CONTEXTS,
) -> GroupedGame:
    """Groups players until the method can serve all cross-modal pairs within the budget.

    Args:
        game: with at least two modalities.
        budget: most new evaluations, as handed to the probe afterwards.
        method: of `shapley_interactions`. A sampler should see every pair in `min_contexts`
            contexts, a surrogate rest on `PER_PLAYER` evaluations a player, `exact` have all
            coalitions; `auto` either of the last two.
        contexts: their law; `full` needs a single one.
        min_contexts: contexts that every pair should be seen in.

    Raises:
        InputError: when one group per modality is still too much; says how many evaluations that
            takes.
    """
    fits = serves(game, budget, method, contexts, min_contexts)
    groups = _coarsen(game.players, fits)
    if groups is None:
        smallest = one_each(game.players)
        needed = next(
            n for n in count(1) if serves(game, n, method, contexts, min_contexts)(smallest)
        )
        expected = f"at least {needed} for one group per modality"
        raise InputError("budget", f"{budget} evaluations", expected, "raise the budget")
    if len(groups) == game.n_players:
        return GroupedGame(game, "")
    grouped = game.grouped(groups)
    sampled = method in SAMPLERS or contexts == "full"
    goal = _seen_in(1 if contexts == "full" else min_contexts) if sampled else LEARNT
    return GroupedGame(grouped, _note(game, grouped, budget, goal))


def one_each(players: Sequence[Player]) -> Groups:
    """Returns one group for each modality."""
    modalities = dict.fromkeys(player.modality for player in players)
    return tuple(
        tuple(p for p, player in enumerate(players) if player.modality == m) for m in modalities
    )


def serves(
    game: TokenGame,
    budget: int,
    method: str = "auto",
    contexts: str = "shapley",
    min_contexts: int = CONTEXTS,
) -> Callable[[Groups], bool]:
    """Returns whether a budget serves all cross-modal pairs of given groups of the players.

    Arguments and errors are those of `group_to_budget`.
    """
    methods = ("auto", "exact", *SAMPLERS, *SCREENS)
    if method not in methods:
        raise unknown_name("group_to_budget", "method", method, methods)
    if len({player.modality for player in game.players}) < 2:
        remedy = "list the pairs within the modality"
        raise InputError("group_to_budget", "players of one modality", "two modalities", remedy)
    least = 1 if contexts == "full" else min_contexts
    sampler = SAMPLERS.get(method, MONTE_CARLO if contexts == "full" else None)
    masks = 0 if method == "exact" else least_screening(game, method)

    def fits(groups: Groups) -> bool:
        if sampler is not None:
            pairs = cross_modal_pairs([game.players[group[0]] for group in groups])
            return affordable(sampler, pairs, budget) >= least
        small = method in ("auto", "exact") and len(groups) <= MOST_PLAYERS
        if small and 2 ** len(groups) <= budget:
            return True
        return bool(masks) and budget >= max(masks, PER_PLAYER * len(groups))

    return fits


def _coarsen(players: Sequence[Player], fits: Callable[[Groups], bool]) -> Groups | None:
    by_modality: dict[str, list[int]] = {}
    for p, player in enumerate(players):
        by_modality.setdefault(player.modality, []).append(p)
    step = dict.fromkeys(by_modality, 1)
    current: dict[str, Groups] = {
        m: tuple((p,) for p in members) for m, members in by_modality.items()
    }
    while True:
        groups = tuple(sorted(group for part in current.values() for group in part))
        if fits(groups):
            return groups
        largest = max(current, key=lambda m: len(current[m]))
        if len(current[largest]) == 1:
            return None
        step[largest] += 1
        current[largest] = _groups(players, by_modality[largest], step[largest])


def _groups(players: Sequence[Player], members: list[int], step: int) -> Groups:
    boxes = [players[p].spans for p in members]
    if all(len(spans) == 1 and len(spans[0]) == 4 for spans in boxes):
        return _squares(members, np.array([spans[0] for spans in boxes]), step)
    runs = np.array_split(np.array(members), -(-len(members) // step))
    return tuple(tuple(int(p) for p in run) for run in runs)


def _squares(members: list[int], boxes: NDArray[np.float64], step: int) -> Groups:
    """Blocks of step x step cells of the grid whose lines are the boxes' left and upper edges."""
    column = np.unique(boxes[:, 0], return_inverse=True)[1] // step
    row = np.unique(boxes[:, 1], return_inverse=True)[1] // step
    found: dict[tuple[int, int], list[int]] = {}
    for member, cell in zip(members, zip(row.tolist(), column.tolist(), strict=True), strict=True):
        found.setdefault(cell, []).append(member)
    return tuple(tuple(group) for group in found.values())


def _seen_in(least: int) -> str:
    contexts = f"{least} contexts" if least > 1 else "one context"
    return f"all cross-modal pairs are seen in at least {contexts}"


def _note(fine: TokenGame, coarse: TokenGame, budget: int, goal: str) -> str:
    parts = []
    for modality in dict.fromkeys(player.modality for player in fine.players):
        before = sum(player.modality == modality for player in fine.players)
        after = sum(player.modality == modality for player in coarse.players)
        if after < before:
            parts.append(f"{before} {modality} players into {after}")
    return f"grouped {' and '.join(parts)}, so that with {budget} evaluations {goal}"

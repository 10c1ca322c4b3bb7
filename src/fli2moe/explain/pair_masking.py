"""Does hiding a ranking's top pairs matter more than hiding others, and do they interact more?

v is a game, N everybody, D(X) = v(N) - v(N without X). Definitions are those of design 3.8; what
is ours there is ours here. Nothing here looks at how the pairs were ranked: give contexts that the
ranking has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fli2moe.errors import InputError
from fli2moe.explain.edge_swap import edge_swapped
from fli2moe.explain.game import TokenGame
from fli2moe.explain.probes.laws import draw_contexts
from fli2moe.explain.probes.monte_carlo import corners_in
from fli2moe.explain.probes.terms import Values, gap_terms

COUNTS = (1, 2, 5, 10, 20)
"""m, how many of the top pairs are hidden."""
TESTED = tuple(m for m in COUNTS if m > 1)
"""m of the comparison with edge-swapped pairs: a single pair has no partner to exchange."""
DRAWS = 10
"""Random sets of a control that are averaged."""
SWAPS = 4
"""Edge-swapped sets that are averaged, each measured in its own share of the contexts."""
PRIMARY = 10
"""m of the primary statistics; more pairs are measured in the first share of the contexts only."""
DISJOINT = 5
"""How many pairs of which no two share a player are compared beside the top ones (ours): the top
pairs are often a star around one player, which has no other partners to offer."""
CONTROLS = ("random_pairs", "same_players", "top_players")
"""(a) m random pairs; (b) random players, as many of each modality; (c) the top ones, likewise."""


@dataclass(frozen=True, eq=False)
class Hidden:
    """The players of the top m pairs hidden, and those of its controls; H heads.

    Attributes:
        values: {`ranked` or a control: (draws, H) v(N without X)}, one draw where nothing is drawn.
        block: (H,) B = D(T u I) - D(T) - D(I), T and I the members of the two modalities; NaN
            where the pairs are of three or more: B is of two blocks, whatever they are called
            (ours: the design speaks of text and image).
        top_block: (H,) the same of the top players.
        joint: (H,) D(T u I) of the ranked pairs.
        top_joint: (H,) the same of the top players.
        players: how many are hidden.
    """

    values: dict[str, Values]
    block: Values
    top_block: Values
    joint: Values
    top_joint: Values
    players: int


@dataclass(frozen=True, eq=False)
class Masking:
    """What hiding a ranking's pairs does.

    Attributes:
        whole: (H,) v(N).
        hidden: {m: what is left}; an m larger than the ranking is not there.
    """

    whole: Values
    hidden: dict[int, Hidden]


def mask_pairs(
    game: TokenGame,
    ranked: NDArray[np.int64],
    importance: NDArray[np.float64],
    generator: np.random.Generator,
    counts: Sequence[int] = COUNTS,
    draws: int = DRAWS,
) -> Masking:
    """Hides the members of the top pairs, and of the controls (a) to (c); every head is scored.

    The edge-swapped control hides the same players, so it has no place here: see `compare_pairs`.

    Args:
        game: of P players.
        ranked: (R, 2) cross-modal pairs, best first.
        importance: (P,) of single players, for control (c); NaN ranks last.
        generator: of the random controls.
        counts: the m.
        draws: of each random control.

    Raises:
        InputError: when `importance` has another shape.
    """
    if importance.shape != (game.n_players,):
        found = f"importance of shape {importance.shape}"
        raise InputError("mask_pairs", found, f"({game.n_players},)")
    modality: NDArray[np.str_] = np.array([player.modality for player in game.players])
    every, order = game.cross_modal_pairs(), np.argsort(-np.nan_to_num(importance, nan=-np.inf))
    plans: dict[int, dict[str, list[NDArray[np.int64]]]] = {}
    for m in counts:
        if m > len(ranked):
            continue
        members = np.unique(ranked[:m])
        kinds, sizes = np.unique(modality[members], return_counts=True)
        needed = dict(zip(kinds.tolist(), sizes.tolist(), strict=True))
        top = _first_of(order, modality, needed)
        plans[m] = {
            "ranked": [members],
            "random_pairs": [
                np.unique(every[generator.choice(len(every), min(m, len(every)), replace=False)])
                for _ in range(draws)
            ],
            "same_players": [
                _first_of(generator.permutation(game.n_players), modality, needed)
                for _ in range(draws)
            ],
            "top_players": [top],
            "blocks": [members[modality[members] == kind] for kind in needed],
            "top_blocks": [top[modality[top] == kind] for kind in needed],
        }
    sets = [x for plan in plans.values() for group in plan.values() for x in group]
    coalitions = np.ones((1 + len(sets), game.n_players), dtype=np.bool_)
    for row, members in enumerate(sets, start=1):
        coalitions[row, members] = False
    values = game.heads(coalitions)
    whole, left = values[0], iter(values[1:])
    hidden = {}
    for m, plan in plans.items():
        left_with: dict[str, Values] = {
            name: np.array([next(left) for _ in group]) for name, group in plan.items()
        }
        joint, top_joint = (whole - left_with[name][0] for name in ("ranked", "top_players"))
        hidden[m] = Hidden(
            {name: left_with[name] for name in ("ranked", *CONTROLS)},
            _block(whole, joint, left_with["blocks"]),
            _block(whole, top_joint, left_with["top_blocks"]),
            joint,
            top_joint,
            len(plan["ranked"][0]),
        )
    return Masking(whole, hidden)


def _first_of(
    order: NDArray[np.int64], modality: NDArray[np.str_], needed: dict[str, int]
) -> NDArray[np.int64]:
    """The first players in an order, so many of each modality."""
    chosen = [order[modality[order] == kind][:count] for kind, count in needed.items()]
    return np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)


def _block(whole: Values, joint: Values, parts: Values) -> Values:
    if len(parts) != 2:
        return np.full_like(whole, np.nan)
    block: Values = joint - (whole - parts[0]) - (whole - parts[1])
    return block


def disjoint_pairs(ranked: NDArray[np.int64], k: int = DISJOINT) -> NDArray[np.int64]:
    """Returns the first of ranked pairs (R, 2) of which no two share a player, at most k (ours)."""
    taken: set[int] = set()
    kept: list[int] = []
    for row, (i, j) in enumerate(ranked.tolist()):
        if len(kept) == k:
            break
        if i not in taken and j not in taken:
            kept.append(row)
            taken |= {i, j}
    return ranked[kept]


@dataclass(frozen=True, eq=False)
class Contrast:
    """Mean terms of the top m pairs and of edge-swapped ones in the same contexts; H heads.

    Attributes:
        interaction: (H,) mean Delta_S of the ranked pairs minus that of the swapped ones, these
            averaged over their draws.
        gap: (H,) the same of RG_S.
        ranked_interaction, ranked_gap: (H,) of the ranked pairs alone.
    """

    interaction: Values
    gap: Values
    ranked_interaction: Values
    ranked_gap: Values


def compare_pairs(
    game: TokenGame,
    rankings: Sequence[NDArray[np.int64]],
    n_contexts: int,
    generator: np.random.Generator,
    counts: Sequence[int] = TESTED,
    law: str = "shapley",
    swaps: int = SWAPS,
) -> list[dict[int, Contrast]]:
    """Compares each ranking's top m pairs with edge-swapped ones (design 3.8, primary statistics).

    The contexts are dealt out to as many draws of edge-swapped pairs (ours): averaging over those
    costs nothing, and ranked and swapped pairs are still measured in the same contexts. All pairs
    of all rankings share 1 + players + pairs evaluations in each. The m above `PRIMARY`, whose
    pairs would cost as much as all others, are measured in one share (ours).

    Args:
        game: of P players.
        rankings: (R, 2) cross-modal pairs each, best first.
        n_contexts: even, drawn in antithetic pairs.
        generator: of contexts and swaps.
        counts: the m.
        law: of the contexts.
        swaps: draws of edge-swapped pairs; no more than there are antithetic pairs of contexts.

    Returns:
        One dictionary by m for each ranking. An m for which there are too few pairs, or no swap, is
        not there: not 0.
    """
    contexts = draw_contexts(law, n_contexts, game.n_players, generator)
    units = max(1, len(contexts) // 2)
    sums: list[dict[int, list[Values]]] = [{} for _ in rankings]
    for share in range(min(swaps, units)):
        # Every so manieth antithetic pair: they are drawn by ascending q.
        of_share = contexts[np.arange(len(contexts)) // 2 % min(swaps, units) == share]
        now = [m for m in counts if m <= PRIMARY or share == 0]
        for number, m, terms in _share(game, rankings, of_share, generator, now):
            sums[number].setdefault(m, []).extend(terms)  # (4, H) of every context
    return [
        {m: Contrast(*np.mean(terms, axis=0)) for m, terms in of_ranking.items()}
        for of_ranking in sums
    ]


def _share(
    game: TokenGame,
    rankings: Sequence[NDArray[np.int64]],
    contexts: NDArray[np.bool_],
    generator: np.random.Generator,
    counts: Sequence[int],
) -> Iterator[tuple[int, int, Values]]:
    """Yields (ranking, m, (n, 4, H) of every context): differences, then the ranked pairs' own."""
    asked: list[tuple[int, int, NDArray[np.int64]]] = []  # ranking, m, its pairs and swapped ones
    for number, ranked in enumerate(rankings):
        for m in (m for m in counts if m <= len(ranked)):
            swapped = edge_swapped(ranked[:m], game.players, generator)
            if swapped is not None:
                asked.append((number, m, np.concatenate([ranked[:m], swapped])))
    if not asked:
        return
    pairs = np.unique(np.concatenate([each for _, _, each in asked]), axis=0)
    corners = corners_in(game, pairs, contexts)
    terms = corners.interaction, gap_terms(corners).gap  # (n, pairs, H)
    place = {pair: row for row, pair in enumerate(map(tuple, pairs.tolist()))}
    for number, m, each in asked:
        rows = [place[pair] for pair in map(tuple, each.tolist())]
        own, other = ([x[:, part].mean(axis=1) for x in terms] for part in (rows[:m], rows[m:]))
        gained = [a - b for a, b in zip(own, other, strict=True)]
        yield number, m, np.stack([*gained, *own], axis=1)

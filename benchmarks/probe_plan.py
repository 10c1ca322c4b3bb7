"""Which method is measured on which games, with which budgets and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from probe_cases import Case
from probe_games import Planted, planted
from probe_methods import PEERS
from probe_networks import network_14, network_full, two_tower

FIRST_SEED = 1000  # of games and methods; seeds 0 to 99 were developed on and are not reported
SEEDS = 5
CASES_14 = 8  # samples and labels of `network-14`
GAPS = 20  # pairs of largest redundancy gap to be found
SPARSE, MIXED, KERNEL = "sparse", "quadblock", "InconsistentKernelSHAPIQ"


@dataclass(frozen=True)
class Part:
    """Methods that share budgets; `seeds` is how many of the scenario's seeds they are run on."""

    methods: tuple[str, ...]
    budgets: tuple[int, ...]
    seeds: int


def _ours(budgets: tuple[int, ...], seeds: int = SEEDS) -> Part:
    return Part((SPARSE, MIXED, "auto"), budgets, seeds)


PLAN: dict[str, tuple[Part, ...]] = {
    "planted-260": (
        Part((SPARSE, "auto"), (500, 1000, 1250, 1500, 1750, 2000, 4000, 8000), SEEDS),
        Part((MIXED,), (1000, 1250, 1500, 1750, 2000, 4000, 8000), SEEDS),
        Part(("direct",), (50_180, 100_356, 200_708, 401_412, 802_820), SEEDS),
        Part(("monte_carlo",), (25_614, 102_420, 512_044), SEEDS),
        Part(("PermutationSamplingSII",), (4000, 50_176), SEEDS),
        Part((KERNEL, "KernelSHAPIQ"), (4000,), 1),
        Part(("ProxySPEX",), (2000, 4000), 2),
    ),
    "planted-40": (
        _ours((125, 250, 300, 375, 500, 1000, 2000)),
        Part(("direct",), (1600, 6400, 16_000, 32_000, 64_000), SEEDS),
        Part(("monte_carlo",), (886, 1768, 4414, 8824, 17_644), SEEDS),
        Part((KERNEL, "KernelSHAPIQ"), (500, 1000, 1500, 2000, 3000, 4000, 8000), SEEDS),
        Part(("PermutationSamplingSII", "SHAPIQ"), (500, 1000, 2000, 4000, 8000), SEEDS),
        Part(("SVARMIQ",), (2000,), 1),
        Part(("ProxySPEX",), (500, 1000, 2000, 4000), 3),
    ),
    "dense-260": (
        _ours((2000, 4000, 8000)),
        Part(("direct",), (50_180, 200_708, 802_820), 3),
        Part(("monte_carlo",), (25_614, 102_420), 3),
        Part(("ProxySPEX",), (4000,), 1),
    ),
    "dense-within-260": (
        _ours((2000, 4000, 8000)),
        Part(("direct",), (50_180, 200_708, 802_820), 3),
        Part(("monte_carlo",), (25_614, 102_420), 3),
        Part(("ProxySPEX",), (4000,), 1),
    ),
    "network-14": (
        _ours((200, 400, 800, 1600), CASES_14),
        Part(("kernel",), (200, 400, 800, 1600), CASES_14),
        Part(("direct", "monte_carlo"), (200, 400, 800, 1600), CASES_14),
        Part(PEERS[:-1], (200, 400, 800, 1600), CASES_14),
        Part(("ProxySPEX",), (200, 400, 1600), CASES_14),
    ),
    "network-full": (
        _ours((500, 1000, 2000, 4000)),
        Part(("kernel",), (500, 1000, 2000, 4000), SEEDS),
        Part(("direct", "monte_carlo"), (1000, 2000, 4000), SEEDS),
        Part((KERNEL, "KernelSHAPIQ", "PermutationSamplingSII"), (500, 1000, 2000, 4000), SEEDS),
        Part(("ProxySPEX",), (1000, 2000), 2),
    ),
    "two-tower": (
        _ours((500, 1000, 2000, 4000)),
        Part(("kernel",), (500, 1000, 2000, 4000), SEEDS),
        Part(("direct", "monte_carlo"), (1500, 2000, 4000), SEEDS),
        Part((KERNEL, "KernelSHAPIQ", "PermutationSamplingSII"), (500, 1000, 2000, 4000), SEEDS),
        Part(("ProxySPEX",), (1000, 2000), 2),
    ),
    "gaps-260": (
        Part((SPARSE, "auto"), (2000, 4000), SEEDS),
        Part(("monte_carlo",), (25_614, 102_420), SEEDS),
        Part(("direct",), (50_180, 200_708), SEEDS),
    ),
}
ABOUT = {
    "planted-260": "64 + 196 players, 36 AND, OR and XOR terms of 2 to 4 players, main effects",
    "planted-40": "20 + 20 players, 12 such terms",
    "dense-260": "planted-260, and every pair has a normal SII of standard deviation .02 beside",
    "dense-within-260": "planted-260, the same of .06 for every pair within a modality",
    "network-14": "the demo's mixture, 6 runs of words and 8 pairs of patches, exact truth",
    "network-full": "the demo's mixture, every word and each of 16 patches, against a long run",
    "two-tower": "a small CLIP with random weights, 12 words and 25 patches, against a long run",
    "gaps-260": "redundancy gaps of planted-260; the 20 largest are to be found",
}


def units(
    scenario: str, methods: list[str] | None = None, seeds: int | None = None
) -> Iterator[tuple[str, int, int]]:
    """Yields (method, budget, seed) of a scenario, the fast methods of it first."""
    for part in PLAN[scenario]:
        for method in part.methods:
            if methods is None or method in methods:
                for budget in part.budgets:
                    number = part.seeds if seeds is None else min(seeds, part.seeds)
                    for seed in range(FIRST_SEED, FIRST_SEED + number):
                        yield method, budget, seed


def case_maker(
    scenario: str, runs: Path, reference: int, seeds: int | None = None
) -> Callable[[int], Case]:
    """Returns what makes the case of a seed; networks are trained, long runs made, once.

    Args:
        scenario: its name.
        runs: folder of what is kept.
        reference: evaluations of a long run.
        seeds: the most seeds that will be asked for.
    """
    most = max(part.seeds for part in PLAN[scenario])
    number = most if seeds is None else min(most, seeds)
    folder = runs / "shapes"
    if scenario == "network-14":
        cases = network_14(folder, number)
    elif scenario == "network-full":
        cases = network_full(folder, number, reference)
    elif scenario == "two-tower":
        cases = two_tower(folder, number, reference)
    else:
        return lambda seed: planted_case(scenario, seed)
    return lambda seed: cases[seed - FIRST_SEED]


def planted_case(scenario: str, seed: int) -> Case:
    """A planted game; on a dense background as many pairs are wanted as terms were planted on."""
    if scenario == "planted-40":
        game = planted(seed, text=20, image=20, n_terms=12)
    elif scenario == "dense-260":
        game = planted(seed, within=0.02, across=0.02)
    elif scenario == "dense-within-260":
        game = planted(seed, within=0.06)
    else:
        game = planted(seed)
    sizes = {"text": game.text, "image": game.image}
    if scenario == "gaps-260":
        truth = game.gap_truth()
        return Case(sizes, lambda: game, truth, min(GAPS, int((truth > 0).sum())), "redundancy_gap")
    bare = Planted(game.text, game.image, game.terms, game.main, np.zeros_like(game.background))
    return Case(sizes, lambda: game, game.pair_truth(), int((bare.pair_truth() != 0).sum()))

"""Screened and raced probes: budgets, seeds, settings, and what they refuse."""

import json

import numpy as np
import pytest
import torch

from fli2moe.errors import InputError
from fli2moe.explain import (
    TokenGame,
    pair_interactions,
    redundancy_gaps,
    shapley_interactions,
)

from .games import (
    Counted,
    Function,
    added,
    all_of,
    any_of,
    halves,
    main_effects,
    moebius,
    planted,
    random_table,
    tanh_network,
)

SCREENS = ("sparse", "quadblock", "kernel", "auto")
PROBES = (shapley_interactions, redundancy_gaps, pair_interactions)
RICH = moebius({(0, 10): 1.5, (1, 11): -1.0, (2, 3, 12): 0.8, (4,): 1.0, (14,): -0.5, (1,): 1.0})
MIXED = added(RICH, any_of(5, 15), lambda z: 0.1 * tanh_network(20, 0)(z)[:, 0])
NOISE = torch.rand(20, generator=torch.Generator().manual_seed(0))
LEAST = {"sparse": 32, "quadblock": 64, "kernel": 32, "auto": 64}


def cheap(method: str) -> int:
    """A budget that pays for an audit and takes a fraction of a second to fit."""
    return 450 if method in ("kernel", "auto") else 700


def settings_of(found) -> dict:
    return (found if hasattr(found, "settings") else found.sii).settings


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("method", SCREENS)
@pytest.mark.parametrize("extra", [0, 1, 2, 3, 5, 60, 343, 344, 345])
def test_the_budget_is_never_exceeded(probe, method, extra):
    f = Counted(lambda z: MIXED(z)[:, None] * torch.tensor([1.0, -0.5]))
    budget = LEAST[method] + 1 + extra  # one more: the heads are not named
    found = probe(halves(f, 20), budget, method)
    assert f.rows <= budget
    settings = settings_of(found)
    assert settings["evaluations"] <= f.rows <= settings["evaluations"] + 1
    assert settings["screening_evaluations"] <= budget
    assert settings["budget"] == budget


@pytest.mark.parametrize("method", SCREENS)
@pytest.mark.parametrize("budget", [64, 130, 401, 650])
def test_the_budget_is_never_exceeded_in_three_modalities(method, budget):
    f = Counted(MIXED)
    players = {"text": 7, "image": 7, "sound": 6}
    game = TokenGame.from_callable(f, players, head_names=("score",))
    if method in ("quadblock", "auto") and budget < 128:
        if method == "quadblock":
            with pytest.raises(InputError, match="at least 128"):
                shapley_interactions(game, budget, method)
        return
    table = shapley_interactions(game, budget, method)
    assert table.settings["evaluations"] == f.rows <= budget
    assert len(table) == 7 * 7 + 7 * 6 + 7 * 6


@pytest.mark.parametrize("method", ["sparse", "kernel"])
@pytest.mark.parametrize("budget", [32, 100, 400, 600])
def test_one_modality_with_listed_pairs(method, budget):
    f = Counted(MIXED)
    game = TokenGame.from_callable(f, {"text": 20}, head_names=("score",))
    table = shapley_interactions(game, budget, method, pairs=[(0, 10), (1, 11), (6, 7)])
    assert table.settings["evaluations"] == f.rows <= budget
    assert len(table) == 3
    assert (table.columns["audited"] == (budget >= 400)).all()  # listed pairs are all audited
    if budget >= 400:
        assert abs(table.value[0] - 1.5) <= 3 * table.standard_error[0] + 1e-6


@pytest.mark.parametrize("budget", [96, 97, 98, 150, 400, 2000])
@pytest.mark.parametrize("top", [None, 2])
def test_the_budget_of_shared_contexts_is_never_exceeded(budget, top):
    f = Counted(random_table(12, 0))
    game = halves(f, 12, head_names=("score",))
    table = redundancy_gaps(game, max(budget, 98 if top else 49), "monte_carlo", top=top)
    assert table.settings["evaluations"] == f.rows <= max(budget, 98 if top else 49)


@pytest.mark.parametrize("method", SCREENS)
@pytest.mark.parametrize("top", [None, 2])
def test_same_seed_same_numbers_whatever_the_batch_size_the_cache_and_the_memory(method, top):
    f = added(MIXED)
    warm = halves(f, 20)
    warm(np.random.default_rng(0).random((3000, 20)) < 0.5)
    shapley_interactions(warm, 300, "sparse", seed=8)

    def short_of_memory(z: torch.Tensor) -> torch.Tensor:
        if len(z) > 40:
            raise torch.OutOfMemoryError("out of memory")
        return f(z)

    games = [halves(f, 20), halves(f, 20, batch_size=7), halves(short_of_memory, 20), warm]
    budget = cheap(method)
    tables = [shapley_interactions(g, budget, method, seed=4, top=top) for g in games]
    assert games[2].batch_size <= 40
    for table in tables[1:]:
        assert table.to_dataframe().equals(tables[0].to_dataframe())
        assert table.settings["method"] == tables[0].settings["method"]
    other = shapley_interactions(games[0], budget, method, seed=5, top=top)
    assert not other.to_dataframe().equals(tables[0].to_dataframe())


@pytest.mark.parametrize("method", SCREENS)
def test_another_seed_audits_in_other_contexts(method):
    tables = [redundancy_gaps(halves(MIXED, 20), cheap(method), method, seed=s) for s in (0, 1)]
    rows = [
        {
            (int(i), int(j)): v
            for i, j, v, a in zip(t.first, t.second, t.value, t.columns["audited"], strict=True)
            if a
        }
        for t in tables
    ]
    both = set(rows[0]) & set(rows[1])
    assert both
    assert any(rows[0][pair] != rows[1][pair] for pair in both)


@pytest.mark.parametrize("method", SCREENS)
def test_the_gap_reuses_the_masks_of_the_interaction(method):
    f = Counted(MIXED)
    game = halves(f, 20, head_names=("score",))
    budget = cheap(method)
    first = shapley_interactions(game, budget, method, seed=2)
    before = f.rows
    second = redundancy_gaps(game, budget, method, seed=2)
    audit = budget - first.settings["screening_evaluations"]
    assert f.rows - before == second.settings["evaluations"] <= audit
    again = redundancy_gaps(game, budget, method, seed=2)
    assert again.settings["evaluations"] == 0
    assert again.to_dataframe().equals(second.to_dataframe())


@pytest.mark.parametrize("method", SCREENS)
def test_heads_come_from_the_same_evaluations(method):
    f = Counted(lambda z: torch.stack([RICH(z), all_of(3, 13)(z) + RICH(z)], dim=1))
    game = halves(f, 20, head_names=("one", "two"))
    table = shapley_interactions(game, cheap(method), method)
    assert f.rows <= cheap(method)
    assert table.heads == ("one", "two")
    assert len(table) == 200
    for head, pair in (("one", (0, 10)), ("two", (3, 13))):
        part = table.for_head(head)
        row = int(np.flatnonzero((part.first == pair[0]) & (part.second == pair[1]))[0])
        truth = 1.5 if head == "one" else 1.0
        assert part.value[row] == pytest.approx(truth, abs=0.1 if method != "kernel" else 0.5)
    np.testing.assert_array_equal(  # a pair that was audited was audited for both
        table.for_head("one").columns["audited"], table.for_head("two").columns["audited"]
    )
    swapped = shapley_interactions(halves(f.f, 20, head_names=("one", "two")).on("two"), 700)
    assert swapped.heads == ("two", "one")


def test_a_gap_that_nothing_is_known_of_has_no_row():
    """Every pair shares a term with every other here, and only some are measured."""
    network = tanh_network(40, 0)
    game = halves(lambda z: network(z)[:, 0], 40)
    table = redundancy_gaps(game, 500, "kernel")
    assert 128 <= len(table) < 400
    assert not np.isnan(table.value).any()
    frame = table.to_dataframe()
    assert not frame.duplicated(["first", "second"]).any()
    full = shapley_interactions(game, 500, "kernel")
    assert len(full) == 400


@pytest.mark.parametrize("method", SCREENS)
def test_settings_say_how(method):
    found = pair_interactions(halves(MIXED, 20), 600, method)
    for table in (found.sii, found.redundancy):
        settings = table.settings
        assert json.loads(json.dumps(settings, allow_nan=False)) == settings
        assert settings["method"] in ("sparse", "quadblock", "kernel")
        assert method in (settings["method"], "auto")
        assert 0 < settings["screening_evaluations"] < settings["evaluations"] <= 600
        assert settings["fit"]["score"] <= 1.0
        assert settings["audited_pairs"] == int(table.columns["audited"].sum())
        if method != "auto":
            assert settings["reason"] == "asked for"
            assert settings["fit"]["score"] > 0.8


def test_settings_are_json_where_nothing_varies_too():
    """Nine copies and more: the contexts of an audit may never differ."""
    for f in (any_of(*range(18)), lambda z: torch.ones(len(z))):
        settings = shapley_interactions(halves(f, 24), 600, "sparse").settings
        json.dumps(settings, allow_nan=False)


def _quadratic(seed: int, n: int = 24) -> Function:
    """tanh of a random quadratic form: many small interactions of all even orders."""
    form = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, n)) / n)
    main = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=n) / np.sqrt(n))

    def f(z: torch.Tensor) -> torch.Tensor:
        chi = 2 * z.double() - 1
        return torch.tanh(((chi @ form) * chi).sum(dim=1) + chi @ main)

    return f


@pytest.mark.parametrize("seed", [0, 1])
def test_auto_takes_a_process_for_a_smooth_game_and_an_expansion_for_a_sparse_one(seed):
    smooth = shapley_interactions(halves(_quadratic(seed), 24), 600).settings
    assert smooth["method"] == "kernel"
    game = planted(seed, 12, 12, 6)
    sparse = shapley_interactions(game.game(), 600).settings
    assert sparse["method"] == "quadblock"
    one = TokenGame.from_callable(game, {"text": 24})
    alone = shapley_interactions(one, 600, pairs=[(i, j) for i in range(9) for j in range(9, 24)])
    assert alone.settings["method"] == "sparse"
    for settings in (smooth, sparse, alone.settings):
        assert "24 players, exact takes at most 16" in settings["reason"]
        assert "a sparse expansion explains" in settings["reason"]


def test_auto_measures_listed_pairs_where_the_budget_pays_for_that():
    table = shapley_interactions(halves(MIXED, 20), 64 * 4 + 4, pairs=[(0, 10)])
    assert table.settings["method"] == "monte_carlo"
    assert "65 contexts" in table.settings["reason"]
    assert table.n_contexts.tolist() == [64]


@pytest.mark.parametrize(
    ("method", "budget", "message"),
    [
        ("sparse", 31, "budget of sparse: 31 evaluations for screening; expected at least 32"),
        ("kernel", 31, "budget of kernel: 31 evaluations for screening; expected at least 32"),
        ("quadblock", 63, "at least 64"),
        ("auto", 60, "at least 121 for one context of 100 pairs"),
    ],
)
def test_too_small_a_budget_says_how_many_are_needed(method, budget, message):
    game = halves(MIXED, 20, head_names=("score",))
    with pytest.raises(InputError, match=message):
        shapley_interactions(game, budget, method)
    assert game.evaluations == 0


def test_quadblock_needs_modalities_to_flip():
    game = TokenGame.from_callable(MIXED, {"text": 20}, head_names=("score",))
    with pytest.raises(InputError, match="1 modalities; expected two to 3") as caught:
        shapley_interactions(game, 500, "quadblock", pairs=[(0, 1)])
    assert "use 'sparse'" in str(caught.value)


@pytest.mark.parametrize("method", SCREENS)
@pytest.mark.parametrize(
    ("f", "options", "message"),
    [
        (lambda z: z.sum(1) / 0, {}, "inf in row"),
        (lambda z: z[:, 0] * float("nan"), {}, "nan in row"),
        (lambda z: z[:, :3].double(), {}, r"values of shape \(\d+, 3\)"),
        (lambda z: z[1:, 0].double(), {}, "values of shape"),
        (
            lambda z: torch.dropout(z * NOISE, 0.5, True).sum(1),
            {},
            "the same coalition gave",
        ),
        (MIXED, {"pairs": [(0, 10), (10, 0)]}, r"\(0, 10\) given twice"),
        (MIXED, {"pairs": [(0, 20)]}, "player 20"),
        (MIXED, {"heads": ["nobody"]}, "unknown head 'nobody'"),
        (MIXED, {"seed": -1}, "seed: -1"),
        (MIXED, {"contexts": "shapely"}, "did you mean 'shapley'"),
        (MIXED, {"top": 0}, "top: 0"),
        (MIXED, {"top": 2, "confidence": 1.0}, "confidence: 1.0"),
        (MIXED, {"top": 2, "confidence": 0.4}, "confidence: 0.4"),
    ],
)
def test_bad_input_is_one_clear_line(method, f, options, message):
    torch.manual_seed(0)
    game = halves(f, 20, head_names=("score",))
    with pytest.raises(InputError, match=message) as caught:
        shapley_interactions(game, **{"budget": 450, "method": method, **options})
    assert "\n" not in str(caught.value)


def test_one_player_is_no_game():
    with pytest.raises(InputError, match=r"1 player\(s\); expected at least two"):
        TokenGame.from_callable(MIXED, {"text": 1})


@pytest.mark.parametrize("method", ["sparse", "quadblock", "kernel"])
def test_the_full_context_is_not_screened(method):
    with pytest.raises(InputError, match="use 'monte_carlo'"):
        shapley_interactions(halves(MIXED, 20), 500, method, contexts="full")


CLEAR = added(
    all_of(0, 10), lambda z: 0.8 * all_of(1, 11)(z), main_effects(np.linspace(-0.2, 0.2, 20))
)
RACERS = [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)]


@pytest.mark.parametrize("method", ["monte_carlo", "sparse", "quadblock"])
def test_a_race_with_clear_winners_stops_early(method):
    budget = 3000 if method == "monte_carlo" else 4000
    f = Counted(CLEAR)
    game = halves(f, 20, head_names=("score",))
    pairs = RACERS if method == "monte_carlo" else None
    table = shapley_interactions(game, budget, method, pairs, top=2)
    race = table.settings["race"]
    assert race["settled"] is True
    assert (race["top"], race["confidence"]) == (2, 0.95)
    assert f.rows == table.settings["evaluations"]
    patient = shapley_interactions(halves(CLEAR, 20), budget, method, pairs)
    assert f.rows < patient.settings["evaluations"]
    assert f.rows < 0.5 * budget or method != "monte_carlo"  # else most of it is screening
    ranks = {
        (int(i), int(j)): (low, high)
        for i, j, low, high in zip(
            table.first,
            table.second,
            table.columns["rank_from"],
            table.columns["rank_to"],
            strict=True,
        )
    }
    assert ranks[0, 10][0] <= 1 <= ranks[0, 10][1] <= 2
    assert ranks[1, 11][0] <= 2 <= ranks[1, 11][1] <= 2
    others = [r for pair, r in ranks.items() if pair not in RACERS[:2] and not np.isnan(r[0])]
    assert others
    assert all(low == 3 for low, _ in others)


def test_a_race_of_gaps_stops_early():
    f = added(any_of(0, 10), lambda z: 0.5 * any_of(1, 11)(z))
    table = redundancy_gaps(halves(f, 20), 3000, "monte_carlo", RACERS, top=1)
    assert table.settings["race"]["settled"] is True
    assert table.settings["evaluations"] < 3000
    assert table.columns["rank_to"][0] == 1


@pytest.mark.parametrize("method", ["monte_carlo", "sparse"])
def test_a_race_of_equals_is_never_settled(method):
    f = added(*(all_of(i, i + 10) for i in range(5)))
    pairs = RACERS if method == "monte_carlo" else None
    for seed in range(5):
        table = shapley_interactions(halves(f, 20), 900, method, pairs, seed=seed, top=2)
        assert table.settings["race"]["settled"] is False
        if method == "monte_carlo":  # 16 evaluations a context, 4 beside them
            assert table.n_contexts.tolist() == [56] * 5
            assert (table.columns["rank_from"] == 1).all()
            assert (table.columns["rank_to"] == 5).all()
        else:
            assert table.settings["evaluations"] > 0.8 * 900


@pytest.mark.slow
@pytest.mark.parametrize("term", ["interaction", "gap"])
def test_a_settled_race_is_wrong_in_at_most_one_of_twenty(term):
    """Close contenders in a noisy game: the best two of six pairs, by the exact scores."""
    noise = random_table(12, 3)
    probe = shapley_interactions if term == "interaction" else redundancy_gaps
    kind = all_of if term == "interaction" else any_of
    weights = (1.0, 0.9, 0.7, 0.6, 0.5, 0.4)
    parts = [lambda z, k=k, w=w: w * kind(k, k + 6)(z) for k, w in enumerate(weights)]
    f = added(*parts, lambda z: 0.15 * noise(z)[:, 0])
    game = halves(f, 12, head_names=("score",), batch_size=4096)
    pairs = [(k, k + 6) for k in range(6)]
    truth = probe(game, 4096, "exact", pairs).value
    best = set(np.argsort(-truth)[:2].tolist())
    settled = wrong = outside = 0
    for seed in range(200):
        table = probe(game, 4000, "monte_carlo", pairs, seed=seed, top=2)
        if table.settings["race"]["settled"]:
            settled += 1
            wrong += set(np.argsort(-table.value)[:2].tolist()) != best
        ranks = np.argsort(np.argsort(-truth)) + 1
        low, high = table.columns["rank_from"], table.columns["rank_to"]
        outside += not ((low <= ranks) & (ranks <= high)).all()
    assert settled >= 50
    assert wrong <= 0.05 * settled
    assert outside <= 10


def test_a_race_needs_contexts_that_pairs_share():
    with pytest.raises(InputError, match="method direct"):
        shapley_interactions(halves(MIXED, 20), 500, "direct", RACERS, top=2)
    with pytest.raises(InputError, match="at least 32 for two contexts of 5 pairs"):
        shapley_interactions(halves(MIXED, 20), 31, "monte_carlo", RACERS, top=2)


@pytest.mark.parametrize("method", ["exact", "auto"])
def test_where_all_is_known_a_race_is_over_before_it_starts(method):
    f = added(all_of(0, 4), lambda z: 0.5 * all_of(1, 5)(z))
    table = shapley_interactions(halves(f, 8), 256, method, top=1)
    assert table.settings["method"] == "exact"
    assert not table.standard_error.any()
    assert np.argmax(table.value) == 0

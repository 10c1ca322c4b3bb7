import json
import math
import tracemalloc
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from fli2moe.errors import InputError
from fli2moe.explain import Explanation, GlobalView, PairScores, global_view
from fli2moe.tokens import Player

HEADS = ("mixture", "synergy")
SIZES = {"image": (90, 90), "poster": (90, 90)}


def word(name, modality="text"):
    return Player(modality, (0,), ((0, 1),), name)


def box(x, y, modality="image", size=30):
    return Player(modality, (0,), ((x, y, x + size, y + size),), f"patch ({x}, {y})")


TOP, LOW = box(0, 0), box(60, 60)


def made(rows, sample="a", target="dog", heads=HEADS, **changes):
    """Rows are (player, player, value), then optionally error, audited, head."""
    rows = [(*row, *(0.0, 0.0, "mixture")[len(row) - 3 :]) for row in rows]
    players = tuple(dict.fromkeys(p for row in rows for p in row[:2]))
    column = {i: np.array([row[i] for row in rows], dtype=float) for i in (2, 3, 4)}
    table = PairScores(
        "SII",
        players,
        np.array([players.index(row[0]) for row in rows], dtype=np.int64),
        np.array([players.index(row[1]) for row in rows], dtype=np.int64),
        tuple(row[5] for row in rows),
        column[2],
        column[3],
        np.full(len(rows), 8),
        {"audited": column[4]},
    )
    values = {
        "sample_id": sample,
        "target": target,
        "class_index": 0,
        "task": "multilabel",
        "classes": ("dog", "cat"),
        "probabilities": (0.9, 0.8),
        "heads": heads,
        "expert_weights": {"synergy": 1.0},
        "expert_shares": {"synergy": 1.0},
        "attribution": "random",
        "token_scores": {},
        "players": players,
        "pairs": {"synergy": table},
        "inputs": {},
        "sizes": SIZES,
        **changes,
    }
    return Explanation(**values)


def frame(view):
    names = view.settings["by"]
    return {tuple(r[n] for n in names): r for r in view.to_dataframe().to_dict("records")}


def test_sums_within_and_means_between_explanations():
    first = made([(word("Red,"), TOP, 1.0, 0.3, 1), (word("red"), TOP, 2.0, 0.4)], "a")
    second = made([(word("RED"), TOP, 5.0), (word("red"), LOW, 7.0)], "b")
    third = made([(word("blue"), TOP, 100.0)], "c")
    view = global_view([first, second, third], least=1)
    rows = frame(view)
    assert set(rows) == {("red", "top left"), ("red", "bottom right"), ("blue", "top left")}
    row = rows["red", "top left"]
    assert (row["mean"], row["n"]) == ((1 + 2 + 5) / 2, 2)
    assert row["measurement_error"] == pytest.approx(0.5 / 2)
    assert row["audited"] == pytest.approx(1 / 3)
    assert 3.0 == row["low"] <= row["mean"] <= row["high"] == 5.0
    alone = rows["red", "bottom right"]
    assert (alone["mean"], alone["n"], alone["audited"]) == (7.0, 1, 0.0)
    assert math.isnan(alone["low"])
    assert math.isnan(alone["high"])
    assert view.settings["samples"] == 3


def test_a_missing_pair_is_not_a_zero():
    rows = [(word("red"), TOP, 4.0), (word("red"), LOW, np.nan)]
    view = global_view([made(rows, "a"), made(rows, "b"), made([], "c")])
    assert view.keys == (("red", "top left"),)
    assert view.mean.tolist() == [4.0]
    assert view.n.tolist() == [2]
    assert (view.settings["explanations"], view.settings["pairs"]) == (3, 2)
    assert global_view([made(rows, "a"), made(rows, "b"), made([], "c", pairs={})]) == view


def test_rare_keys_are_left_out_and_counted():
    many = [made([(word("red"), TOP, 1.0), (word(f"w{i}"), TOP, 1.0)], str(i)) for i in range(3)]
    view = global_view(many, least=3)
    assert view.keys == (("red", "top left"),)
    assert view.left_out == 3
    nothing = global_view(many, least=4)
    assert (len(nothing), nothing.left_out, nothing.top(3)) == (0, 4, [])
    assert list(nothing.to_dataframe().columns[:3]) == ["word", "region", "mean"]
    assert GlobalView.from_json(nothing.to_json()) == nothing


def several(seed=0, samples=12):
    generator = np.random.default_rng(seed)
    for i in range(samples):
        for target in ("dog", "cat")[: 1 + i % 2]:
            pairs = [(w, p) for w in map(word, ("red", "blue", "dog")) for p in (TOP, LOW)]
            rows = [
                (*pair, generator.normal(), 0.1, 1, head)
                for head in HEADS
                for pair in pairs
                if generator.random() < 0.7
            ]
            yield made(rows, f"s{i}", target)


def test_the_order_of_explanations_does_not_matter():
    explanations = list(several())
    by = ("word", "region", "class")
    view = global_view(explanations, by=by)
    assert global_view(iter(explanations[::-1]), by=by) == view
    assert global_view(explanations, by=by).to_json() == view.to_json()
    assert not np.array_equal(global_view(explanations, by=by, seed=1).low, view.low)


def test_blocks_of_keys_give_the_same_intervals(monkeypatch):
    explanations = list(several())
    view = global_view(explanations, resamples=50)
    monkeypatch.setattr(import_module("fli2moe.explain.global_view"), "CHUNK", 1)
    assert global_view(explanations, resamples=50) == view


def test_the_interval_is_the_bootstrap_written_out():
    explanations = list(several(3))
    view = global_view(explanations, by=("word",), resamples=300, confidence=0.8, seed=5)
    ids = sorted({e.sample_id for e in explanations})
    generator = np.random.default_rng(5)
    draws = [[ids[i] for i in generator.integers(len(ids), size=len(ids))] for _ in range(300)]
    for r, (name,) in enumerate(view.keys):
        means = []
        for draw in draws:
            values = []
            for e in (e for s in draw for e in explanations if e.sample_id == s):
                mixture = e.pairs["synergy"].for_head("mixture")
                found = [p.value for p in mixture.pairs() if p.first.name == name]
                values += [sum(found)] if found else []
            means += [np.mean(values)] if values else []
        assert [view.low[r], view.high[r]] == pytest.approx(np.quantile(means, [0.1, 0.9]))


def test_explanations_of_one_sample_are_drawn_together():
    rows = [(word("red"), TOP, 1.0)], [(word("red"), TOP, 3.0)]
    pair = [made(rows[0], "a", "dog"), made(rows[1], "a", "cat")]
    view = global_view(pair)
    assert (view.mean[0], view.n[0]) == (2.0, 2)
    assert math.isnan(view.low[0])  # one sample: nothing to draw from
    both = global_view([*pair, made(rows[0], "b", "dog"), made(rows[1], "b", "cat")])
    assert (both.low[0], both.high[0]) == (2.0, 2.0)  # each sample has one of either
    apart = global_view([made(rows[i % 2], str(i)) for i in range(4)])
    assert apart.low[0] < 2.0 < apart.high[0]


def test_a_word_with_the_whole_picture_by_class():
    first = made([(word("red"), TOP, 1.0), (word("red"), LOW, 2.0)], "a", "dog")
    second = made([(word("red"), TOP, 5.0)], "a", "cat")
    view = global_view([first, second], by=("word", "class"), least=1)
    assert view.keys == (("red", "cat"), ("red", "dog"))
    assert view.mean.tolist() == [5.0, 3.0]
    assert list(view.to_dataframe().columns) == [
        *("word", "class", "mean", "low", "high", "n", "measurement_error", "audited")
    ]


def test_heads():
    rows = [(word("red"), TOP, 1.0, 0, 0, "mixture"), (word("red"), TOP, 2.0, 0, 0, "synergy")]
    two = [made(rows, "a"), made(rows, "b")]
    assert global_view(two).mean.tolist() == [1.0]
    assert global_view(two).settings["head"] == "mixture"
    assert global_view(two, head="synergy").mean.tolist() == [2.0]
    view = global_view(two, by=("head",))
    assert (view.keys, view.mean.tolist()) == ((("mixture",), ("synergy",)), [1.0, 2.0])


@pytest.mark.parametrize(
    ("centre", "regions", "name"),
    [
        ((1, 1), 3, "top left"),
        ((45, 1), 3, "top"),
        ((1, 45), 3, "left"),
        ((45, 45), 3, "middle"),
        ((89, 45), 3, "right"),
        ((90, 90), 3, "bottom right"),
        ((45, 89), 3, "bottom"),
        ((30, 0), 3, "top"),
        ((0, 30), 4, "row 2 of 4, column 1 of 4"),
        ((95, -5), 4, "row 1 of 4, column 4 of 4"),
        ((50, 50), 1, "row 1 of 1, column 1 of 1"),
    ],
)
def test_region_names(centre, regions, name):
    x, y = centre
    player = box(x - 2, y - 2, size=4)
    view = global_view([made([(word("a"), player, 1.0)])], regions=regions, least=1)
    assert view.keys == (("a", name),)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("Dog,", "dog"),
        ("«Straße»", "strasse"),
        ("don't", "don't"),
        ("...", "..."),
        ("C++", "c++"),
        ("Dog\n", "dog"),
        ("a red … dog.", "a red … dog"),
        ("text[3]", "text[3]"),
        ("", "text[0]"),
    ],
)
def test_word_names(given, shown):
    view = global_view([made([(word(given), TOP, 1.0)])], by=("word",), least=1)
    assert view.keys == ((shown,),)


def test_two_texts_two_pictures_and_vectors():
    lab = Player("lab", (4,), (), "lab[4]")
    rows = [
        (word("red"), word("dog", "title"), 1.0),
        (word("red"), TOP, 2.0),
        (word("dog", "title"), box(0, 0, "poster"), 4.0),
        (TOP, box(60, 60, "poster"), 8.0),
        (lab, TOP, 16.0),
    ]
    explanation = made(rows)
    words = frame(global_view([explanation], by=("word",), least=1))
    assert {key[0]: row["mean"] for key, row in words.items()} == {
        "text red × title dog": 1.0,
        "text red": 2.0,
        "title dog": 4.0,
        "lab[4]": 16.0,
    }
    view = global_view([explanation], least=1)
    assert view.keys == (
        ("lab[4]", "image top left"),
        ("text red", "image top left"),
        ("title dog", "poster top left"),
    )
    assert (view.settings["pairs"], view.settings["pairs_left_out"]) == (5, 2)
    regions = global_view([explanation], by=("region",), least=1)
    assert ("image top left × poster bottom right",) in regions.keys
    with pytest.raises(InputError, match=r"no pair has word and region.*leave one out"):
        global_view([made([(TOP, box(0, 0, "poster"), 1.0)])])


def test_pairs_within_one_modality_have_no_direction():
    one = made([(word("red"), word("dog"), 1.0)], "a")
    other = made([(word("dog"), word("red"), 3.0)], "b")
    view = global_view([one, other], by=("word",))
    assert (view.keys, view.mean.tolist()) == ((("dog × red",),), [2.0])


def test_sizes_are_needed_for_regions_alone():
    bare = made([(word("red"), TOP, 1.0)], sizes={})
    assert global_view([bare], by=("word",), least=1).keys == (("red",),)
    with pytest.raises(InputError, match="'a' has no size of the picture 'image'"):
        global_view([bare])


def test_top_and_words():
    rows = {"sure": (2.0, 2.1, 2.2), "wild": (0.0, 9.0, 0.0), "once": (50.0,), "often": (1.0,) * 5}
    explanations = [
        made([(word(w), TOP, v[i]) for w, v in rows.items() if i < len(v)], str(i))
        for i in range(5)
    ]
    view = global_view(explanations, by=("word",), least=1)
    tops = {by: [r.key[0] for r in view.top(4, by)] for by in ("value", "frequency", "lower")}
    assert tops["value"] == ["once", "wild", "sure", "often"]
    assert tops["frequency"] == ["often", "wild", "sure", "once"]
    assert tops["lower"] == ["sure", "often", "wild", "once"]
    assert [str(r) for r in view.top(3)] == [
        "once: +50 (n = 1)",
        "wild: +3 [0, 9] (n = 3)",
        "sure: +2.1 [2, 2.2] (n = 3)",
    ]
    assert "synergy, 4 keys by word, 0 left out; 5 explanations of 5 samples" in repr(view)
    assert len(view) == 4
    assert view.top(0) == []
    with pytest.raises(InputError, match="did you mean 'lower'"):
        view.top(1, "lowest")


def test_json_round_trip_and_damage():
    view = global_view(several(), least=1, by=("word", "class"))
    again = GlobalView.from_json(view.to_json())
    assert again == view
    assert hash(again) == hash(view)
    assert view != global_view(several(1), least=1, by=("word", "class"))
    assert view != 3
    data = json.loads(view.to_json())
    damaged = [{**data, "format": "x"}, {**data, "mean": 3}, {**data, "keys": 1}, [], 3]
    damaged += [{**data, "other": 1}, {**data, "n": [1]}, {k: data[k] for k in data if k != "low"}]
    for text in ["", "{", *map(json.dumps, damaged)]:
        with pytest.raises(InputError, match=r"lobal ?[vV]iew") as caught:
            GlobalView.from_json(text)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "synergi"}, "did you mean 'synergy'"),
        ({"by": ("words",)}, "did you mean 'word'"),
        ({"by": "word"}, "by: 'word'; expected different names in a tuple"),
        ({"by": ()}, "by: "),
        ({"by": ("word", "word")}, "by: "),
        ({"head": "synergi"}, "did you mean 'synergy'"),
        ({"head": "synergy", "by": ("head",)}, "None where `by` holds 'head'"),
        ({"head": "synergy"}, "no synergy pair of head 'synergy' was scored"),
        ({"kind": "redundancy"}, "no redundancy pair of head 'mixture' was scored"),
        ({"regions": 0}, "regions: 0"),
        ({"least": 0}, "least: 0"),
        ({"resamples": 0}, "resamples: 0"),
        ({"confidence": 1.0}, "confidence: 1.0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        global_view([made([(word("red"), TOP, 1.0)])], **arguments)
    assert "\n" not in str(caught.value)


def test_nothing_and_several_models_are_refused():
    with pytest.raises(InputError, match=r"explanations: none.*run `fli2moe explain` first"):
        global_view([])
    one = made([(word("red"), TOP, 1.0)])
    with pytest.raises(InputError, match="one model"):
        global_view([one, replace(one, fingerprint="other")])


def test_an_unknown_error_stays_unknown():
    one = made([(word("red"), TOP, 1.0, np.nan), (word("dog"), TOP, 1.0, 0.5)])
    view = global_view([one], by=("word",), least=1)
    assert view.measurement_error.tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert GlobalView.from_json(view.to_json()) == view


def test_real_explanations(predictor, dataset):
    first, second = predictor.task.classes[:2]
    asked = [(s, first) for s in dataset.test[:3]] + [(s, second) for s in dataset.test[1:3]]
    explanations = [
        predictor.explain(s.inputs, target=t, budget=400, sample_id=s.id) for s, t in asked
    ]
    view = global_view(explanations, by=("word", "class"), resamples=200)
    assert view.settings["samples"] == 3
    assert len(view) > 1
    assert (view.low <= view.high).all()
    total = global_view(explanations, by=("class",), least=1, resamples=10)
    for (name,), mean in zip(total.keys, total.mean, strict=True):
        tables = [e.pairs["synergy"].for_head("mixture") for e in explanations if e.target == name]
        assert mean == pytest.approx(np.mean([t.value.sum() for t in tables]))


@pytest.mark.slow
def test_the_interval_covers_the_mean_at_the_nominal_rate():
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        values = generator.exponential(size=30)  # mean 1, skewed
        view = global_view(
            (made([(word("red"), TOP, x)], str(i)) for i, x in enumerate(values)), seed=seed
        )
        covered += bool(view.low[0] <= 1 <= view.high[0])
    assert 0.88 <= covered / 200 <= 0.99


@pytest.mark.slow
def test_a_thousand_explanations_fit_in_little_memory():
    generator = np.random.default_rng(0)
    names = [word(f"w{i}") for i in range(3000)]
    patches = [box(20 * i, 20 * j, size=20) for i in range(4) for j in range(4)]

    def stream():
        for i in range(1000):
            chosen = generator.choice(3000, size=12, replace=False)
            pairs = [(names[w], p) for w in chosen for p in patches]
            yield made([(*pair, generator.normal()) for pair in pairs], str(i))

    tracemalloc.start()
    view = global_view(stream())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert view.settings["pairs"] == 192_000
    assert len(view) > 10_000
    assert peak < 200e6

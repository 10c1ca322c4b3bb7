import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fli2moe.errors import InputError
from fli2moe.explain import PairScores
from fli2moe.tokens import Player

PLAYERS = (
    Player("text", (0,), ((0, 3),), "red"),
    Player("text", (1,), ((4, 7),), "dog"),
    Player("image", (0,), ((0.0, 0.0, 16.0, 16.0),), "patch (0, 0)-(16, 16)"),
)


def scores(value=(1.0, -2.0, 1.0, 0.5), error=0.25, heads=("mixture", "synergy")) -> PairScores:
    rows = len(value)
    return PairScores(
        index="SII",
        players=PLAYERS,
        first=np.array([1, 0] * (rows // 2)),
        second=np.array([2, 2] * (rows // 2)),
        head=tuple(h for h in heads for _ in range(rows // len(heads))),
        value=np.array(value),
        standard_error=np.full(rows, error),
        n_contexts=np.full(rows, 8),
        columns={"overlap": np.array([np.nan] * rows)},
        settings={"method": "monte_carlo", "budget": 100},
    )


def test_a_pair_reads_like_a_sentence():
    best, worst = scores().top(5)
    assert str(best) == "dog × patch (0, 0)-(16, 16): +1.00 ± 0.25"
    assert str(worst) == "red × patch (0, 0)-(16, 16): -2.00 ± 0.25"
    assert (best.rank, worst.rank) == (1, 2)
    assert str(scores(error=np.nan).top(1)[0]).endswith("+1.00")


def test_equal_are_the_same_numbers_of_the_same_players():
    made, again = scores(), scores()
    assert made == again
    assert hash(made) == hash(again)
    assert made != scores(error=0.5)
    assert made != scores(value=(1.0, -2.0, 1.0, 0.25))
    assert made != replace(made, players=(*PLAYERS, Player("text", (2,), ((8, 9),), "a")))
    assert made != "scores"
    back = PairScores.from_json(json.loads(json.dumps(made.to_json())), PLAYERS)
    assert back == made


def test_top_is_per_head_and_ties_go_to_the_smaller_players():
    assert [p.value for p in scores().top(5, head="synergy")] == [1.0, 0.5]
    assert [p.value for p in scores().top(5, ascending=True)] == [-2.0, 1.0]
    tied = scores(value=(1.0, 1.0, 1.0, 1.0))
    assert [p.first.name for p in tied.top(2)] == ["red", "dog"]
    assert tied.select(np.array([], dtype=int)).top(3) == []
    with pytest.raises(InputError, match="did you mean 'synergy'"):
        scores().top(1, head="sinergy")


def test_frames_name_the_head_where_there_are_several():
    both = scores().to_dataframe()
    assert both["head"].tolist() == ["mixture", "mixture", "synergy", "synergy"]
    alone = scores().for_head("synergy").to_dataframe()
    assert "head" not in alone.columns
    assert alone["value"].tolist() == [1.0, 0.5]


def test_columns_of_another_length_are_refused():
    with pytest.raises(InputError, match=r"PairScores\.value"):
        replace(scores(), value=np.zeros(3))


numbers = st.one_of(st.floats(allow_infinity=False), st.just(float("nan")))


@given(st.lists(numbers, min_size=4, max_size=4), numbers)
def test_json_round_trip(values, error):
    before = replace(
        scores(value=tuple(values), error=error), columns={"overlap": np.array(values)}
    )
    text = json.dumps(before.to_json(), allow_nan=False)
    after = PairScores.from_json(json.loads(text), PLAYERS)
    for name in ("first", "second", "value", "standard_error", "n_contexts"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        assert getattr(after, name).dtype == getattr(before, name).dtype
    np.testing.assert_array_equal(after.columns["overlap"], before.columns["overlap"])
    assert (after.head, after.index, after.players) == (before.head, before.index, PLAYERS)
    assert after.settings == before.settings


def test_infinite_scores_are_not_json():
    with pytest.raises(ValueError, match="JSON"):
        json.dumps(scores(error=np.inf).to_json(), allow_nan=False)

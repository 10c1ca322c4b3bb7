import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fli2moe.errors import InputError
from fli2moe.explain import (
    Explanation,
    TokenGame,
    TokenScores,
    redundancy_gaps,
    shapley_interactions,
)
from fli2moe.tokens import Player

from .games import random_table

HEADS = ("mixture", "synergy", "redundancy")


def explanation(**changes: object) -> Explanation:
    players = (
        Player("text", (1, 2), ((0, 7),), "playing"),
        Player("text", (3,), ((8, 11),), "dog"),
        Player("image", (0,), ((0.0, 0.0, 16.5, 16.0),), "patch (0, 0)-(16.5, 16)"),
    )
    game = TokenGame(random_table(3, 0, heads=3), players, HEADS)
    tables = {
        "text": TokenScores(
            (1, 2, 3),
            ((0, 4), (4, 7), (8, 11)),
            {head: (0.1, 0.2, float(h)) for h, head in enumerate(HEADS)},
        ),
        "image": TokenScores((0,), ((0.0, 0.0, 16.5, 16.0),), dict.fromkeys(HEADS, (0.5,))),
    }
    made = Explanation(
        sample_id="7",
        target="dog",
        class_index=1,
        task="multiclass",
        classes=("cat", "dog"),
        probabilities=(0.25, 0.75),
        heads=HEADS,
        expert_weights={"synergy": 0.5, "redundancy": 0.5},
        expert_shares={"synergy": 0.9, "redundancy": 0.1},
        attribution="attention_gradient",
        token_scores=tables,
        players=players,
        pairs={
            "synergy": shapley_interactions(game, 8),
            "redundancy": redundancy_gaps(game, 8),
        },
        inputs={"text": "playing dog", "image": "a.png"},
        labels=("dog",),
        sizes={"image": (33, 32)},
        unseen={"image": ((0.0, 0.0, 1.0, 32.0),)},
        notes=("grouped",),
        settings={"budget": 8, "nested": {"a": [1, 2.5, None]}},
        seed=3,
        fingerprint="abc",
    )
    return replace(made, **changes)


def same(a: Explanation, b: Explanation) -> bool:
    names = Explanation.__dataclass_fields__
    return a == b and all(getattr(a, name) == getattr(b, name) for name in names)


def test_json_round_trip():
    before = explanation()
    after = Explanation.from_json(before.to_json())
    assert same(before, after)
    for kind in ("synergy", "redundancy"):
        assert after.pairs[kind].players == before.players
        assert after.top_pairs(kind) == before.top_pairs(kind)


@settings(deadline=None, max_examples=50)
@given(st.text(), st.text(), st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_any_text_and_number_survives(sample_id, text, weight, note):
    before = explanation(
        sample_id=sample_id,
        inputs={"text": text, "image": note},
        notes=(note,),
        expert_weights={"synergy": weight},
    )
    assert same(before, Explanation.from_json(before.to_json()))


def test_equal_is_what_says_the_same():
    made, again = explanation(), explanation()
    assert made == again
    assert made is not again
    assert hash(made) == hash(again)
    assert len({made, again, explanation(seed=4)}) == 2
    assert made != explanation(notes=("other",))
    assert made != made.to_json()
    gaps = made.pairs["redundancy"]
    value = gaps.value.copy()
    value[-1] += 1e-9
    changed = replace(made, pairs={**made.pairs, "redundancy": replace(gaps, value=value)})
    assert changed != made
    assert hash(changed) == hash(made)


def test_top_pairs_are_the_mixtures_unless_a_head_is_named():
    made = explanation()
    for kind in ("synergy", "redundancy"):
        assert [p.head for p in made.top_pairs(kind, 2)] == ["mixture"] * 2
        assert [p.head for p in made.top_pairs(kind, 2, head=kind)] == [kind] * 2
    with pytest.raises(InputError, match="did you mean 'redundancy'"):
        made.top_pairs("synergy", head="redundanc")
    without = replace(made, pairs={"synergy": made.pairs["synergy"].select(np.array([], int))})
    assert without.top_pairs("synergy") == []
    with pytest.raises(InputError, match="did you mean 'synergy'"):
        made.top_pairs("synergies")


def test_a_player_carries_the_sum_of_its_tokens():
    assert explanation().player_scores("synergy") == pytest.approx((0.3, 1.0, 0.5))
    with pytest.raises(InputError, match="unknown head"):
        explanation().player_scores("none")
    strangers = (Player("text", (1, 9)), Player("audio", (0,)), Player("text", ()))
    np.testing.assert_array_equal(
        explanation().scores_of(strangers, "mixture"), [np.nan, np.nan, 0.0]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("format"), "not readable"),
        (lambda d: d.update(format="other/1"), "format 'other/1'"),
        (lambda d: d.update(hed=1), "unknown field 'hed'"),
        (lambda d: d.pop("players"), "broken"),
        (lambda d: d.pop("target"), "broken"),
        (lambda d: d["pairs"]["synergy"].pop("value"), "broken"),
        (lambda d: d["pairs"]["synergy"]["value"].pop(), "PairScores.value"),
        (lambda d: d.update(players="x"), "broken"),
        (lambda d: d.update(token_scores=None), "broken"),
    ],
)
def test_damaged_documents_are_one_clear_line(change, message):
    data = json.loads(explanation().to_json())
    change(data)
    with pytest.raises(InputError, match=message) as caught:
        Explanation.from_json(json.dumps(data))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"x"'])
def test_what_is_no_explanation_is_refused(text):
    with pytest.raises(InputError, match="explanation"):
        Explanation.from_json(text)


def test_unknown_values_are_null_not_nan():
    made = explanation()
    gaps = made.pairs["redundancy"]
    unknown = replace(gaps, standard_error=np.full(len(gaps), np.nan))
    text = replace(made, pairs={"redundancy": unknown}).to_json()
    assert "NaN" not in text
    assert np.isnan(Explanation.from_json(text).pairs["redundancy"].standard_error).all()

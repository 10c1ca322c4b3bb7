from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fli2moe.data.splits import seeded_split


@given(st.sets(st.text(min_size=1), min_size=3, max_size=60), st.integers())
def test_shares_depend_on_the_ids_alone(ids, seed):
    labels = dict.fromkeys(ids, ("a",))
    splits = seeded_split(labels, seed)
    counts = Counter(splits.values())
    assert counts["val"] == counts["test"] == max(1, round(0.15 * len(ids)))
    assert splits == seeded_split(dict(reversed(labels.items())), seed)


def test_adding_a_row_moves_few_others():
    labels = {str(n): ("a",) for n in range(1000)}
    before, after = seeded_split(labels, 0), seeded_split(labels | {"new": ("a",)}, 0)
    assert sum(before[id] != after[id] for id in labels) <= 3


@pytest.mark.parametrize("seed", range(20))
def test_each_label_has_a_training_sample(seed):
    labels = {str(n): ("a", "b") if n % 2 else () for n in range(40)} | {"rare": ("c",)}
    splits = seeded_split(labels, seed)
    assert splits["rare"] == "train"
    assert len(set(splits.values())) == 3


def test_the_split_stays_what_it_was():
    splits = seeded_split({str(n): ("a",) for n in range(20)}, 0)
    assert {id for id, split in splits.items() if split == "val"} == {"15", "18", "7"}
    assert {id for id, split in splits.items() if split == "test"} == {"4", "9", "10"}

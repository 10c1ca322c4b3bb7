"""Labels that change places: what stays, what goes, and who gets whose."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fli2moe.data.permuted import permuted_labels
from fli2moe.data.sample import Cause, Dataset, Sample

SIZES = {"train": 40, "val": 20, "test": 10}


def made() -> Dataset:
    """Samples of which no two have the same labels, in mixed splits."""
    samples = [
        Sample(
            f"{split}{n}",
            {"text": f"{split} {n}", "image": Path(f"{n}.png")},
            (f"label of {split} {n}", "all"),
            split,
            (Cause("all", "synergy", {"text": ((0, 1),)}),),
        )
        for split, size in SIZES.items()
        for n in range(size)
    ]
    classes = tuple(sorted({label for s in samples for label in s.labels}))
    kinds = {"text": "text", "image": "image"}
    return Dataset(
        samples[::3] + samples[1::3] + samples[2::3], classes, kinds, True, "made", ("n",)
    )


@pytest.mark.parametrize("split", SIZES)
def test_every_split_keeps_its_labels(split: str):
    before, after = made().split(split), permuted_labels(made(), 0).split(split)
    assert Counter(s.labels for s in after) == Counter(s.labels for s in before)
    assert [(s.id, s.inputs) for s in after] == [(s.id, s.inputs) for s in before]


def test_most_samples_of_train_and_val_get_anothers_labels():
    before, after = made(), permuted_labels(made(), 0)
    for split, size in SIZES.items():
        pairs = zip(before.split(split), after.split(split), strict=True)
        same = sum(old.labels == new.labels for old, new in pairs)
        assert same == size if split == "test" else same < size / 4


def test_causes_are_dropped_with_the_labels_that_they_were_true_of():
    after = permuted_labels(made(), 0)
    assert not any(s.causes for s in (*after.train, *after.val))
    assert after.test == made().test


def test_a_note_is_added_and_nothing_else_changes():
    before, after = made(), permuted_labels(made(), 0)
    assert after.notes[:-1] == before.notes
    assert "labels changed places" in after.notes[-1]
    assert [s.id for s in after.samples] == [s.id for s in before.samples]
    about = ("classes", "modalities", "multilabel", "source", "notice")
    assert all(getattr(after, name) == getattr(before, name) for name in about)


def test_the_seed_decides():
    first = permuted_labels(made(), 1)
    assert first.samples == permuted_labels(made(), 1).samples
    assert first.samples != permuted_labels(made(), 2).samples

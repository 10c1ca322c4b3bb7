"""`planted`: each label is told by its causes, and by nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fli2moe.config import Config
from fli2moe.data import load_dataset
from fli2moe.data.planted import (
    LABELS,
    MODALITIES,
    TOKENS,
    WIDTH,
    Item,
    draw_item,
    features,
    write_planted,
)
from fli2moe.data.sample import Dataset
from fli2moe.explain import TokenGame, redundancy_gaps, shapley_interactions

N = 4000
CHANCE = 4 * 0.5 / np.sqrt(N / 2)
"""Four standard errors of a held-out accuracy."""


@pytest.fixture(scope="module")
def items() -> list[Item]:
    random = np.random.default_rng(0)
    return [draw_item(random) for _ in range(N)]


def truth(items: list[Item], label: str) -> np.ndarray:
    return np.array([label in item.labels for item in items])


def shown(items: list[Item], modality: int, hidden: str | None = None) -> np.ndarray:
    """(N, 16) how often each symbol stands in a modality, the cause of a label hidden."""
    counts = np.zeros((len(items), 16))
    for n, item in enumerate(items):
        symbols = item.symbols[modality].tolist()
        place = item.cause(hidden).get(MODALITIES[modality]) if hidden else None
        for t, symbol in enumerate(symbols):
            counts[n, symbol] += t != place
    return counts


def told(x: np.ndarray, y: np.ndarray) -> float:
    half = len(x) // 2
    return float(LogisticRegression().fit(x[:half], y[:half]).score(x[half:], y[half:]))


def test_labels_are_fair_and_independent(items):
    held = np.stack([truth(items, label) for label in LABELS])
    assert (abs(held.mean(axis=1) - 0.5) < 4 * 0.5 / np.sqrt(N)).all()
    correlation = np.corrcoef(held) - np.eye(4)
    assert abs(correlation).max() < 4 / np.sqrt(N)


def test_each_modality_tells_what_it_should(items):
    """The symbols of one modality: unique and redundant labels are read off, `match` is not."""
    first, second = (shown(items, m) for m in range(2))
    for label, by_first, by_second in (
        ("match", False, False),
        ("twin", True, True),
        ("own_first", True, False),
        ("own_second", False, True),
    ):
        y = truth(items, label)
        for x, holds in ((first, by_first), (second, by_second)):
            accuracy = told(x, y)
            assert accuracy == 1.0 if holds else abs(accuracy - 0.5) < CHANCE
    # nor by both together without looking at pairs of them
    both = np.concatenate([first, second], axis=1)
    assert abs(told(both, truth(items, "match")) - 0.5) < CHANCE
    products = np.stack([first[:, k] * second[:, k] for k in range(4)], axis=1)
    assert told(products, truth(items, "match")) == 1.0


@pytest.mark.parametrize("label", LABELS)
def test_hiding_the_cause_leaves_nothing(items, label):
    first, second = (shown(items, m, hidden=label) for m in range(2))
    pairs = (first[:, :, None] * second[:, None, :]).reshape(N, -1)
    for x in (first, second, np.concatenate([first, second], axis=1), pairs):
        assert abs(told(x, truth(items, label)) - 0.5) < CHANCE


def test_symbols_stand_in_their_places_and_features_are_theirs(items):
    item = items[0]
    for m, modality in enumerate(MODALITIES):
        key, twin, own, *fillers = item.places[m]
        symbols = item.symbols[m]
        assert sorted(item.places[m]) == list(range(TOKENS))
        assert symbols[key] == item.keys[m]
        assert symbols[twin] == 4 + item.twin
        assert symbols[own] == 6 + item.own[m]
        assert tuple(symbols[list(fillers)]) == item.fillers[m]
        assert item.cause(f"own_{modality}") == {modality: own}
    random = np.random.default_rng(1)
    many = np.stack([features(item, random)["second"] for _ in range(400)])
    assert many.shape == (400, TOKENS, WIDTH)
    assert many.std(axis=0).mean() == pytest.approx(0.5, rel=0.05)
    mean = many.mean(axis=0)
    assert abs(abs(mean) - 1).max() < 5 * 0.5 / np.sqrt(400)
    same = item.symbols[1][:, None] == item.symbols[1][None]
    assert np.allclose(mean @ mean.T / WIDTH, same, atol=0.1)  # orthogonal symbols


def test_the_ideal_evidence_is_in_the_pair_of_causes(items):
    item = next(x for x in items if x.labels == ("match", "own_second"))
    names = dict.fromkeys(MODALITIES, TOKENS)
    for label, probe in (("match", shapley_interactions), ("twin", redundancy_gaps)):
        game = TokenGame.from_callable(item.evidence(label), names)
        best = probe(game, 2000, "monte_carlo", seed=0).top(1)[0]
        assert {p.modality: p.tokens[0] for p in (best.first, best.second)} == item.cause(label)
        assert best.value == pytest.approx(1.0)  # backups also where the label does not hold
    everything, nothing = torch.ones(1, 16, dtype=torch.bool), torch.zeros(1, 16, dtype=torch.bool)
    for label, sign in zip(LABELS, (1, -1, -1, 1), strict=True):
        assert item.evidence(label)(everything).tolist() == [sign]
        assert item.evidence(label)(nothing).tolist() == [0]


@pytest.mark.parametrize(
    ("label", "share"), [("match", 1 / 3), ("twin", 1 / 3), ("own_first", 0), ("own_second", 0)]
)
def test_known_share_of_interactions(items, label, share):
    for item in items[:5]:
        assert item.evidence(label).shares().interactions == pytest.approx(share)


def written(folder: Path, seed: int = 3) -> Dataset:
    manifest = write_planted(folder, sizes=(20, 6, 4), seed=seed)
    modalities = {m: {"encoder": "vector", "width": WIDTH} for m in MODALITIES}
    data = {"path": str(manifest), "labels": "multilabel", "modalities": modalities}
    return load_dataset(Config.from_dict({"data": data}).data)


def test_a_written_set_is_read_as_any_other(tmp_path):
    dataset = written(tmp_path / "p")
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (20, 6, 4)
    assert dataset.modalities == dict.fromkeys(MODALITIES, "vector")
    random = np.random.default_rng(3)
    for sample in dataset.samples:
        item = draw_item(random)
        assert sample.labels == item.labels
        for modality, array in features(item, random).items():
            assert (np.load(sample.inputs[modality]) == array).all()
        assert {c.label: c.interaction for c in sample.causes} == dict(LABELS)
        for cause in sample.causes:
            places = item.cause(cause.label)
            assert cause.spans == {m: ((t, t + 1),) for m, t in places.items()}


def test_the_seed_decides(tmp_path):
    texts = [
        [
            (s.labels, s.causes, np.load(s.inputs["first"]).tolist())
            for s in written(f, seed).samples
        ]
        for f, seed in ((tmp_path / "a", 1), (tmp_path / "b", 1), (tmp_path / "c", 2))
    ]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_bad_options(tmp_path, fault, items):
    fault(
        lambda: write_planted(tmp_path / "p", sizes=(5, 0, 5)),
        found=["(5, 0, 5)"],
        expected=["at least one sample in each split"],
    )
    assert not (tmp_path / "p").exists()
    fault(lambda: items[0].cause("macth"), found=["'macth'"], remedy=["'match'"])
    fault(lambda: items[0].evidence("own"), found=["'own'"])

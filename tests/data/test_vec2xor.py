"""VEC2XOR: the mechanism of each setting is what its name says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from fli2moe.config import Config
from fli2moe.data import load_dataset
from fli2moe.data.vec2xor import (
    HOLDS,
    MIXED,
    SETTINGS,
    TOKENS,
    WIDTH,
    WINNERS,
    draw_vec2xor,
    write_vec2xor,
)
from fli2moe.errors import InputError

CHANCE = 4 * 0.5 / np.sqrt(1000)
"""Four standard errors of an accuracy on 1,000 samples."""


def told(x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy of a linear model on the second half."""
    flat = x.reshape(len(x), -1)
    half = len(x) // 2
    model = LogisticRegression(max_iter=300).fit(flat[:half], y[:half])
    return float(model.score(flat[half:], y[half:]))


def learned(x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy of a small network on the last 1,000."""
    network = MLPClassifier((16,), alpha=1e-2, early_stopping=True, random_state=0)
    return float(network.fit(x[:-1000], y[:-1000]).score(x[-1000:], y[-1000:]))


def together(vectors: dict[str, np.ndarray]) -> np.ndarray:
    """(N, 300) both modalities' numbers."""
    return np.concatenate([v.reshape(len(v), -1) for v in vectors.values()], axis=1)


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_modality_holds_the_bits_that_it_should(setting):
    vectors, bits = draw_vec2xor(setting, 2000, 0)
    for modality, tokens in TOKENS.items():
        assert vectors[modality].shape == (2000, tokens, WIDTH)
        for bit in (0, 1):
            accuracy = told(vectors[modality], bits[:, bit])
            if bit in HOLDS[setting][modality]:
                assert accuracy > 0.98
            else:
                assert abs(accuracy - 0.5) < CHANCE


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_linear_model_reads_the_label(setting):
    vectors, bits = draw_vec2xor(setting, 2000, 1)
    assert abs(told(together(vectors), bits[:, 0] ^ bits[:, 1]) - 0.5) < CHANCE


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_small_network_reads_it_where_both_bits_are(setting):
    vectors, bits = draw_vec2xor(setting, 4000, 1)
    label = bits[:, 0] ^ bits[:, 1]
    assert learned(together(vectors), label) > 0.98
    for modality, vector in vectors.items():
        accuracy = learned(vector.reshape(4000, -1), label)
        if len(HOLDS[setting][modality]) == 2:
            assert accuracy > 0.98
        else:
            assert abs(accuracy - 0.5) < CHANCE


def test_mixed_holds_every_mechanism(tmp_path: Path):
    vectors, bits = draw_vec2xor(MIXED, 2000, 2)
    assert bits.shape == (2000, 8)
    assert abs(np.corrcoef(bits.T) - np.eye(8)).max() < 4 / np.sqrt(2000)
    for number, setting in enumerate(SETTINGS):
        for modality in TOKENS:
            for bit in (0, 1):
                accuracy = told(vectors[modality], bits[:, 2 * number + bit])
                if bit in HOLDS[setting][modality]:
                    assert accuracy > 0.98
                else:
                    assert abs(accuracy - 0.5) < CHANCE
    manifest = write_vec2xor(tmp_path / "v", MIXED, 40, seed=2)
    modalities = {m: {"encoder": "vector", "width": WIDTH} for m in TOKENS}
    data = {"path": str(manifest), "labels": "multilabel", "modalities": modalities}
    dataset = load_dataset(Config.from_dict({"data": data}).data)
    assert dataset.classes == tuple(sorted(SETTINGS))
    assert set(dataset.classes) == set(WINNERS)
    _, bits = draw_vec2xor(MIXED, 40, 2)
    for sample, row in zip(dataset.samples, bits.reshape(40, 4, 2), strict=True):
        assert sample.labels == tuple(
            name for name, (a, b) in zip(SETTINGS, row, strict=True) if a != b
        )


def test_directions_are_the_same_in_every_setting_and_seeds_differ():
    first = draw_vec2xor("redundancy", 4000, 0)
    other = draw_vec2xor("uniqueness_first", 4000, 1)
    means = [
        v["first"][b[:, 0] == 1].mean(0) - v["first"][b[:, 0] == 0].mean(0)
        for v, b in (first, other)
    ]
    assert np.corrcoef(means[0].ravel(), means[1].ravel())[0, 1] > 0.95
    again = draw_vec2xor("redundancy", 4000, 0)
    assert (again[0]["second"] == first[0]["second"]).all()
    assert (other[1] != first[1]).any()


def test_a_written_set_is_read_as_any_other(tmp_path: Path):
    manifest = write_vec2xor(tmp_path / "v", "synergy", 40, seed=3)
    modalities = {m: {"encoder": "vector", "width": WIDTH} for m in TOKENS}
    config = Config.from_dict({"data": {"path": str(manifest), "modalities": modalities}})
    dataset = load_dataset(config.data)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (28, 6, 6)
    vectors, bits = draw_vec2xor("synergy", 40, 3)
    for n, sample in enumerate(dataset.samples):
        assert sample.labels == ("different" if bits[n, 0] ^ bits[n, 1] else "same",)
        assert (np.load(sample.inputs["second"]) == vectors["second"][n]).all()


def test_every_setting_has_a_winner_and_bad_ones_are_refused(tmp_path: Path):
    assert set(WINNERS) == set(HOLDS)
    with pytest.raises(InputError, match=r"'sinergy'.*'synergy'"):
        write_vec2xor(tmp_path, "sinergy")
    with pytest.raises(InputError, match="5 samples; expected at least 20"):
        write_vec2xor(tmp_path, "synergy", 5)
    assert not (tmp_path / "manifest.csv").exists()

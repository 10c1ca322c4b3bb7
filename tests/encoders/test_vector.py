"""Precomputed features: read exactly, and every bad file named in one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fli2moe.encoders import load_encoder
from fli2moe.encoders.base import Encoder
from fli2moe.encoders.vector import VectorEncoder, vector_width
from fli2moe.errors import InputError


def npy(path: Path, array: object, **options: bool) -> Path:
    np.save(path, array, **options)
    return path


def test_files_and_arrays_agree(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    tensors = tmp_path / "a.safetensors"
    save_file({"features": torch.from_numpy(array), "other": torch.zeros(1)}, tensors)
    single = tmp_path / "b.safetensors"
    save_file({"anything": torch.from_numpy(array).double()}, single)
    sources = [npy(tmp_path / "a.npy", array), tensors, str(single), array, torch.tensor(array)]
    encoder = load_encoder("vector", width=3)
    assert isinstance(encoder, Encoder)
    tokens = encoder.encode(sources)
    assert tokens.features.dtype == torch.float32
    for row in range(len(sources)):
        assert torch.equal(tokens.features[row], torch.from_numpy(array))
    assert tokens.spans[0].tolist() == [[t, t + 1] for t in range(5)]
    assert [vector_width(source) for source in sources] == [3] * 5


def test_lengths_are_padded_and_no_positions_means_no_content() -> None:
    tokens = VectorEncoder(2).encode([np.ones((3, 2)), np.ones((0, 2))])
    assert tokens.content.tolist() == [[True] * 3, [False] * 3]
    assert VectorEncoder(2).encode([np.ones((0, 2))]).features.shape == (1, 1, 2)


def test_max_tokens_cuts_and_says_so() -> None:
    encoder = VectorEncoder(2, max_tokens=3)
    assert encoder.encode([np.ones((5, 2))]).features.shape == (1, 3, 2)
    assert encoder.unseen(np.ones((5, 2))) == ((3, 5),)
    assert encoder.unseen(np.ones((3, 2))) == ()
    assert encoder.fingerprint != VectorEncoder(2).fingerprint


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, ">f4", np.uint16, bool])
def test_any_number_type_is_read(tmp_path: Path, dtype: object) -> None:
    path = npy(tmp_path / "a.npy", np.ones((2, 2), dtype=dtype))
    assert VectorEncoder(2).encode([path]).features.tolist() == [[[1.0, 1.0]] * 2]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_is_named_by_file_and_token(tmp_path: Path, value: float) -> None:
    array = np.zeros((4, 3))
    array[2, 1] = value
    with pytest.raises(InputError, match=r"x7\.npy: NaN or infinity at token 2, channel 1"):
        VectorEncoder(3).encode([npy(tmp_path / "x7.npy", array)])


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    good = npy(tmp_path / "good.npy", np.ones((4, 3)))
    (tmp_path / "cut.npy").write_bytes(good.read_bytes()[:-20])
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "junk.safetensors").write_bytes(b"\xff" * 50)
    (tmp_path / "a.txt").write_text("1 2 3")
    (tmp_path / "folder.npy").mkdir()
    save_file({"a": torch.zeros(1, 3), "b": torch.zeros(1, 3)}, tmp_path / "two.safetensors")
    npy(tmp_path / "rank.npy", np.ones(3))
    npy(tmp_path / "width.npy", np.ones((4, 2)))
    npy(tmp_path / "words.npy", np.array([["a"]]))
    npy(tmp_path / "complex.npy", np.ones((4, 3), dtype=complex))
    cases = {
        "missing.npy": "no such file",
        "cut.npy": "cannot be read",
        "empty.npy": "cannot be read",
        "junk.safetensors": "cannot be read",
        "a.txt": "a .txt file",
        "folder.npy": "not a regular file",
        "two.safetensors": "2 tensors",
        "rank.npy": r"shape \(3,\)",
        "width.npy": "width 2",
        "words.npy": "an array of <U1",
        "complex.npy": "an array of complex128",
    }
    for name, found in cases.items():
        with pytest.raises(InputError, match=found) as caught:
            VectorEncoder(3).encode([good, tmp_path / name])
        assert str(tmp_path / name) in str(caught.value)


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    path = npy(tmp_path / "a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Bomb()))
    for bad in (path, tmp_path / "b.npy"):
        with pytest.raises(InputError, match="cannot be read"):
            VectorEncoder(1).encode([bad])
    assert not marker.exists()


def test_the_width_is_asked_for() -> None:
    with pytest.raises(InputError, match="give width"):
        load_encoder("vector")

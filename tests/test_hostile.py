"""Run folders, explanations and features from strangers: refused, and nothing of them runs."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fli2moe.errors import FLI2MoEError, InputError
from fli2moe.explain.store import read_explanations
from fli2moe.predictor import Predictor
from fli2moe.runs import report_run


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    "name", ["model.safetensors", "baseline.safetensors", "selftest.safetensors", "predictor.json"]
)
def test_a_pickle_in_place_of_a_file_is_not_opened(run: Path, tmp_path: Path, name: str):
    marker = tmp_path / "ran"
    (run / name).write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(InputError):
        Predictor.load(run)
    assert not marker.exists()


def test_a_pickle_beside_the_files_is_not_looked_at(run: Path, tmp_path: Path):
    marker = tmp_path / "ran"
    for name in ("pytorch_model.bin", "model.pt", "checkpoint.ckpt", "training_args.bin"):
        (run / name).write_bytes(pickle.dumps(Bomb(marker)))
    assert Predictor.load(run)
    assert not marker.exists()


HUGE = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 10**12]}}).encode()


def header(size: int, text: bytes) -> bytes:
    return struct.pack("<Q", size) + text


@pytest.mark.parametrize(
    "content",
    [
        header(2**63, b"{}"),
        header(100, b"{}"),
        header(4, b"null"),
        header(len(HUGE), HUGE),
        b"",
        b"\x00" * 7,
    ],
)  # fmt: skip
def test_a_header_that_lies_is_refused(run: Path, content: bytes):
    (run / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError):
        Predictor.load(run)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system"])
def test_yaml_tags_run_nothing(run: Path, tmp_path: Path, tag: str):
    marker = tmp_path / "ran"
    (run / "config.yaml").write_text(f'preset: {tag} ["touch {marker}"]\n')
    with pytest.raises(InputError, match=r"config\.yaml"):
        Predictor.load(run)
    assert not marker.exists()


def test_aliases_that_multiply_are_refused_or_small(run: Path):
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    (run / "config.yaml").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError):
        Predictor.load(run)


@pytest.mark.parametrize("file", ["../../secret.parquet", "/etc/passwd", "..", "a/../../b"])
def test_a_manifest_of_explanations_leads_nowhere_else(run: Path, tmp_path: Path, file: str):
    (tmp_path / "secret.parquet").write_bytes(b"secret")
    folder = run / "explanations"
    folder.mkdir()
    part = {"file": file, "rows": 1, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps({"format": "x", "parts": [part]}))
    with pytest.raises(InputError) as caught:
        list(read_explanations(folder))
    assert "secret" not in caught.value.found
    assert str(caught.value).startswith(str(folder))  # inside, or the manifest itself


def test_explanations_that_are_none_are_one_line(run: Path):
    folder = run / "explanations"
    folder.mkdir()
    for text in ("[]", "{", '{"parts": 3}', '{"parts": [{"file": 3, "sha256": 4}]}', "null"):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(FLI2MoEError):
            report_run(run)


def test_features_with_objects_are_refused(tmp_path: Path):
    from fli2moe.encoders import load_encoder

    marker = tmp_path / "ran"
    np.save(tmp_path / "f.npy", np.array([[Bomb(marker)]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        load_encoder("vector", width=1).encode([tmp_path / "f.npy"])
    assert not marker.exists()


def refusal(run: Path) -> str:
    """The error that loading gives, empty where it loads."""
    try:
        Predictor.load(run)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["config.json", "predictor.json", "training.json", "metrics.json"])
def test_json_that_is_something_else_is_one_line_or_left_out(run: Path, name: str):
    for text in ("[]", "3", '"x"', "null", "{}", "[" * 100_000):
        (run / name).write_text(text)
        said = refusal(run)
        assert "\n" not in said
        assert bool(said) == (name in ("config.json", "predictor.json"))


@pytest.mark.parametrize("name", ["f.npz", "f.joblib", "f.pkl", "f.pt"])
def test_other_carriers_of_pickles_are_refused_by_their_name(tmp_path: Path, name: str):
    from fli2moe.encoders import load_encoder

    marker = tmp_path / "ran"
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(InputError):
        load_encoder("vector", width=1).encode([tmp_path / name])
    assert not marker.exists()


def test_a_million_tensors_are_refused_in_bounded_memory(run: Path):
    one = b'"%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = b"{" + b",".join(one % n for n in range(1_000_000)) + b"}"
    (run / "model.safetensors").write_bytes(header(len(text), text))
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        Predictor.load(run)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(text)
    assert len(str(caught.value)) < 1000  # not a million names

"""Explanations on disk come back as they were, or say what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest

from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.store import PART_ROWS, read_explanations, write_explanations
from fli2moe.predictor import Predictor


@pytest.fixture(scope="module")
def explanation(predictor: Predictor, dataset: Dataset) -> Explanation:
    sample = dataset.test[0]
    return predictor.explain(sample.inputs, sample_id="s0", labels=sample.labels, budget=60)


def many(explanation: Explanation, count: int) -> list[Explanation]:
    return [replace(explanation, sample_id=f"s{i}") for i in range(count)]


def as_json(explanations: object) -> list[str]:
    return [e.to_json() for e in explanations]  # type: ignore[attr-defined]


def test_they_come_back_in_order(explanation: Explanation, tmp_path: Path):
    written = many(explanation, PART_ROWS + 3)
    assert write_explanations(iter(written), tmp_path) == PART_ROWS + 3
    assert as_json(read_explanations(tmp_path)) == as_json(written)
    assert len(list(tmp_path.glob("part-*.parquet"))) == 2


def test_columns_can_be_read_by_anyone(explanation: Explanation, tmp_path: Path):
    write_explanations([explanation], tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / "part-00000.parquet").to_pylist()
    assert [row | {"explanation": ""} for row in table] == [
        {
            "id": "s0",
            "target": explanation.target,
            "probability": explanation.probabilities[explanation.class_index],
            "labels": list(explanation.labels),
            "explanation": "",
        }
    ]


def test_writing_again_replaces_everything(explanation: Explanation, tmp_path: Path):
    write_explanations(many(explanation, PART_ROWS + 1), tmp_path)
    assert write_explanations(many(explanation, 2), tmp_path) == 2
    assert [e.sample_id for e in read_explanations(tmp_path)] == ["s0", "s1"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "part-00000.parquet"]
    assert write_explanations([], tmp_path) == 0
    assert list(read_explanations(tmp_path)) == []


def test_nothing_there_names_the_command(tmp_path: Path):
    with pytest.raises(InputError, match=r"no explanations; run `fli2moe explain` first"):
        next(read_explanations(tmp_path))


@pytest.mark.parametrize("damage", ["flip", "gone"])
def test_a_damaged_part_is_named(explanation: Explanation, tmp_path: Path, damage: str):
    write_explanations([explanation], tmp_path)
    part = tmp_path / "part-00000.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    if damage == "gone":
        part.unlink()
    with pytest.raises(InputError, match=r"part-00000\.parquet: missing or damaged; .*again"):
        list(read_explanations(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"parts": [{}]}', '{"parts": 3}'])
def test_a_damaged_manifest_is_one_line(tmp_path: Path, content: str):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json: .*run `fli2moe explain` again"):
        list(read_explanations(tmp_path))


def test_the_manifest_is_written_last(explanation: Explanation, tmp_path: Path):
    def interrupted() -> object:
        yield from many(explanation, PART_ROWS)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_explanations(interrupted(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["part-00000.parquet"]
    data = json.loads(as_json(many(explanation, 1))[0])
    assert data["sample_id"] == "s0"

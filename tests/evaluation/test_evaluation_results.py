"""samples.parquet: what is written is read, null is not 0, and other files are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from fli2moe import __version__
from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError, MachineError
from fli2moe.evaluation.results import FORMAT, read_samples, write_samples
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.features import default_cache
from fli2moe.predictor import Predictor
from fli2moe.task import Task


@pytest.fixture(scope="module")
def split(predictor: Predictor, dataset: Dataset, tiny_run: Path) -> TestSplit:
    return run_split(predictor, dataset.test, default_cache(tiny_run))


def test_a_row_per_test_sample_with_what_the_model_says(
    predictor: Predictor, split: TestSplit, tmp_path: Path
):
    path = tmp_path / "new" / "samples.parquet"
    write_samples(path, predictor, split, [])
    found = read_samples(path)
    assert found["id"].tolist() == [s.id for s in split.samples]
    weights = [f"weight_{expert}" for expert in predictor.model.experts]
    assert list(found) == ["id", "labels", "predicted", "correct", "probability", *weights]
    assert found[weights].sum(axis=1).to_numpy() == pytest.approx(np.ones(len(found)), abs=1e-5)
    for i, row in enumerate(found.to_dict("records")):
        said = predictor.predict_tokens(split.tokens(i))[0]
        assert list(row["labels"]) == list(split.samples[i].labels)
        assert list(row["predicted"]) == list(said.labels)
        assert row["correct"] == (set(said.labels) == set(row["labels"]))
        first = predictor.task.classes[split.targets[i][0]]
        assert row["probability"] == pytest.approx(said.probabilities[first], abs=1e-5)
    assert not found["correct"].all()


def test_one_label_per_sample(predictor: Predictor, split: TestSplit, tmp_path: Path):
    task = Task("multiclass", predictor.task.classes)
    predicted = task.predict(split.logits)
    target = predicted.clone()
    target[0] = (target[0] + 1) % len(task.classes)
    split = replace(split, target=target, targets=task.targets(split.logits))
    write_samples(tmp_path / "s.parquet", replace(predictor, task=task), split, [])
    found = read_samples(tmp_path / "s.parquet")
    assert found["correct"].tolist() == [False] + [True] * (len(found) - 1)
    assert [list(names) for names in found["predicted"]] == [[task.classes[c]] for c in predicted]


def test_columns_of_parts_are_numbers_and_null_where_nothing_was_measured(
    predictor: Predictor, split: TestSplit, tmp_path: Path
):
    path = tmp_path / "samples.parquet"
    parts = [{1: {"a.x": 0.5, "a.y": 0.0}, 3: {"a.x": -1.0}}, {}, {0: {"b.z": float("nan")}}]
    write_samples(path, predictor, split, parts)
    table = pyarrow.parquet.read_table(path)
    assert table.column_names[-3:] == ["a.x", "a.y", "b.z"]
    size = len(split.samples)
    assert table["a.x"].to_pylist() == [None, 0.5, None, -1.0] + [None] * (size - 4)
    assert table["a.y"].to_pylist() == [None, 0.0] + [None] * (size - 2)
    assert table["b.z"].to_pylist() == [None] * size
    assert {table.schema.field(c).type for c in table.column_names[-3:]} == {pyarrow.float64()}


def test_metadata_say_which_model_and_format(
    predictor: Predictor, split: TestSplit, tmp_path: Path
):
    path = tmp_path / "samples.parquet"
    write_samples(path, predictor, split, [])
    assert pyarrow.parquet.read_schema(path).metadata == {
        b"format": FORMAT.encode(),
        b"version": __version__.encode(),
        b"fingerprint": predictor.fingerprint.encode(),
        b"seed": str(predictor.config.seed).encode(),
    }
    assert read_samples(path).attrs == {"fingerprint": predictor.fingerprint}


def test_labels_are_lists_of_names_even_where_there_is_none(
    predictor: Predictor, split: TestSplit, tmp_path: Path
):
    samples = [replace(s, labels=()) for s in split.samples]
    write_samples(tmp_path / "s.parquet", predictor, replace(split, samples=samples), [])
    schema = pyarrow.parquet.read_schema(tmp_path / "s.parquet")
    assert schema.field("labels").type == pyarrow.list_(pyarrow.string())


def test_a_missing_damaged_or_foreign_file_is_refused_in_one_line(
    predictor: Predictor, split: TestSplit, tmp_path: Path
):
    path = tmp_path / "samples.parquet"
    remedy = "run `fli2moe evaluate` again"

    def message() -> str:
        with pytest.raises(InputError) as caught:
            read_samples(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(remedy)
        return str(caught.value)

    assert "no such file" in message()
    path.write_bytes(b"PAR1 this is no Parquet")
    assert "cannot be read" in message()
    write_samples(path, predictor, split, [])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in message()
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), path)
    assert "format 'unknown'; expected fli2moe/samples/1" in message()
    other = pyarrow.table({"id": ["a"]}).replace_schema_metadata({"format": "fli2moe/samples/9"})
    pyarrow.parquet.write_table(other, path)
    assert "format 'fli2moe/samples/9'" in message()


def test_a_folder_that_cannot_be_written_is_the_machines_fault(
    predictor: Predictor, split: TestSplit, tmp_path: Path
):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot write"):
        write_samples(tmp_path / "file" / "samples.parquet", predictor, split, [])

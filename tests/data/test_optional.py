"""A modality that may be missing: an empty cell of it is no fault, a row without any is."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fli2moe.cli import app
from fli2moe.data.check import check_manifest
from fli2moe.data.manifest import read_manifest
from fli2moe.errors import InputError


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_cell_is_a_sample_without_the_modality(folder, suffix: str, empty: str) -> None:
    path = folder.write(folder.rows(image=empty), f"manifest{suffix}")
    dataset = read_manifest(path, optional=["image"])
    assert [set(s.inputs) for s in dataset.samples] == [
        {"text"} if n == 2 else {"text", "image"} for n in range(6)
    ]
    assert "1 of 6 rows have no 'image'" in dataset.notes
    text = read_manifest(folder.write(folder.rows(text=empty)), optional=["text", "image"])
    assert set(text.samples[2].inputs) == {"image"}
    assert not any("empty" in note for note in text.notes)


def test_a_null_is_an_empty_cell(folder) -> None:
    path = folder.write(folder.rows(image=None), "manifest.jsonl")
    assert set(read_manifest(path, optional=["image"]).samples[2].inputs) == {"text"}


def test_without_the_option_an_empty_path_is_a_fault_and_an_empty_text_a_text(folder) -> None:
    with pytest.raises(InputError, match=r"line 4, column 'image', id '002': an empty path"):
        read_manifest(folder.write(folder.rows(image="")), optional=["text"])
    dataset = read_manifest(folder.write(folder.rows(text="")), optional=["image"])
    assert dataset.samples[2].inputs["text"] == ""


def test_a_row_without_any_modality_is_a_fault(folder) -> None:
    path = folder.write(folder.rows(text="", image=" "))
    message = r"line 4, id '002': a sample without any modality; expected at least one of .*; take"
    with pytest.raises(InputError, match=message):
        read_manifest(path, optional=["text", "image"])
    report = check_manifest(path, optional=["text", "image"])
    assert report.total == 1
    assert report.rows == 6


def test_what_is_there_is_still_checked(folder) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_manifest(folder.write(folder.rows(image="nowhere.png")), optional=["image"])


def test_an_unknown_optional_modality_names_the_closest(folder) -> None:
    with pytest.raises(InputError, match=r"optional: .*'imge'.*did you mean 'image'"):
        read_manifest(folder.write(folder.rows()), optional=["imge"])


def test_the_check_of_the_command_line_takes_it_too(folder) -> None:
    path = str(folder.write(folder.rows(image="")))
    assert CliRunner().invoke(app, ["data", "check", path]).exit_code == 2
    found = CliRunner().invoke(app, ["data", "check", path, "--optional", "image"])
    assert found.exit_code == 0
    assert "have no 'image'" in found.output

"""A configuration for a table of one's own: what is guessed, and that `train` accepts it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from fli2moe.cli import app
from fli2moe.config import Config
from fli2moe.data.guess import guess_table
from fli2moe.data.load import load_dataset
from fli2moe.errors import InputError


def write(folder: Path, columns: dict[str, list[str]], name: str = "my.csv") -> Path:
    rows = list(zip(*columns.values(), strict=True))
    lines = [",".join(columns), *(",".join(f'"{cell}"' for cell in row) for row in rows)]
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for k in range(30):
        Image.new("RGB", (32, 32), (8 * k, 0, 0)).save(tmp_path / f"{k}.png")
    return write(
        tmp_path,
        {
            "film_id": [f"f{k}" for k in range(30)],
            "year": [str(1990 + k % 3) for k in range(30)],
            "poster": [f"{k}.png" for k in range(30)],
            "plot": [f"a story of number {k} and more" if k else "" for k in range(30)],
            "genre": [("drama", "comedy", "drama|comedy")[k % 3] for k in range(30)],
        },
    )


def test_a_table_is_understood(table: Path):
    found = guess_table(table)
    assert found.modalities == {"plot": "text", "poster": "image"}
    assert (found.id, found.label, found.split) == ("film_id", "genre", "")
    assert found.separator == "|"
    assert found.classes == {"drama": 20, "comedy": 20}
    assert found.optional == ["plot"]
    assert list(found.left_out) == ["year"]


def test_the_configuration_loads_the_data(table: Path):
    result = CliRunner().invoke(app, ["init", str(table)])
    assert result.exit_code == 0, result.output
    path = table.with_suffix(".yaml")
    text = path.read_text(encoding="utf-8")
    assert "# not used: year" in text
    assert "optional: true" in text
    assert "path: " + json.dumps("my.csv") in text
    dataset = load_dataset(Config.from_yaml(path).data)
    assert len(dataset) == 30
    assert dataset.modalities == {"plot": "text", "poster": "image"}
    assert dataset.multilabel
    assert f"fli2moe train {path}" in result.output
    again = CliRunner().invoke(app, ["init", str(table)])
    assert again.exit_code == 2
    assert CliRunner().invoke(app, ["init", str(table), "--overwrite"]).exit_code == 0


@pytest.mark.slow
def test_train_accepts_it(table: Path, tmp_path: Path):
    run = CliRunner().invoke
    assert run(app, ["init", str(table)]).exit_code == 0
    options = ["--set", "training.epochs=1", "--set", "training.batch_size=8"]
    config = str(table.with_suffix(".yaml"))
    result = run(app, ["train", config, "--out", str(tmp_path / "run"), *options])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "predictor.json").is_file()


def test_a_split_column_is_used_or_said_to_be_nearly_one(tmp_path: Path):
    columns = {
        "id": [str(k) for k in range(12)],
        "text": ["some words here"] * 12,
        "label": ["a", "b"] * 6,
        "split": ["train"] * 8 + ["val"] * 2 + ["test"] * 2,
    }
    assert guess_table(write(tmp_path, columns)).split == "split"
    columns["subset"] = [s.replace("val", "dev") for s in columns.pop("split")]
    found = guess_table(write(tmp_path, columns, "other.csv"))
    assert found.split == ""
    assert "rename" in found.left_out["subset"]


def test_the_label_may_be_said(table: Path):
    assert guess_table(table, label="year").label == "year"
    with pytest.raises(InputError, match=r"label column 'yeer'.*'year'"):
        guess_table(table, label="yeer")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["1", "2", "3"], "text": ["a b c", "d e f", "g h i"]}, "--label COLUMN"),
        ({"text": ["a b c"] * 6, "label": ["x", "y"] * 3}, "no column can be the id"),
        ({"id": ["1", "2"], "n": ["4", "4"], "label": ["x", "y"]}, "no modality"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    tmp_path: Path, columns: dict[str, list[str]], message: str
):
    with pytest.raises(InputError, match=message):
        guess_table(write(tmp_path, columns))


ODD = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='",\n\r'), min_size=1
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(ODD, min_size=3, max_size=3, unique_by=lambda s: s.strip().casefold()))
def test_any_column_name_gives_a_valid_configuration(tmp_path: Path, names: list[str]):
    values = [[str(k) for k in range(9)], ["some longer words"] * 9, ["x", "y", "z"] * 3]
    path = write(tmp_path, {f'"{n}"': v for n, v in zip(names, values, strict=True)})
    try:
        found = guess_table(path, label=names[2])
    except InputError:
        return  # a name that no table may have
    (tmp_path / "c.yaml").write_text(found.to_yaml(tmp_path), encoding="utf-8")
    config = Config.from_yaml(tmp_path / "c.yaml")
    assert config.data.label_column == names[2]
    assert config.data.id_column == names[0]

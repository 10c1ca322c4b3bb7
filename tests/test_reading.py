"""Bad samples stop the work, or are left out, counted and told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fli2moe.config import Config
from fli2moe.data.load import load_dataset
from fli2moe.errors import InputError
from fli2moe.predictor import Predictor
from fli2moe.runs import evaluate_run, train_run


@pytest.fixture
def poisoned(manifest: Path, tmp_path: Path) -> Path:
    """Of 144 rows: a missing picture, an id twice, and two pictures that are none."""
    folder = tmp_path / "data"
    shutil.copytree(manifest.parent, folder)
    path = folder / manifest.name
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines]
    pictures = [row[1] for row in rows]
    (folder / pictures[3]).unlink()
    for k in (7, -1):
        (folder / pictures[k]).write_bytes(b"<html>not found</html>")
    second = lines[10].split(",", 1)
    lines[10] = f"{rows[9][0]},{second[1]}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def config_of(make_config: Any, path: Path, **data: Any) -> Config:
    values = make_config().model_dump(mode="json")
    values["data"] |= {"path": str(path), **data}
    return Config.from_dict(values)


def test_the_first_bad_row_stops_it_by_default(make_config: Any, poisoned: Path):
    with pytest.raises(InputError, match="line 4"):
        load_dataset(config_of(make_config, poisoned).data)


def test_bad_rows_are_left_out_and_told(make_config: Any, poisoned: Path, tmp_path: Path):
    config = config_of(make_config, poisoned, on_bad="skip")
    rows = load_dataset(config.data)
    assert [r.row for r in rows.rejected] == [4, 11]
    assert len(rows) == 142
    run = tmp_path / "run"
    train_run(config, run)
    rejects = [json.loads(line) for line in (run / "rejects.jsonl").read_text().splitlines()]
    assert len(rejects) == 4
    assert [r["row"] for r in rejects] == [4, 11, None, None]
    assert all("\n" not in r["reason"] for r in rejects)
    assert sum("picture" in r["reason"] for r in rejects) >= 2
    metrics = evaluate_run(run, options={"evaluation.parts": ["interaction_share"]})
    assert metrics["data"]["test_samples"] == 23
    assert Predictor.load(run)


def test_too_many_are_an_error(make_config: Any, poisoned: Path, tmp_path: Path):
    few = config_of(make_config, poisoned, on_bad="skip", max_bad_share=0.01)
    with pytest.raises(InputError, match=r"2 of 144 samples are bad .*line 4.*at most 1%"):
        load_dataset(few.data)
    some = config_of(make_config, poisoned, on_bad="skip", max_bad_share=0.02)
    with pytest.raises(InputError, match=r"4 of 144 samples are bad"):
        train_run(some, tmp_path / "run")


def test_a_fault_of_the_whole_file_always_stops_it(make_config: Any, poisoned: Path):
    lines = poisoned.read_text(encoding="utf-8").splitlines()
    poisoned.write_text("\n".join(line for line in lines if ",val," not in line) + "\n")
    with pytest.raises(InputError, match="no row in split 'val'"):
        load_dataset(config_of(make_config, poisoned, on_bad="skip").data)
    poisoned.write_text("id,text\n1,x\n")
    with pytest.raises(InputError, match="no column"):
        load_dataset(config_of(make_config, poisoned, on_bad="skip").data)


def test_a_sound_data_set_has_no_rejects(make_config: Any, manifest: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "rejects.jsonl").write_text("of an earlier try\n")
    train_run(config_of(make_config, manifest, on_bad="skip"), run)
    assert not (run / "rejects.jsonl").exists()

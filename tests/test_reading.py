"""Bad samples stop the work, or are left out, counted and told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

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


def test_bad_rows_are_left_out_and_told(
    make_config: Any, poisoned: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
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
    assert [Path(r["path"]).suffix for r in rejects] == [".csv", ".csv", ".png", ".png"]
    said = [record.getMessage() for record in caplog.records]
    assert f"data: 4 of 144 samples left out (2.8%), see {run / 'rejects.jsonl'}" in said
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


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def bomb(path: Path) -> None:
    Image.new("1", (9000, 9000)).save(path)


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 255  # a checksum of the last chunks
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def unlinked(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.png")


@pytest.mark.parametrize("spoil", [truncated, bomb, damaged, empty, unlinked])
def test_a_picture_that_is_bad_in_any_way_is_left_out(
    make_config: Any, manifest: Path, tmp_path: Path, spoil: Any
):
    folder = tmp_path / "data"
    shutil.copytree(manifest.parent, folder)
    rows = (folder / manifest.name).read_text(encoding="utf-8").splitlines()
    id, picture = rows[5].split(",")[:2]
    spoil(folder / picture)
    config = config_of(make_config, folder / manifest.name, on_bad="skip")
    run = tmp_path / "run"
    train_run(config, run)
    (line,) = (run / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["id"] == id
    stopping = config_of(make_config, folder / manifest.name)
    with pytest.raises(InputError, match=rf"(?s){id}|line 6"):
        train_run(stopping, tmp_path / "other")


def test_a_ragged_row_is_left_out(make_config: Any, manifest: Path, tmp_path: Path):
    folder = tmp_path / "data"
    shutil.copytree(manifest.parent, folder)
    path = folder / manifest.name
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[8] += ",one,too,many"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = load_dataset(config_of(make_config, path, on_bad="skip").data)
    assert [r.row for r in found.rejected] == [9]
    assert len(found) == 143
    with pytest.raises(InputError, match="line 9"):
        load_dataset(config_of(make_config, path).data)


def test_a_manifest_without_test_rows_is_one_line(make_config: Any, manifest: Path, tmp_path: Path):
    folder = tmp_path / "data"
    shutil.copytree(manifest.parent, folder)
    path = folder / manifest.name
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if ",test," not in line]
    assert len(kept) == 121
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="no row in split 'test'"):
        load_dataset(config_of(make_config, path).data)


def test_classes_that_changed_after_training_are_refused(
    make_config: Any, manifest: Path, tmp_path: Path
):
    folder = tmp_path / "data"
    shutil.copytree(manifest.parent, folder)
    path = folder / manifest.name
    run = tmp_path / "run"
    train_run(config_of(make_config, path), run)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("sunny", "rainy"), encoding="utf-8")
    with pytest.raises(InputError, match="rainy"):
        evaluate_run(run, options={"evaluation.parts": ["interaction_share"]})


def test_texts_that_are_cut_are_counted(
    make_config: Any, tmp_path: Path, manifest: Path, caplog: pytest.LogCaptureFixture
):
    config = make_config()
    values = config.model_dump(mode="json")
    values["data"]["modalities"]["text"]["max_tokens"] = 5
    train_run(Config.from_dict(values), tmp_path / "run")
    said = [r.getMessage() for r in caplog.records if "longer than their encoder" in r.getMessage()]
    assert said == [
        "text: 96 of 96 training texts looked at are longer than their encoder reads (100%)"
    ]
    caplog.clear()
    train_run(config, tmp_path / "other")
    assert "longer than" not in caplog.text

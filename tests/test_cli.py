"""The command line: one clear line for what is wrong, and a whole small run."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from fli2moe import __version__
from fli2moe.cli import app

MAIN = [sys.executable, "-c", "from fli2moe.cli import main; main()"]


@dataclass(frozen=True)
class Answer:
    """What a command said; `line` is the one line of an error."""

    code: int
    out: str
    line: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command in this process."""
    monkeypatch.setenv("FLI2MOE_DEBUG", "")

    def run(*arguments: object) -> Answer:
        done = CliRunner().invoke(app, [str(a) for a in arguments])
        assert "Traceback" not in done.output
        return Answer(done.exit_code, done.stdout, done.stderr.strip())

    return run


def write_table(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(folder: Path, count: int = 24) -> list[dict[str, str]]:
    """Three classes told by the colour, and by a word."""
    (folder / "pictures").mkdir(exist_ok=True)
    rows = []
    for i in range(count):
        colour = ("red", "green", "blue")[i % 3]
        name = f"pictures/{i}.png"
        Image.new("RGB", (32, 32), colour).save(folder / name)
        split = "train" if i < count - 12 else ("val" if i < count - 6 else "test")
        text = f"a {colour} [bold]thing[/bold] number {i}"
        rows.append(
            {"id": f"{i:03d}", "text": text, "image": name, "label": colour, "split": split}
        )
    return rows


def write_config(path: Path, **changes: Any) -> Path:
    data = {
        "preset": "demo",
        "data": {
            "path": "m.csv",
            "modalities": {
                "text": {"encoder": "builtin:words"},
                "image": {"encoder": "builtin:patches"},
            },
        },
        "model": {"hidden": 16, "layers": 1, "heads": 2},
        "training": {"epochs": 2, "batch_size": 8},
        "explain": {"budget": 60},
        "evaluation": {
            "samples": 3,
            "head_samples": 1,
            "check_samples": 2,
            "pair_contexts": 2,
            "pair_samples": 2,
            "budget": 100,
            "random_draws": 2,
        },
    }
    for name, values in changes.items():
        data[name] = {**data.get(name, {}), **values} if isinstance(values, dict) else values
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A manifest and a configuration that would train."""
    write_table(tmp_path / "m.csv", rows_of(tmp_path))
    write_config(tmp_path / "c.yaml")
    return tmp_path


def refused(answer: Answer, *parts: str, code: int = 2) -> None:
    """One line that holds all parts, in order."""
    assert answer.code == code
    assert answer.line.startswith("fli2moe: ")
    assert "\n" not in answer.line
    rest = answer.line
    for part in parts:
        assert part in rest, f"{part!r} not in {rest!r}"
        rest = rest.split(part, 1)[1]


def change_row(project: Path, number: int, **values: str) -> None:
    with (project / "m.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows[number].update(values)
    write_table(project / "m.csv", rows)


def train(cli: Any, project: Path, *more: object) -> Answer:
    answer: Answer = cli("train", project / "c.yaml", "--out", project / "run", *more)
    return answer


def test_a_whole_run_from_a_table_to_a_report(cli: Any, project: Path):
    change_row(project, 23, text="")  # a test sample without a word
    run = project / "run"
    answer = train(cli, project)
    assert answer.code == 0, answer.line
    assert "fli2moe  epoch   2" in answer.out
    assert "note: data: 1 of 24 rows have an empty 'text'" in answer.out
    assert answer.out.endswith(f"trained: {run}\n")
    answer = cli("evaluate", run)
    assert answer.code == 0, answer.line
    assert "Faithfulness" in answer.out
    assert answer.out.endswith(f"metrics: {run / 'metrics.json'}\n")
    metrics = json.loads((run / "metrics.json").read_text())
    assert "accuracy_per_label" not in metrics["task"]
    assert metrics["data"]["test_samples"] == 6
    more = ("--set", "evaluation.samples=2", "--set", "evaluation.probe=false", "--seed", 4)
    assert cli("evaluate", run, *more).code == 0
    settings = json.loads((run / "metrics.json").read_text())["settings"]
    assert (settings["samples"], settings["seed"]) == (2, 4)
    answer = cli("explain", run, "--limit", 9, "--set", "explain.attribution=gradient_x_input")
    assert answer.code == 0, answer.line
    assert answer.out.endswith(f"6 explanations: {run / 'explanations'}\n")
    answer = cli("report", run)
    assert (answer.code, answer.out) == (0, f"report: {run / 'report.html'}\n")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Faithfulness" in page
    picture = project / "pictures" / "1.png"
    answer = cli("probe", run, "--text", "a [bold]red[/bold] thing", f"--image={picture}")
    assert answer.code == 0, answer.line
    assert answer.out.startswith(("red: ", "green: ", "blue: "))
    assert "synergy, read on mixture:\n  " in answer.out
    assert "redundancy, read on mixture:\n  " in answer.out
    assert " × patch (" in answer.out or "patch (" in answer.out
    inputs = ("--text", "a red thing", "--image", picture)
    answer = cli("probe", run, "--head", "synergy", *inputs)
    assert "synergy, read on synergy:\n  " in answer.out
    assert "redundancy, read on synergy:\n  " in answer.out
    refused(cli("probe", run, "--head", "sinergy", *inputs), "head 'sinergy'", "'synergy'")


def test_an_existing_run_needs_overwrite(cli: Any, project: Path):
    assert train(cli, project, "--set", "training.epochs=1").code == 0
    answer = train(cli, project)
    refused(answer, str(project / "run"), "holds a trained model", "a new folder", "--overwrite")
    assert train(cli, project, "--overwrite", "--seed", 5, "--set", "training.epochs=1").code == 0
    assert "seed: 5\n" in (project / "run" / "config.yaml").read_text()


def test_a_missing_manifest(cli: Any, project: Path):
    (project / "m.csv").rename(project / "n.csv")
    refused(train(cli, project), "m.csv", "no such file")
    assert not (project / "run").exists()


def test_a_wrong_column(cli: Any, project: Path):
    write_table(
        project / "m.csv",
        [{("lable" if k == "label" else k): v for k, v in r.items()} for r in rows_of(project)],
    )
    refused(train(cli, project), "m.csv", "no column 'label'", "rename column 'lable'")


def test_a_missing_picture_names_row_and_id(cli: Any, project: Path):
    change_row(project, 4, image="pictures/gone.png")
    refused(train(cli, project), "m.csv, line 6", "column 'image'", "'004'", "gone.png")


def test_an_unreadable_picture_names_the_sample(cli: Any, project: Path):
    (project / "pictures" / "4.png").write_bytes(b"no picture at all")
    refused(train(cli, project), "sample 004", "modality image", "4.png")
    assert not (project / "run" / "predictor.json").exists()


def test_an_unknown_label_names_the_row_and_the_nearest(cli: Any, project: Path):
    write_config(project / "c.yaml", data=_data(classes=["red", "green", "blue"]))
    change_row(project, 2, label="blu")
    refused(train(cli, project), "m.csv, line 4", "'label'", "'blu'", "'blue'")


def _data(**values: Any) -> dict[str, Any]:
    modalities = {"text": {"encoder": "builtin:words"}, "image": {"encoder": "builtin:patches"}}
    return {"path": "m.csv", "modalities": modalities, **values}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"training": {"epoch": 3}}, ("c.yaml: training.epoch: unknown key", "'epochs'")),
        ({"training": {"learning_rate": -1}}, ("training.learning_rate: -1", "greater than 0")),
        ({"presett": "demo"}, ("presett: unknown key", "did you mean 'preset'")),
        ({"preset": "dmeo"}, ("preset: unknown preset 'dmeo'", "did you mean 'demo'")),
    ],
)
def test_a_bad_configuration(
    cli: Any, project: Path, changes: dict[str, Any], parts: tuple[str, ...]
):
    write_config(project / "c.yaml", **changes)
    refused(train(cli, project), *parts)


def test_a_missing_configuration_names_the_nearest(cli: Any, project: Path):
    answer = cli("train", project / "cc.yaml", "--out", project / "run")
    refused(answer, "cc.yaml: no such file", "did you mean c.yaml")


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("training.epochs", ("--set training.epochs: no =", "section.key=value")),
        ("=3", ("--set =3: no =",)),
        ("training.epoch=3", ("training.epoch: unknown key", "'epochs'")),
        ("seed.x=3", ("seed: {'x': 3}", "integer")),
        ("training.epochs=[", ("--set training.epochs=[",)),
        ("training.epochs=many", ("training.epochs: 'many'",)),
    ],
)
def test_a_bad_override(cli: Any, project: Path, given: str, parts: tuple[str, ...]):
    refused(train(cli, project, "--set", given), *parts)


def test_an_option_that_the_encoder_does_not_have(cli: Any, project: Path):
    answer = train(cli, project, "--set", "data.modalities.text.pool=3")
    refused(answer, "data.modalities.text.pool: 3", "max_tokens", "remove it")


@pytest.mark.parametrize("command", ["evaluate", "explain", "report", "probe"])
def test_no_run_folder(cli: Any, tmp_path: Path, command: str):
    answer = cli(command, tmp_path / "none")
    refused(answer, "none: no such run folder; expected a folder written by `fli2moe train`")


def test_a_folder_that_is_no_run(cli: Any, tmp_path: Path):
    refused(cli("evaluate", tmp_path), "predictor.json: no such file")


def test_an_unknown_split_sample_target_and_modality(cli: Any, tiny_run: Path):
    refused(cli("explain", tiny_run, "--split", "tset"), "unknown split 'tset'", "train, val, test")
    refused(cli("explain", tiny_run, "--set", "training.epochs=3"), "fixed when", "explain.key")
    refused(cli("evaluate", tiny_run, "--set", "seed=3"), "--set seed: fixed when the model was")
    refused(cli("explain", tiny_run, "--id", "x"), "--id x: no such sample in split test")
    inputs = ("--text", "a dog", "--image", "gone.png")
    refused(cli("probe", tiny_run, "--target", "dgo", *inputs), "'dgo'", "'dog'")
    refused(cli("probe", tiny_run, *inputs), "gone.png")
    refused(cli("probe", tiny_run, "--text", "a"), "no image", "text, image")
    refused(cli("probe", tiny_run, "--txt", "a"), "unknown modality 'txt'", "'text'")
    refused(cli("probe", tiny_run, "--text"), "no value after --text")
    refused(cli("probe", tiny_run, "a dog"), "unexpected 'a dog'", "--MODALITY VALUE")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "c.yaml", "--outt", "x"], "--outt"),
        (["trian"], "trian"),
        (["explain", "run", "--limit", "0"], "--limit"),
        (["explain", "run", "--limit", "x"], "--limit"),
        (["train"], "config"),
    ],
)
def test_a_bad_flag_is_a_usage_error(cli: Any, arguments: list[str], said: str):
    answer = cli(*arguments)
    assert answer.code == 2
    assert said in answer.line
    assert "Usage: " in answer.line


def test_debug_shows_the_traceback_before_the_line(tmp_path: Path):
    done = CliRunner().invoke(app, ["--debug", "evaluate", str(tmp_path / "none")])
    assert done.exit_code == 2
    assert "Traceback" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("fli2moe: ")


def test_the_check_lists_every_problem_and_the_notes(cli: Any, project: Path):
    rows = rows_of(project)
    rows[3]["image"] = "pictures/gone.png"
    rows[5]["split"] = "tset"
    rows[7]["id"] = rows[6]["id"]
    rows[8]["text"] = ""
    write_table(project / "m.csv", rows)
    (project / "pictures" / "4.png").write_bytes(b"\x89PNG")
    answer = cli("data", "check", project / "m.csv")
    lines = answer.out.splitlines()
    assert answer.code == 2
    for row, said in ((5, "gone.png"), (6, "4.png"), (7, "'tset'"), (9, "twice")):
        assert any(f"m.csv, line {row}," in line and said in line for line in lines), (row, lines)
    assert any(line.startswith("note: ") and "empty 'text'" in line for line in lines)
    assert lines[-1].endswith("m.csv: 4 problems")
    few = cli("data", "check", project / "m.csv", "--max-errors", 1)
    assert "... and 3 more problems" in few.out


def test_a_clean_manifest_passes_the_check(cli: Any, project: Path):
    answer = cli("data", "check", project / "m.csv")
    assert answer.code == 0
    assert "24 rows; modalities: text (text), image (image); splits: train 12" in answer.out
    assert answer.out.endswith("m.csv: no problems\n")


def test_the_check_takes_other_column_names_and_another_root(cli: Any, tmp_path: Path):
    names = {"id": "key", "label": "genre", "split": "part"}
    rows = [{names.get(k, k): v for k, v in row.items()} for row in rows_of(tmp_path)]
    (tmp_path / "tables").mkdir()
    manifest = write_table(tmp_path / "tables" / "m.csv", rows)
    options = ["--id", "key", "--label", "genre", "--split", "part", "--image-root", tmp_path]
    answer = cli("data", "check", manifest, *options)
    assert answer.code == 0, answer.out
    assert "modalities: text (text), image (image)" in answer.out
    assert "no column 'id'" in cli("data", "check", manifest).out
    inside = [{**row, "image": f"../{row['image']}"} for row in rows]
    write_table(manifest, inside)
    assert cli("data", "check", manifest, *options[:6]).code == 2
    assert cli("data", "check", manifest, *options[:6], "--allow-outside").code == 0


def test_no_manifest_is_a_problem_like_any_other(cli: Any, tmp_path: Path):
    answer = cli("data", "check", tmp_path / "none.csv")
    assert answer.code == 2
    assert "none.csv: no such file" in answer.out


def test_the_version_is_shown(cli: Any):
    assert cli("--version") == Answer(0, f"fli2moe {__version__}\n", "")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from fli2moe.cli import main\n"
        "sys.argv = ['fli2moe', {arguments}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0, stop.code\n"
        "heavy = {{'torch', 'numpy', 'transformers', 'lightning', 'pandas', 'sklearn'}}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    for arguments in ("'--help'", "'train', '--help'", "'data', 'check', '--help'"):
        own = [sys.executable, "-c", code.format(arguments=arguments)]
        done = subprocess.run(own, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "Usage: fli2moe" in done.stdout


def test_every_option_has_a_help_text():
    shown = subprocess.run([*MAIN, "train", "--help"], capture_output=True, text=True, timeout=60)
    lines = [line.strip() for line in shown.stdout.splitlines()]
    for option in ("--out", "--seed", "--set", "--overwrite"):
        (line,) = (line for line in lines if line.startswith(option))
        assert len(line.split()) > 2


def test_a_reader_that_leaves_early_is_no_error(project: Path):
    rows = rows_of(project, 30)
    for row in rows:
        row["split"] = "x" * 80 + row["id"]
    write_table(project / "m.csv", rows * 60)
    command = [*MAIN, "data", "check", str(project / "m.csv"), "--max-errors", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert "m.csv" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode in (0, 1)


def test_ctrl_c_is_one_line_and_its_own_exit_code(project: Path):
    write_config(project / "c.yaml", training={"epochs": 100_000, "patience": 100_000})
    command = [*MAIN, "train", str(project / "c.yaml"), "--out", str(project / "run")]
    environment = {**os.environ, "FLI2MOE_DEBUG": ""}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    deadline = time.monotonic() + 60
    for line in process.stdout:  # until training runs
        if "epoch   2" in line or time.monotonic() > deadline:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 4
    assert said.startswith("fli2moe: interrupted; run the same command again: fli2moe train")
    assert said.count("\n") == 1
    assert (project / "run" / "checkpoints" / "best.safetensors").is_file()

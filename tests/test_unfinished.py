"""Evaluations that were killed go on; two processes never work on one folder; SIGTERM is heard."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fli2moe.errors import MachineError
from fli2moe.evaluation.evaluate import PARTS
from fli2moe.files import HOLDER, locked
from fli2moe.runs import evaluate_run

MAIN = "from fli2moe.cli import main; main()"


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


def untimed(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key != "seconds"}


def test_parts_that_were_measured_are_kept(run: Path, monkeypatch: pytest.MonkeyPatch):
    options = {"evaluation.parts": ["interaction_share", "faithfulness", "concentration"]}
    whole = evaluate_run(run, options=options)
    samples = (run / "samples.parquet").read_bytes()
    for path in (run / "metrics.json", run / "samples.parquet"):
        path.unlink()
    asked: list[str] = []

    def watched(name: str, fails: bool) -> Any:
        def part(*args: Any) -> Any:
            asked.append(name)
            if fails:
                raise KeyboardInterrupt
            return PARTS_BEFORE[name](*args)

        return part

    PARTS_BEFORE = dict(PARTS)  # noqa: N806
    for name in PARTS:
        monkeypatch.setitem(PARTS, name, watched(name, name == "concentration"))
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run, options=options)
    assert not (run / "metrics.json").exists()
    assert sorted(p.stem for p in (run / ".evaluation").iterdir()) == [
        "faithfulness",
        "interaction_share",
    ]
    (run / ".evaluation" / "faithfulness.json").write_text("{damaged")
    monkeypatch.setitem(PARTS, "concentration", watched("concentration", False))
    asked.clear()
    again = evaluate_run(run, options=options)
    assert asked == ["faithfulness", "concentration"]
    assert untimed(again) == untimed(whole)
    assert (run / "samples.parquet").read_bytes() == samples
    assert not (run / ".evaluation").exists()


def test_another_seed_measures_anew(run: Path, monkeypatch: pytest.MonkeyPatch):
    options = {"evaluation.parts": ["interaction_share", "concentration"]}
    own = PARTS["concentration"]

    def fails(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(PARTS, "concentration", fails)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run, options=options, seed=1)
    monkeypatch.setitem(PARTS, "concentration", own)
    first = evaluate_run(run, options=options, seed=2)
    assert untimed(first) == untimed(evaluate_run(run, options=options, seed=2))


def test_a_folder_is_held_by_one_process(tmp_path: Path):
    code = "import sys; from pathlib import Path; from fli2moe.files import locked\n"
    code += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(MachineError, match="another fli2moe process works on it: "),
        locked(tmp_path),
    ):
        pass
    holder.send_signal(signal.SIGKILL)  # a lock does not outlive its process
    holder.communicate(timeout=30)
    with locked(tmp_path):
        assert [p.name for p in tmp_path.iterdir()] == [HOLDER]


@pytest.mark.slow
def test_sigterm_ends_in_one_line_and_the_same_command_goes_on(run: Path):
    options = ["--set", "evaluation.samples=24", "--set", "evaluation.random_draws=200"]
    command = [sys.executable, "-c", MAIN, "evaluate", str(run), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (run / ".evaluation" / "interaction_share.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 4
    assert said.startswith("fli2moe: interrupted; run the same command again: fli2moe evaluate")
    assert said.count("\n") == 1
    assert not (run / "metrics.json").exists()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert (run / "metrics.json").is_file()


@pytest.mark.slow
def test_several_processes_measure_the_same(run: Path, tmp_path: Path):
    options = {"evaluation.parts": ["interaction_share", "faithfulness", "concentration"]}
    alone = evaluate_run(run, options=options, seed=1)
    (run / "metrics.json").unlink()
    seen: list[tuple[int, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "evaluate":
            seen.append((done, total))

    both = evaluate_run(run, options=options, seed=1, workers="2", progress=progress)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert untimed(both) == untimed(alone)
    assert all(both["seconds"][part] > 0 for part in options["evaluation.parts"])
    assert not (run / ".evaluation").exists()

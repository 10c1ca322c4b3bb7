"""Parts of a job: each done, whoever does it, with the same files; killed workers cost nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fli2moe.config import Config
from fli2moe.errors import InputError, MachineError
from fli2moe.explain.store import read_explanations
from fli2moe.features import default_cache
from fli2moe.parallel import run_parts
from fli2moe.runs import encode_data, explain_run, report_run, train_run

EXPLAINED = {"limit": 5, "budget": 60, "seed": 1}


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def alone(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that one process writes."""
    copy = tmp_path_factory.mktemp("alone") / "run"
    shutil.copytree(tiny_run, copy)
    explain_run(copy, **EXPLAINED)
    return files(copy / "explanations")


@dataclass(frozen=True)
class Touch:
    """Writes a file for each part, with who did it; may die once, or fail."""

    folder: Path
    dies_at: int = -1
    always: bool = False
    fails_at: int = -1

    def open(self) -> str:
        return str(os.getpid())

    def do(self, opened: str, part: int) -> None:
        marker = self.folder / "died"
        if part == self.fails_at:
            raise InputError("part", f"{part} is bad")
        if part == self.dies_at and (self.always or not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.folder / f"{part}.done").open("a") as file:
            file.write(opened + "\n")


def test_processes_do_every_part_once(tmp_path: Path):
    seen: list[int] = []
    run_parts(Touch(tmp_path), range(7), "2", seen.append)
    assert sorted(seen) == list(range(7))
    done = [(tmp_path / f"{k}.done").read_text().split() for k in range(7)]
    assert all(len(by) == 1 and by[0] != str(os.getpid()) for by in done)


def test_a_killed_worker_costs_nothing(tmp_path: Path):
    seen: list[int] = []
    run_parts(Touch(tmp_path, dies_at=2), range(5), "2", seen.append)
    assert sorted(seen) == list(range(5))
    assert (tmp_path / "died").exists()


@pytest.mark.slow
def test_workers_that_die_again_and_again_are_one_line(tmp_path: Path):
    with pytest.raises(MachineError, match=r"a worker died 3 times at parts .*fewer --workers"):
        run_parts(Touch(tmp_path, dies_at=0, always=True), range(2), "2", lambda part: None)


def test_an_error_of_a_part_comes_back_as_it_was(tmp_path: Path):
    with pytest.raises(InputError, match="part: 1 is bad"):
        run_parts(Touch(tmp_path, fails_at=1), range(4), "2", lambda part: None)


@pytest.mark.parametrize("workers", ["0", "-1", "two", "", "1.5", "99999"])
def test_a_wrong_number_of_workers_is_one_line(tmp_path: Path, workers: str):
    with pytest.raises(InputError, match="a number from 1, or ray"):
        run_parts(Touch(tmp_path), range(2), workers, lambda part: None)
    with pytest.raises(InputError, match="--workers ray"):
        run_parts(Touch(tmp_path), range(2), "2", lambda part: None, address="auto")


@pytest.mark.slow
def test_two_processes_explain_as_one(run: Path, alone: dict[str, bytes]):
    explain_run(run, workers="2", **EXPLAINED)
    assert files(run / "explanations") == alone


def test_what_is_explained_is_kept(run: Path, alone: dict[str, bytes]):
    folder = run / "explanations"

    class StopError(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("explain", 3):
            raise StopError

    with pytest.raises(StopError):
        explain_run(run, progress=stop, **EXPLAINED)
    assert not (folder / "manifest.json").exists()
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("part-*")}
    assert len(before) == 3
    (folder / "part-00001.parquet").write_bytes(b"damaged")
    (folder / ".part-00009.parquet.x.partial").write_bytes(b"left by a kill")
    seen: list[int] = []
    explain_run(
        run, progress=lambda s, d, t: seen.append(d) if s == "explain" else None, **EXPLAINED
    )
    assert seen == [3, 4, 5]
    assert files(folder) == alone
    assert (folder / "part-00000.parquet").stat().st_mtime_ns == before["part-00000.parquet"]
    assert explain_run(run, **EXPLAINED) == len(list(read_explanations(folder)))
    explain_run(run, **{**EXPLAINED, "limit": 2})  # another job replaces it
    assert len(list(folder.glob("part-*"))) == 2


@pytest.mark.parametrize("damage", ["part", "manifest"])
def test_what_was_damaged_afterwards_is_made_again(run: Path, alone: dict[str, bytes], damage: str):
    explain_run(run, **EXPLAINED)
    folder = run / "explanations"
    path = folder / {"part": "part-00002.parquet", "manifest": "manifest.json"}[damage]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content if damage == "part" else b"{damaged")
    before = (folder / "part-00000.parquet").stat().st_mtime_ns
    explain_run(run, **EXPLAINED)
    assert files(folder) == alone
    assert (folder / "part-00000.parquet").stat().st_mtime_ns == before


def test_a_poisoned_sample_is_told_and_the_others_are_done(run: Path, tmp_path: Path):
    config = Config.from_yaml(run / "config.yaml")
    data = Path(config.data.path).parent
    shutil.copytree(data, tmp_path / "data")
    text = (run / "config.yaml").read_text().replace(str(data), str(tmp_path / "data"))
    (run / "config.yaml").write_text(text)
    manifest = (tmp_path / "data" / "manifest.csv").read_text().splitlines()
    id, picture = next(line for line in manifest if ",test," in line).split(",")[:2]
    (tmp_path / "data" / picture).write_bytes(b"no picture")
    with pytest.raises(InputError, match=f"sample {id}"):
        explain_run(run, **EXPLAINED)
    explain_run(run, on_bad="skip", **EXPLAINED)
    (line,) = (run / "explanations" / "rejects.jsonl").read_text().splitlines()
    reject = json.loads(line)
    assert reject["id"] == id
    assert "picture" in reject["reason"]
    assert reject["path"] == str(tmp_path / "data" / picture)
    kept = {e.sample_id for e in read_explanations(run / "explanations")}
    assert len(kept) == 4
    assert id not in kept
    with pytest.raises(InputError, match=r"'skp'.*'skip'"):
        explain_run(run, on_bad="skp", **EXPLAINED)
    with pytest.raises(InputError, match=r"1 of 5 samples are bad .*at most 10%"):
        explain_run(run, on_bad="skip", max_bad_share=0.1, **EXPLAINED)
    page = report_run(run).read_text(encoding="utf-8")
    assert "0 in training, 1 in explaining" in page
    first = files(run / "explanations")
    (run / "config.yaml").write_text(text.replace("on_bad: stop", "on_bad: skip"))
    shutil.rmtree(run / "explanations")
    explain_run(run, workers="2", **EXPLAINED)  # skips, as the configuration says
    assert files(run / "explanations") == first


@pytest.mark.slow
def test_two_processes_encode_as_one_and_train_finds_it(
    make_config: Callable[..., Config], tmp_path: Path
):
    config = make_config()
    assert encode_data(config, tmp_path / "a" / "run") == 6  # two modalities, three splits
    assert encode_data(config, tmp_path / "a" / "run") == 0
    assert encode_data(config, tmp_path / "b" / "run", workers="2") == 6

    def shards(run: Path) -> dict[str, bytes]:
        folder = default_cache(run)
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*")}

    assert shards(tmp_path / "a" / "run") == shards(tmp_path / "b" / "run")
    stages: list[str] = []
    train_run(config, tmp_path / "b" / "run", progress=lambda stage, d, t: stages.append(stage))
    assert stages == []


EXPLAIN = "from fli2moe.cli import main; main()"


@pytest.mark.slow
def test_sigkill_while_explaining(run: Path, alone: dict[str, bytes]):
    command = [sys.executable, "-c", EXPLAIN, "explain", str(run), "--limit", "5"]
    command += ["--budget", "60", "--seed", "1", "--workers", "2"]
    folder = run / "explanations"
    for parts in (1, 3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        while len(list(folder.glob("part-*"))) < parts and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert files(folder) == alone

"""Odd surroundings: languages, homes, zones, rights, closed streams, and no network at all."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fli2moe.config import Config

MAIN = [sys.executable, "-m", "fli2moe"]
WATCHED = """
import os, socket
def refuse(*args, **options):
    with open(os.environ["CONNECTIONS"], "a") as file:
        file.write(f"{args!r}\\n")
    raise OSError("no network here")
socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.socket.sendto = refuse
socket.getaddrinfo = refuse
socket.create_connection = refuse
"""


@pytest.mark.slow
def test_odd_surroundings(tiny_run: Path, manifest: Path, tmp_path: Path):
    run = tmp_path / "a run 🙂" / "run"
    shutil.copytree(tiny_run, run)
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "PYTHONPATH", "VIRTUAL_ENV")}
    env = {**kept, "LC_ALL": "C", "LANG": "C", "TZ": "Asia/Kathmandu", "NO_COLOR": "1"}
    env |= {"OMP_NUM_THREADS": "1", "TERM": "dumb"}
    explain = ["explain", str(run), "--limit", "2", "--budget", "60"]
    for command in (explain, ["report", str(run)]):
        found = subprocess.run(
            [*MAIN, *command], capture_output=True, env=env, cwd="/", umask=0o077, check=False
        )
        assert found.returncode == 0, found.stderr
        assert found.stderr == b""
        assert b"\x1b" not in found.stdout
    assert "<html" in (run / "report.html").read_text(encoding="utf-8")
    assert stat.S_IMODE((run / "report.html").stat().st_mode) == 0o600


@pytest.mark.parametrize("command", [["--version"], ["data", "check", "MANIFEST"]])
def test_streams_that_are_closed(command: list[str], manifest: Path):
    command = [str(manifest) if part == "MANIFEST" else part for part in command]
    found = subprocess.run(
        [*MAIN, *command],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: (os.close(0), os.close(1)),
        text=True,
        check=False,
    )
    assert "Traceback" not in found.stderr
    assert found.returncode in (0, 1)


@pytest.mark.slow
def test_no_command_looks_for_a_network(make_config: Callable[..., Config], tmp_path: Path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WATCHED)
    (tmp_path / "c.yaml").write_text(make_config().to_yaml(), encoding="utf-8")
    log = tmp_path / "connections"
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "CONNECTIONS": str(log), "OMP_NUM_THREADS": "1"}
    run = str(tmp_path / "run")
    probe = "import socket; socket.create_connection(('127.0.0.1', 9))"
    assert subprocess.run([sys.executable, "-c", probe], env=env, capture_output=True).returncode
    assert log.read_text().count("\n") == 1  # it is watched
    log.unlink()
    for command in (
        ["train", str(tmp_path / "c.yaml"), "--out", run],
        ["evaluate", run, "--set", "evaluation.parts=[interaction_share]"],
        ["explain", run, "--limit", "2", "--budget", "60", "--workers", "2"],
        ["report", run],
    ):
        found = subprocess.run(
            [*MAIN, *command], capture_output=True, text=True, env=env, check=False
        )
        assert found.returncode == 0, found.stderr
    assert not log.exists(), log.read_text()

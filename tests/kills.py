"""Kills a command again and again: `python kills.py STAGE CONFIG PREPARED KILLED WHOLE KILLS SEED`.

A process that has imported everything forks one for each try, so that a kill falls into the work
and not into the imports. KILLED and WHOLE are copies of the folder PREPARED, each with a run folder
`run`; in WHOLE the work is done in peace. Where a try ends before its kill, KILLED becomes a copy
again. Says in JSON how often it killed, how often it began anew, and the seconds of the work.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fli2moe.training
from fli2moe import runs
from fli2moe.config import Config

EXPLAINED = {"limit": 6, "budget": 120, "seed": 1}
MEASURED = {"evaluation.parts": ["interaction_share", "faithfulness", "concentration"]}


def stages(config: Path, run: Path) -> dict[str, Callable[[], object]]:
    """What each command does."""
    settings = Config.from_yaml(config)
    return {
        "encode": lambda: runs.encode_data(settings, run),
        "train": lambda: runs.train_run(settings, run),
        "evaluate": lambda: runs.evaluate_run(run, options=MEASURED, seed=1),
        "explain": lambda: runs.explain_run(run, **EXPLAINED),
        "report": lambda: runs.report_run(run),
    }


def start(work: Callable[[], object]) -> int:
    """Forks a process that does the work; returns its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)


def main() -> None:
    """See above."""
    stage, config, *folders, kills, seed = sys.argv[1:]
    prepared, killed, whole = map(Path, folders)
    assert fli2moe.training  # imported before the forks
    work, timed = (stages(Path(config), folder / "run")[stage] for folder in (killed, whole))
    started = time.perf_counter()
    _, status = os.waitpid(start(timed), 0)
    assert status == 0
    seconds = time.perf_counter() - started
    chance, count, anew = random.Random(int(seed)), 0, 0
    while count < int(kills):
        child = start(work)
        time.sleep(chance.uniform(0, seconds / 2))  # half: the next one has to go on
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            count += 1
            continue
        assert status == 0
        anew += 1
        shutil.rmtree(killed)
        shutil.copytree(prepared, killed)
    _, status = os.waitpid(start(work), 0)
    assert status == 0
    said = {"killed": count, "anew": anew, "seconds": round(seconds, 2)}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()

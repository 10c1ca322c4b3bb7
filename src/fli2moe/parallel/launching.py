"""Starts the processes of a training on several devices, watches them, and says how they ended.

They are torchrun's (torch.distributed.elastic): when one ends badly the others are ended. Each runs
`fli2moe train` with the same configuration, in which Lightning finds its rank.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fli2moe import ranks
from fli2moe.config import Config
from fli2moe.errors import INTERRUPTED, FLI2MoEError, InputError, MachineError
from fli2moe.ranks import AGAIN, LostError

ENDING_SECONDS = 10
"""How long the others may take to end when one has ended badly."""
SUPERVISED = "FLI2MOE_SUPERVISED"
"""Set in the processes that this module starts."""


def launch(config: Config, out: Path, *, overwrite: bool, log: Sequence[str]) -> None:
    """Trains in `training.devices` processes of this node, and waits for them.

    With `training.nodes` above 1 every node calls this, and the environment says where the first
    is: MASTER_ADDR, MASTER_PORT and NODE_RANK, as for torchrun. Nodes share the run folder.

    Args:
        config: of the training.
        out: the run folder.
        overwrite: as in `train_run`.
        log: as in `train_run`.

    Raises:
        InputError: when the environment does not say where the first node is, or a process ended
            with an error of the input.
        MachineError: when a process was killed or ended with an error of the machine.
        KeyboardInterrupt: on Ctrl-C or SIGTERM; all processes are ended first.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):  # it says all of this at length
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as passing:
        path = Path(passing) / "config.yaml"
        path.write_text(config.to_yaml(), encoding="utf-8")
        command = ["-m", "fli2moe", "train", str(path), "--out", str(out)]
        command += ["--overwrite"] if overwrite else []
        command += [part for kind in log for part in ("--log", kind)]
        settings = LaunchConfig(
            min_nodes=config.training.nodes,
            max_nodes=config.training.nodes,
            nproc_per_node=config.training.devices,
            run_id=out.name,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=passing),
            shutdown_timeout=ENDING_SECONDS,
            **_meeting(config.training.nodes),
        )
        kept = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        os.environ[SUPERVISED] = "1"
        try:
            elastic_launch(settings, sys.executable)(*command)
        except ChildFailedError as error:
            raise _explained(config.training.processes, error.failures) from None
        except SignalException:
            raise KeyboardInterrupt from None
        finally:
            del os.environ[SUPERVISED]
            for asked, handler in kept.items():
                signal.signal(asked, handler)


def is_supervised() -> bool:
    """Returns whether `launch` started this process, and will speak for it."""
    return SUPERVISED in os.environ and ranks.is_rank()


def left_to_parent(error: FLI2MoEError | None) -> bool:
    """Leaves an error to the process that started this one, if `launch` did; returns whether.

    Args:
        error: None for an interruption.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not is_supervised() or not path:
        return False
    if isinstance(error, InputError):
        words = [error.where, error.found, error.expected, error.remedy]
        message = {"words": words, "lost": isinstance(error, LostError)}
        said = {"message": json.dumps(message), "timestamp": int(time.time())}
        Path(path).write_text(json.dumps(said), encoding="utf-8")
    return True


def end_with_parent() -> None:
    """Ends this process soon after the one that started it, however that ended: no orphans."""
    if not is_supervised():
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()


def _meeting(nodes: int) -> dict[str, Any]:
    """Returns where the nodes meet, as arguments of LaunchConfig."""
    if nodes == 1:
        return {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        found = f"{nodes}, and the environment lacks {', '.join(missing)}"
        remedy = "set them on each node, or start the command with torchrun or srun"
        raise InputError("training.nodes", found, "where the first node is", remedy)
    try:
        number = int(os.environ["NODE_RANK"])
    except ValueError:
        number = -1
    if not 0 <= number < nodes:
        found = repr(os.environ["NODE_RANK"])
        raise InputError("NODE_RANK", found, f"the number of this node, 0 to {nodes - 1}")
    return {
        "rdzv_backend": "static",
        "rdzv_endpoint": f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
        "rdzv_configs": {"rank": number},
    }


def _explained(total: int, failures: Mapping[int, Any]) -> BaseException:
    """Returns the error that a process left, or one that says how it ended; the cause first.

    Args:
        total: number of processes.
        failures: {rank: torch's record of how it ended}; the processes that were ended because of
            another one stand beside it.
    """
    number, failure = min(failures.items(), key=lambda item: _consequence(item[1]))
    said = _left(failure)
    if said is not None:
        kind = InputError if failure.exitcode == InputError.exit_code else MachineError
        return kind(*said["words"])
    if failure.exitcode == INTERRUPTED:
        return KeyboardInterrupt()
    how = f"ended with exit code {failure.exitcode}"
    if failure.exitcode < 0:
        how = f"was killed by {signal.Signals(-failure.exitcode).name}"
    return MachineError(f"training process {number} of {total}", how, "", AGAIN)


def _left(failure: Any) -> dict[str, Any] | None:
    try:
        said = json.loads(failure.message)
        return said if isinstance(said, dict) and "words" in said else None
    except (TypeError, ValueError):
        return None


def _consequence(failure: Any) -> int:
    """Returns how far a failure may be another one's consequence."""
    said = _left(failure)
    if said is not None:
        return 2 if said["lost"] else 0
    if failure.exitcode in (INTERRUPTED, -signal.SIGTERM):
        return 3
    return 1 if failure.exitcode < 0 else 2

"""The parts of a job on a Ray cluster, through Ray Data with a pool of actors.

Ray (extra `ray`) reports usage by default: that is switched off here. Workers write their parts to
the run folder, which all nodes must see under the same path.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fli2moe.errors import FLI2MoEError, InputError, MachineError

if TYPE_CHECKING:
    from fli2moe.parallel.workers import Done, Job

KNOCK_SECONDS = 5


def run_on_ray(job: Job, parts: Sequence[int], done: Done, address: str | None) -> None:
    """Does the parts of a job on a cluster; see `run_parts`.

    A worker or node that is lost costs what it was doing: Ray starts that again elsewhere. An error
    of a part comes back as a value, so that Ray neither repeats it nor drops what stood beside it.

    Raises:
        InputError: what a part raised.
        MachineError: when Ray is not installed, or the cluster cannot be reached or has no CPU.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        remedy = 'pip install "fli2moe[ray]"'
        raise MachineError("package:ray", "is not installed", "", remedy) from error
    if not parts:
        return
    started = not ray.is_initialized()
    if started:
        _connect(ray, address)
    try:
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if cpus < 1:
            remedy = "start a node with CPUs, or use --workers 1"
            raise MachineError("ray", "the cluster has no CPU to offer", "at least 1", remedy)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        data = ray.data.from_items([{"part": p} for p in parts], override_num_blocks=len(parts))
        results = data.map_batches(
            _Actor,
            fn_constructor_args=(job,),
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(cpus, len(parts))),
        )
        for row in results.iter_rows():
            if row["error"]:
                raise _Error.from_text(row["error"])
            done(int(row["part"]))
    finally:
        if started:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    _check_reachable(address)
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address=address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, SystemExit) as error:
        raise _unreachable(address or "this machine", str(error).split("\n")[0][:200]) from None


def _check_reachable(address: str | None) -> None:
    """Knocks at host:port: Ray itself would try for minutes, and then end the process."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
        except OSError as error:
            raise _unreachable(str(address), error.strerror or str(error)) from None


def _unreachable(where: str, why: str) -> MachineError:
    remedy = "check --address, or leave it out to use this machine alone"
    return MachineError(f"ray at {where}", f"cannot be reached: {why}", "", remedy)


class _Actor:
    """One worker: opens the job once, then does one part after another."""

    def __init__(self, job: Job) -> None:
        self.job, self.opened = job, job.open()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Does the part of a batch of one row."""
        part = int(batch["part"][0])
        try:
            self.job.do(self.opened, part)
        except FLI2MoEError as error:
            return {"part": [part], "error": [_Error.to_text(error)]}
        return {"part": [part], "error": [""]}


class _Error:
    """An error of ours as a text, and back."""

    @staticmethod
    def to_text(error: Any) -> str:
        return "\x1f".join(
            [type(error).__name__, error.where, error.found, error.expected, error.remedy]
        )

    @staticmethod
    def from_text(text: str) -> FLI2MoEError:
        kind, *parts = text.split("\x1f")
        return (MachineError if kind == "MachineError" else InputError)(*parts)

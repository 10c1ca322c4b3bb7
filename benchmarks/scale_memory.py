"""Memory against the number of rows and against the size of the features, each in a process.

Peaks are of a process of its own: resident memory for manifests; for features, memory that is the
process's own (anonymous), for mapped files are the system's to drop, and the time under a limit of
memory where the system lets us set one (control groups, version 1).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fli2moe.feature_cache import SHARD_ROWS, FeatureCache
from fli2moe.tokens import Tokens

GROUPS = Path("/sys/fs/cgroup/memory")
TOKENS, WIDTH = 197, 768
"""Of a picture in a ViT-B/16."""
PEAK = """
import sys, time
def status(name):  # in kB; getrusage would give the peak of the parent
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))
def peak(): return status("VmHWM")
def own(): return status("RssAnon")
"""
READ = (
    PEAK
    + """
from fli2moe.data import {what}
before, started = peak(), time.perf_counter()
found = {what}(sys.argv[1])
print(before, peak(), time.perf_counter() - started)
"""
)
PASS = (
    PEAK
    + """
import random
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from scale_memory import Made
from fli2moe.feature_cache import FeatureCache
cache, rows = FeatureCache(Path(sys.argv[1]), Made()), int(sys.argv[2])
order, most, before, started = list(range(rows)), 0, own(), time.perf_counter()
random.Random(0).shuffle(order)
for start in range(0, rows, 32):
    cache.read([str(k) for k in order[start : start + 32]])
    most = max(most, own())
print(before, most, time.perf_counter() - started)
"""
)


class Made:
    """An encoder whose features are zeros: only their size matters here."""

    kind, width, identity, fingerprint = "text", WIDTH, "made", "made" * 8

    def encode(self, inputs: Any) -> Tokens:
        """Returns tokens as a picture would have them."""
        features: Tensor = torch.zeros(len(inputs), TOKENS, WIDTH)
        mask = torch.ones(len(inputs), TOKENS, dtype=torch.bool)
        return Tokens(features, mask, torch.zeros(len(inputs), TOKENS, 2, dtype=torch.int32))

    def unseen(self, raw: Any) -> tuple[tuple[float, ...], ...]:
        """Nothing."""
        return ()


def manifest_memory(folder: Path, rows: int) -> dict[str, Any]:
    """Reads and checks a manifest of texts of 40 characters or so."""
    path = folder / f"{rows}.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("id,text,label,split\n")
        for k in range(rows):
            split = ("train", "train", "val", "test")[k % 4]
            file.write(f"s{k},a short text of some words number {k},{'ab'[k % 2]},{split}\n")
    result: dict[str, Any] = {"rows": rows}
    for what, name in (("read_manifest", "read"), ("check_manifest", "check")):
        before, after, took = _run(READ.format(what=what), str(path))
        result[name] = {
            "peak_mb": round(after / 1024, 1),
            "bytes_a_row": round(1024 * (after - before) / rows),
            "seconds": round(took, 2),
        }
    path.unlink()
    return result


def feature_memory(folder: Path, rows: int, limit_mb: int) -> dict[str, Any]:
    """One pass in random order over features, without and under a limit of memory."""
    cache = FeatureCache(folder, Made())
    for start in range(0, rows, SHARD_ROWS):
        keys = [str(k) for k in range(start, min(start + SHARD_ROWS, rows))]
        cache.add(keys, keys, keys)
    size = sum(p.stat().st_size for p in folder.rglob("*.safetensors"))
    here = str(Path(__file__).parent)
    before, most, took = _run(PASS, str(folder), str(rows), here)
    result: dict[str, Any] = {
        "rows": rows,
        "features_mb": round(size / 2**20),
        "own_memory_mb": round(most / 1024),
        "own_memory_before_mb": round(before / 1024),
        "seconds": round(took, 1),
        "limit_mb": None,
    }
    with _limited(limit_mb) as group:
        if group is not None:
            _, most, took = _run(PASS, str(folder), str(rows), here, group=group)
            result |= {
                "limit_mb": limit_mb,
                "limited_own_memory_mb": round(most / 1024),
                "limited_seconds": round(took, 1),
            }
    return result


def _run(code: str, *arguments: str, group: Path | None = None) -> list[float]:
    if group is not None:  # the process joins it before it reads anything
        join = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
        code = join + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return [float(x) for x in done.stdout.split()]


@contextlib.contextmanager
def _limited(limit_mb: int) -> Iterator[Path | None]:
    """A control group with so much memory; None where it cannot be made."""
    group = GROUPS / "fli2moe-benchmark"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit_mb * 2**20))
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        group.rmdir()

"""The demo: made data with planted truth, trained on, explained and reported, in minutes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fli2moe.config import Config
from fli2moe.data.shapes import write_shapes
from fli2moe.features import Progress
from fli2moe.files import write_json
from fli2moe.runs import EpochProgress, evaluate_run, explain_run, report_run, train_run

DEMO_SIZES = (5000, 500, 500)
"""Training, validation and test samples."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: the metrics, the report, and the seconds of each stage."""

    metrics: Mapping[str, Any]
    report: Path
    seconds: Mapping[str, float]


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    sizes: tuple[int, int, int] = DEMO_SIZES,
    samples: int = 12,
    progress: Progress | None = None,
    progress_epoch: EpochProgress | None = None,
) -> DemoResult:
    """Makes data with planted truth, trains the mixture and the dense baseline, explains, reports.

    Args:
        out: run folder; the data go to `out/data`, the baseline to `<out>-dense`.
        seed: of the data and everything after it.
        sizes: number of training, validation and test samples.
        samples: test samples in the report.
        progress: called while encoding, evaluating and explaining.
        progress_epoch: called after each epoch.
    """
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        seconds[stage] = round(time.perf_counter() - clock, 1)
        clock = time.perf_counter()

    manifest = write_shapes(out / "data", sizes=sizes, seed=seed)
    lap("data")
    config = demo_config(manifest, seed)
    baseline = out.with_name(f"{out.name}-dense")  # beside `out`, so that it shares the cache
    train_run(config, out, overwrite=True, progress=progress, progress_epoch=progress_epoch)
    lap("train fli2moe")
    dense = config.model_copy(update={"model": config.model.model_copy(update={"name": "dense"})})
    train_run(dense, baseline, overwrite=True, progress=progress, progress_epoch=progress_epoch)
    lap("train dense")
    metrics = evaluate_run(out, against=[baseline], seed=seed, progress=progress)
    lap("evaluate")
    explain_run(out, limit=samples, seed=seed, progress=progress)
    lap("explain")
    page = report_run(out)
    lap("report")
    write_json(out / "demo.json", {"seconds": seconds, "sizes": list(sizes), "seed": seed})
    return DemoResult(metrics, page, seconds)


def demo_config(manifest: Path, seed: int = 0) -> Config:
    """Returns the demo's configuration over a manifest that `write_shapes` wrote."""
    modalities = {
        "text": {"encoder": "builtin:words"},
        "image": {"encoder": "builtin:patches"},
    }
    data = {"path": str(manifest.resolve()), "labels": "multilabel", "modalities": modalities}
    return Config.from_dict({"preset": "demo", "seed": seed, "data": data}, where="demo")

"""reproduce(): every model of a study, each stage skipped where it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fli2moe.config import Config
from fli2moe.errors import InputError, unknown_name
from fli2moe.evaluation import Comparison, compare_runs, comparison_tables, to_latex, to_markdown
from fli2moe.features import Progress
from fli2moe.files import check_writable, read_json, write_json, write_text
from fli2moe.plot import can_plot, plot_comparison, save_figure
from fli2moe.run_folder import METRICS, PREDICTOR, TRAINING, run_config
from fli2moe.runs import EpochProgress, evaluate_run, explain_run, report_run, train_run
from fli2moe.study.plan import CONTROLS, USUAL, VARIANTS, settings_of, variant_config

EXPLAINED = 20  # test samples of the reports
CHECKS = ("sanity", "stability")  # of the first seed alone: they cost most and say least of seeds
SAME_AS_CONTROL = "fli2moe"  # the variant that the control is, but for its labels
Say = Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """What a study made.

    Attributes:
        folder: where it lies.
        comparisons: {data set: comparison of its models}; the name is empty where there is one.
        reports: pages that were written.
        seconds: {folder of a run/stage: seconds}, of this and of earlier calls.
    """

    folder: Path
    comparisons: Mapping[str, Comparison]
    reports: Sequence[Path]
    seconds: Mapping[str, float]


def reproduce(
    benchmark: str,
    out: Path,
    *,
    seeds: int = 3,
    preset: str | None = None,
    variants: Sequence[str] = USUAL,
    config: Path | None = None,
    options: Mapping[str, Any] | None = None,
    first_seed: int = 0,
    progress: Progress | None = None,
    progress_epoch: EpochProgress | None = None,
    say: Say | None = None,
) -> Study:
    """Trains and evaluates every variant and seed, compares them, and explains one of each.

    A run is the folder `out/<data set>/<variant>-seed<n>`. A stage is skipped where its result is
    there and belongs to the same configuration and weights; so the same call goes on where it was
    stopped. All runs are evaluated with `first_seed`, on the same samples and contexts. Sanity
    checks and stability are measured on the first seed of each variant, whose explanations are
    also compared with those of its other seeds, those of `fli2moe` with the permuted control's.

    Args:
        benchmark: mmimdb, enrico, mmhs150k, shapes or vec2xor.
        out: folder of the study.
        seeds: models of each variant.
        preset: in place of that of the configuration (`demo` for made data).
        variants: names of `plan.VARIANTS`.
        config: of a benchmark on disk; `configs/<benchmark>.yaml` by default.
        options: {`section.key`: value} over all of it.
        first_seed: of models, of made data, and of the evaluation.
        progress: called with (stage, done, total).
        progress_epoch: called after each epoch.
        say: called with a line before each stage.

    Raises:
        InputError: for an unknown name or option, a run folder of another configuration, or data
            that are not there (says where to get them).
    """
    if seeds < 1:
        raise InputError("--seeds", str(seeds), "at least 1")
    for name in variants:
        if name not in VARIANTS:
            raise unknown_name("reproduce", "variant", name, VARIANTS)
    check_writable(out)
    job = _Job(out, first_seed, progress, progress_epoch, say or (lambda line: None))
    job.recall()
    found = settings_of(
        benchmark, out, config=config, preset=preset, options=options or {}, seed=first_seed
    )
    comparisons: dict[str, Comparison] = {}
    reports: list[Path] = []
    for setting in found:
        runs = {
            (name, seed): out / setting.name / f"{name}-seed{seed}"
            for name in dict.fromkeys(variants)
            for seed in range(first_seed, first_seed + seeds)
        }
        for (name, seed), run in runs.items():
            job.train(run, variant_config(setting, name, seed))
        for (name, seed), run in runs.items():
            alike = [other for (its, s), other in runs.items() if its == name and s != seed]
            control = [runs[n, seed] for n in CONTROLS if name == SAME_AS_CONTROL and n in variants]
            job.evaluate(run, [*alike, *control] if seed == first_seed else None)
        for name in dict.fromkeys(variants):
            if name not in CONTROLS:
                reports.append(job.report(runs[name, first_seed]))
        models = [run for (name, _), run in runs.items() if name not in CONTROLS]
        if len(models) > 1:
            comparisons[setting.name] = write_comparison(compare_runs(models), out / setting.name)
    return Study(out, comparisons, reports, job.seconds)


@dataclass
class _Job:
    """The stages of runs, and what they took."""

    out: Path
    seed: int
    progress: Progress | None
    progress_epoch: EpochProgress | None
    say: Say
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def record(self) -> Path:
        return self.out / "study.json"

    def recall(self) -> None:
        """Takes over the seconds of earlier calls."""
        if self.record.is_file():
            self.seconds = dict(read_json(self.record, "remove it").get("seconds", {}))

    def train(self, run: Path, config: Config) -> None:
        if (run / PREDICTOR).is_file():
            if run_config(run) == config:
                return
            remedy = "choose another folder, or remove this one"
            raise InputError(str(run), "trained with another configuration", "the same", remedy)
        self._timed(
            run,
            "train",
            lambda: train_run(
                config,
                run,
                progress=self.progress,
                progress_epoch=self.progress_epoch,
            ),
        )

    def evaluate(self, run: Path, against: Sequence[Path] | None) -> None:
        """Measures a run: all of it beside others, or all but the checks (`against` is None)."""
        options: dict[str, Any] = {}
        if against is None:
            kept = [part for part in run_config(run).evaluation.parts if part not in CHECKS]
            options = {"evaluation.parts": kept}
        others = list(against or ())
        if not _evaluated(run, options, others, self.seed):
            self._timed(
                run,
                "evaluate",
                lambda: evaluate_run(
                    run, against=others, options=options, seed=self.seed, progress=self.progress
                ),
            )

    def report(self, run: Path) -> Path:
        page = run / "report.html"
        if not (run / "explanations" / "manifest.json").is_file():
            page.unlink(missing_ok=True)
            self._timed(
                run,
                "explain",
                lambda: explain_run(run, limit=EXPLAINED, seed=self.seed, progress=self.progress),
            )
        if not page.is_file() or page.stat().st_mtime < (run / METRICS).stat().st_mtime:
            self._timed(run, "report", lambda: report_run(run))
        return page

    def _timed(self, run: Path, stage: str, work: Callable[[], object]) -> None:
        name = f"{run.relative_to(self.out).as_posix()}/{stage}"
        self.say(name)
        started = time.perf_counter()
        work()
        self.seconds[name] = round(time.perf_counter() - started, 1)
        write_json(self.record, {"seconds": self.seconds})


def _evaluated(run: Path, options: Mapping[str, Any], against: Sequence[Path], seed: int) -> bool:
    """Whether the run's figures are those of its model, options, other models and this seed."""
    if not (run / METRICS).is_file():
        return False
    metrics, config = read_json(run / METRICS), run_config(run).after_training(options)
    if set(metrics.get("against", {})) != {path.name for path in against}:
        return False
    settings = {"seed": seed, **config.evaluation.model_dump(mode="json")}
    settings["explain"] = config.explain.model_dump(mode="json")
    of_model = metrics["model"].get("fingerprint") == read_json(run / TRAINING).get("fingerprint")
    return bool(of_model and metrics.get("settings") == settings)


def write_comparison(comparison: Comparison, folder: Path) -> Comparison:
    """Writes comparison.json, .md and .tex, and .png where matplotlib is installed."""
    tables = comparison_tables(comparison)
    write_text(folder / "comparison.md", to_markdown(tables))
    write_text(folder / "comparison.tex", to_latex(tables))
    write_json(folder / "comparison.json", comparison.to_json())
    if can_plot():
        save_figure(plot_comparison(comparison.to_json()), folder / "comparison.png")
    return comparison

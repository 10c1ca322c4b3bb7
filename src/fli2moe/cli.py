"""The command line: one command per public function, and errors in one line.

Heavy imports stand inside the commands, so that `fli2moe --help` answers at once.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from fli2moe import __version__
from fli2moe.arguments import named, overrides
from fli2moe.errors import INTERRUPTED, FLI2MoEError, one_line


class _Commands(TyperGroup):
    """Answers an error in one line with its exit code, before typer makes its own of Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except FLI2MoEError as error:
            _fail(str(error), error.exit_code, error)
        except KeyboardInterrupt:
            again = shlex.join(["fli2moe", *sys.argv[1:]])
            _fail(f"interrupted; run the same command again: {again}", INTERRUPTED)


app = typer.Typer(
    name="fli2moe",
    cls=_Commands,
    help="Which piece of text together with which piece of the picture made the model say that?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at data before training.", no_args_is_help=True)
app.add_typer(data_app, name="data")

RunFolder = Annotated[Path, typer.Argument(help="run folder written by `train`")]
Seed = Annotated[int | None, typer.Option(min=0, help="in place of the config's seed")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="explain.key=value or evaluation.key=value, for this call only"),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="section.key=value, over the config")
]
Workers = Annotated[str, typer.Option(help="1, a number of processes, or ray")]
Address = Annotated[str | None, typer.Option(help="of a Ray cluster; auto")]
OnBad = Annotated[
    str | None, typer.Option(help="stop at a bad sample, or skip it; data.on_bad by default")
]
MaxBadShare = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="stop where a larger share is skipped; data.max_bad_share"),
]
Encoding = Annotated[str, typer.Option(help="of a CSV or JSONL file: utf-8, latin1, ...")]
Preset = Annotated[
    str | None,
    typer.Option(help="in place of the config's; of the file only `data` then counts"),
]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fli2moe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Debug = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    os.environ["FLI2MOE_DEBUG"] = "1" if debug else os.environ.get("FLI2MOE_DEBUG", "")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="run folder")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="seed of everything random")] = 0,
    train_samples: Annotated[int, typer.Option(min=64, help="training samples")] = 5000,
    samples: Annotated[int, typer.Option(min=1, help="test samples in the report")] = 12,
) -> None:
    """Make data with planted truth, train, explain, and write a report: minutes on two cores."""
    from fli2moe.demo import run_demo
    from fli2moe.evaluation import metric_tables
    from fli2moe.terminal import Terminal

    held_out = max(16, train_samples // 10)
    with Terminal() as terminal:
        terminal.say(f"making {train_samples} pictures with captions, then training on them")
        result = run_demo(
            out,
            seed=seed,
            sizes=(train_samples, held_out, held_out),
            samples=samples,
            progress=terminal.step,
            progress_epoch=terminal.epoch,
        )
        terminal.tables(metric_tables(result.metrics))
        stages = ", ".join(f"{stage} {value:.0f}" for stage, value in result.seconds.items())
        terminal.say(f"seconds: {stages}; in all {sum(result.seconds.values()):.0f}")
        terminal.say(f"report: {result.report}")


@app.command()
def init(
    table: Annotated[Path, typer.Argument(help="CSV, JSONL or Parquet file of yours")],
    out: Annotated[
        Path | None, typer.Option(help="configuration to write; beside the table by default")
    ] = None,
    label: Annotated[str | None, typer.Option(help="column of the labels; guessed")] = None,
    encoding: Encoding = "utf-8",
    overwrite: Annotated[bool, typer.Option(help="replace a file that is there")] = False,
) -> None:
    """Look at a table of yours and write a commented configuration that `train` accepts."""
    from fli2moe.data.guess import write_config

    path = out or table.with_suffix(".yaml")
    guess = write_config(table, path, label=label, encoding=encoding, overwrite=overwrite)
    for column, kind in guess.modalities.items():
        typer.echo(one_line(f"{kind}: column {column}"))
    typer.echo(one_line(f"label: column {guess.label}, {len(guess.classes)} classes"))
    for column, why in guess.left_out.items():
        typer.echo(one_line(f"not used: column {column} ({why})"))
    typer.echo(one_line(f"wrote {path}; next: fli2moe train {path} --out runs/{table.stem}"))


@app.command()
def encode(
    config: Annotated[Path, typer.Argument(help="YAML configuration")],
    out: Annotated[Path, typer.Option(help="run folder; the cache is `features` beside it")],
    workers: Workers = "1",
    address: Address = None,
    override: Overrides = None,
    preset: Preset = None,
) -> None:
    """Encode a data set ahead of `train`, by several processes or machines."""
    from fli2moe.config import Config
    from fli2moe.runs import encode_data
    from fli2moe.terminal import Terminal

    settings = Config.from_yaml(config, overrides=overrides(override or []), preset=preset)
    with Terminal() as terminal:
        shards = encode_data(
            settings, out, workers=workers, address=address, progress=terminal.step
        )
        terminal.say(f"{shards} new shards; next: fli2moe train {config} --out {out}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML configuration")],
    out: Annotated[Path, typer.Option(help="run folder to write")],
    seed: Seed = None,
    override: Overrides = None,
    preset: Preset = None,
    overwrite: Annotated[bool, typer.Option(help="replace a trained model in --out")] = False,
    on_bad: OnBad = None,
    max_bad_share: MaxBadShare = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="of each node, a process each; training.devices")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="machines; training.nodes")] = None,
    log: Annotated[
        list[str] | None, typer.Option(help="csv or tensorboard, into OUT/log; repeatable")
    ] = None,
) -> None:
    """Encode once and train the model that a configuration names."""
    from fli2moe import ranks
    from fli2moe.config import Config
    from fli2moe.parallel.launching import end_with_parent, is_supervised
    from fli2moe.runs import train_run
    from fli2moe.terminal import Terminal

    values = overrides(override or [])
    flags = {
        "seed": seed,
        "data.on_bad": on_bad,
        "data.max_bad_share": max_bad_share,
        "training.devices": devices,
        "training.nodes": nodes,
    }
    values |= {key: value for key, value in flags.items() if value is not None}
    settings = Config.from_yaml(config, overrides=values, preset=preset)
    end_with_parent()
    with Terminal(quiet=not ranks.speaks(settings.training.processes)) as terminal:
        train_run(
            settings,
            out,
            overwrite=overwrite,
            log=log or (),
            progress=terminal.step,
            progress_epoch=terminal.epoch,
        )
        if not is_supervised():
            terminal.say(f"trained: {out}")


@app.command()
def evaluate(
    run: RunFolder,
    against: Annotated[
        list[Path] | None, typer.Option(help="another run on the same data, shown beside")
    ] = None,
    seed: Seed = None,
    workers: Workers = "1",
    address: Address = None,
    override: Settings = None,
) -> None:
    """Measure a trained model on its test split; writes metrics.json."""
    from fli2moe.evaluation import metric_tables
    from fli2moe.runs import evaluate_run
    from fli2moe.terminal import Terminal

    options = overrides(override or [])
    with Terminal() as terminal:
        metrics = evaluate_run(
            run,
            against=against or [],
            options=options,
            seed=seed,
            workers=workers,
            address=address,
            progress=terminal.step,
        )
        terminal.tables(metric_tables(metrics))
        terminal.say(f"metrics: {run / 'metrics.json'}")


@app.command()
def explain(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, val or test")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="at most this many samples")] = None,
    sample: Annotated[list[str] | None, typer.Option("--id", help="only these samples")] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="model evaluations per sample and target")
    ] = None,
    seed: Seed = None,
    workers: Workers = "1",
    address: Address = None,
    on_bad: OnBad = None,
    max_bad_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="stop where a larger share is skipped; any")
    ] = None,
    override: Settings = None,
) -> None:
    """Explain samples: attribution, synergy and redundancy pairs, for every predicted label."""
    from fli2moe.runs import explain_run
    from fli2moe.terminal import Terminal

    options = overrides(override or [])
    with Terminal() as terminal:
        count = explain_run(
            run,
            split=split,
            limit=limit,
            ids=sample or [],
            budget=budget,
            options=options,
            seed=seed,
            workers=workers,
            address=address,
            on_bad=on_bad,
            max_bad_share=max_bad_share,
            progress=terminal.step,
        )
        terminal.say(f"{count} explanations: {run / 'explanations'}")


@app.command()
def report(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="page to write; run/report.html")] = None,
) -> None:
    """Write one self-contained page of a run's explanations and metrics."""
    from fli2moe.runs import report_run

    typer.echo(f"report: {report_run(run, out)}")


@app.command()
def serve(
    run: RunFolder,
    port: Annotated[int, typer.Option(min=1, max=65535, help="on the loopback address")] = 7860,
    budget: Annotated[
        int | None, typer.Option(min=1, help="model evaluations of an explanation")
    ] = None,
) -> None:
    """Open a page on this machine: type a text, drop a picture, get an explanation."""
    from fli2moe.app import serve as run_server
    from fli2moe.predictor import Predictor

    predictor = Predictor.load(run)
    typer.echo(f"open http://127.0.0.1:{port} (Ctrl-C ends it)")
    run_server(predictor, port=port, budget=budget)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="evaluated run folders, as in runs/*")],
    reference: Annotated[
        str | None, typer.Option(help="group that others are tested against; that of the first run")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for comparison.json, .md, .tex and .png")
    ] = None,
) -> None:
    """Put several runs and seeds into one table: mean and sd, paired tests, effect sizes."""
    from fli2moe.evaluation import compare_runs, comparison_tables
    from fli2moe.study import write_comparison
    from fli2moe.terminal import Terminal

    found = compare_runs(runs, reference=reference)
    with Terminal() as terminal:
        terminal.tables(comparison_tables(found))
        if out is not None:
            write_comparison(found, out)
            terminal.say(f"comparison: {out}")


@app.command()
def reproduce(
    benchmark: Annotated[str, typer.Argument(help="mmimdb, enrico, mmhs150k, shapes or vec2xor")],
    out: Annotated[
        Path | None, typer.Option(help="folder of the study; runs/reproduce-BENCHMARK")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="models of each variant")] = 3,
    preset: Preset = None,
    only: Annotated[
        list[str] | None, typer.Option(help="variants to train, repeatable; the usual ones")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="configuration; configs/BENCHMARK.yaml")
    ] = None,
    first_seed: Annotated[int, typer.Option(min=0, help="of models, data and evaluation")] = 0,
    override: Overrides = None,
) -> None:
    """Do the whole study of a benchmark: train, evaluate, compare, report; go on where stopped."""
    from fli2moe.evaluation import comparison_tables
    from fli2moe.study import USUAL
    from fli2moe.study import reproduce as study
    from fli2moe.terminal import Terminal

    folder = out or Path("runs") / f"reproduce-{benchmark}"
    with Terminal() as terminal:
        found = study(
            benchmark,
            folder,
            seeds=seeds,
            preset=preset,
            variants=only or USUAL,
            config=config,
            options=overrides(override or []),
            first_seed=first_seed,
            progress=terminal.step,
            progress_epoch=terminal.epoch,
            say=terminal.say,
        )
        for name, comparison in found.comparisons.items():
            terminal.say(name or benchmark)
            terminal.tables(comparison_tables(comparison))
        terminal.say(f"seconds in all: {sum(found.seconds.values()):.0f}; results: {folder}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def probe(
    context: typer.Context,
    run: RunFolder,
    target: Annotated[str | None, typer.Option(help="class; the predicted one")] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="model evaluations")] = None,
    head: Annotated[
        str | None, typer.Option(help="whose pairs: an expert's; the mixture's by default")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="pairs to show")] = 5,
    seed: Seed = None,
) -> None:
    """Explain one new sample; give each modality by name: --text "..." --image poster.jpg."""
    from fli2moe.runs import probe_sample
    from fli2moe.terminal import Terminal

    inputs = named(context.args)
    explanation = probe_sample(run, inputs, target=target, budget=budget, head=head, seed=seed)
    head = head or explanation.heads[0]
    with Terminal() as terminal:
        probability = explanation.probabilities[explanation.class_index]
        terminal.say(f"{explanation.target}: probability {probability:.3f}")
        for kind in explanation.pairs:
            terminal.say(f"{kind}, read on {head}:")
            for pair in explanation.top_pairs(kind, top, head):
                terminal.say(f"  {pair}")
        for note in explanation.notes:
            terminal.say(f"note: {note}")


@data_app.command("check")
def data_check(
    manifest: Annotated[Path, typer.Argument(help="CSV, JSONL or Parquet manifest")],
    label: Annotated[str, typer.Option(help="label column")] = "label",
    id_column: Annotated[str, typer.Option("--id", help="id column")] = "id",
    split: Annotated[str, typer.Option(help="split column, if there is one")] = "split",
    image_root: Annotated[
        Path | None, typer.Option(help="folder of the pictures; the manifest's own")
    ] = None,
    allow_outside: Annotated[
        bool, typer.Option(help="accept pictures outside that folder")
    ] = False,
    separator: Annotated[str, typer.Option(help="between several labels of a row")] = "|",
    optional: Annotated[
        list[str] | None, typer.Option(help="modality that a row may leave empty; repeatable")
    ] = None,
    encoding: Encoding = "utf-8",
    max_errors: Annotated[int, typer.Option(min=1, help="problems to show")] = 50,
) -> None:
    """List every problem of a manifest at once; needs no configuration."""
    from fli2moe.data.check import check_manifest
    from fli2moe.encoders.images import open_picture

    found = check_manifest(
        manifest,
        open_picture=open_picture,
        label_column=label,
        id_column=id_column,
        split_column=split,
        image_root=image_root,
        allow_outside=allow_outside,
        label_separator=separator,
        optional=optional or (),
        encoding=encoding,
        max_errors=max_errors,
    )
    for line in found.lines():
        typer.echo(one_line(line))
    if not found.ok:
        raise typer.Exit(2)


def main() -> None:
    """Runs the command line."""
    # Threads that spin while they wait make a shared machine several times slower. OpenMP reads
    # this when torch is first imported, which is later than here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    finally:  # nothing is left to interrupt: what Python raises while it shuts down is only noise
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: Any) -> NoReturn:
    """Ends as Ctrl-C does: in one line, exit code 4; a second signal ends at once."""
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt


def _fail(line: str, code: int, error: FLI2MoEError | None = None) -> NoReturn:
    """Ends the process; inside an `except` block, the traceback comes first with --debug."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from fli2moe.parallel.launching import left_to_parent

        if left_to_parent(error):
            sys.exit(code)
    if os.environ.get("FLI2MOE_DEBUG"):
        traceback.print_exc()
    typer.echo(f"fli2moe: {one_line(line)}", err=True)
    sys.exit(code)

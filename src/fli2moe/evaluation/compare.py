"""Several runs and seeds in one table: mean and sd over seeds, paired tests, effect sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from fli2moe.config import Config
from fli2moe.errors import InputError, unknown_name
from fli2moe.evaluation.cells import mean_and_spread
from fli2moe.evaluation.figures import column_of, figures_of
from fli2moe.evaluation.groups import differing_keys, flat, group_names
from fli2moe.evaluation.part import Table
from fli2moe.evaluation.results import read_samples
from fli2moe.evaluation.statistics import bootstrap_interval, effect_size, holm, wilcoxon
from fli2moe.files import read_json
from fli2moe.run_folder import METRICS, run_config

SAMPLES = "samples.parquet"
REMEDY = "run `fli2moe evaluate` on it"
CORRECT = "correct"  # the column that is true or false
FLIPS = 10_000  # of signs, at most


@dataclass(frozen=True)
class Spread:
    """A figure over seeds: mean and sd (None for one seed) of the `n` runs that measured it."""

    mean: float | None
    sd: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """One figure of a group against the reference, sample by sample.

    Attributes:
        figure: which.
        test: `sign flips` or `Wilcoxon`, both two-sided.
        mean: difference of per-sample means over seeds, group minus reference.
        interval: 95% bootstrap interval over samples; None where not defined.
        p: of the test alone.
        p_holm: adjusted over the group's figures.
        effect_size: Cohen's d_z.
        n: samples measured in both.
    """

    figure: str
    test: str
    mean: float | None
    interval: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    effect_size: float | None
    n: int


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        name: what tells it from the others.
        runs: folders.
        seeds: of the runs.
        figures: {figure: its mean and sd over the runs}.
        differences: from the reference; empty for the reference itself.
    """

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    figures: Mapping[str, Spread]
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Groups of runs on the same data.

    Attributes:
        reference: name of the group that the others are tested against.
        groups: in the order in which their first runs were given.
        notes: what a reader should know before comparing, a sentence each.
    """

    reference: str
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Run:
    path: Path
    config: Config
    metrics: Mapping[str, Any]
    figures: Mapping[str, float | None]
    samples: pandas.DataFrame

    @property
    def options(self) -> dict[str, Any]:
        """{`section.key`: value} of all that tells it from runs of another group."""
        return flat(self.config.model_dump(mode="json", exclude={"seed"}))


def compare_runs(runs: Sequence[Path], *, reference: str | None = None) -> Comparison:
    """Compares evaluated runs on the same data.

    Runs whose configurations differ in `seed` alone are a group, and its figures are means over
    them. Each group is tested against the reference on single samples: a column of
    `samples.parquet` is averaged over the seeds of a group that measured the sample, and the groups
    are matched by sample id. So the tests speak of test samples, the sd of seeds.

    Correctness is tested by flipping the signs of the differences: by all of their signs where that
    is at most 10,000, else by as many at random, seeded, the p value being (1 + as large) / (1 +
    flips). The other columns are tested by Wilcoxon's signed-rank test.

    Args:
        runs: folders written by `train` and `evaluate`.
        reference: name of the group that others are tested against; that of the first run.

    Raises:
        InputError: fewer than two runs, one given twice or not evaluated, runs of different data,
            or an unknown reference.
    """
    if len(runs) < 2:
        found = f"{len(runs)} run{'s' * (len(runs) != 1)}"
        raise InputError("compare", found, "two or more run folders")
    _refuse_twice(runs, [Path(run).resolve() for run in runs])
    read = [_read(Path(run)) for run in runs]
    for other in read[1:]:
        _check_same_data(read[0], other)
    _refuse_twice(runs, [run.config for run in read])
    groups: list[list[_Run]] = []
    for run in read:
        own = [group for group in groups if group[0].options == run.options]
        if own:
            own[0].append(run)
        else:
            groups.append([run])
    names = group_names([group[0].config for group in groups])
    if reference is not None and reference not in names:
        raise unknown_name("--reference", "group", reference, names)
    base = 0 if reference is None else names.index(reference)
    compared = tuple(
        _group(name, group, None if n == base else groups[base])
        for n, (name, group) in enumerate(zip(names, groups, strict=True))
    )
    return Comparison(names[base], compared, _notes(read))


def _refuse_twice(runs: Sequence[Path], identities: Sequence[Any]) -> None:
    for n, identity in enumerate(identities):
        if identity in identities[:n]:
            first = runs[list(identities).index(identity)]
            found = "given twice" if first == runs[n] else f"the same run as {first}"
            raise InputError(f"compare {runs[n]}", found, "each configuration and seed once")


def _read(run: Path) -> _Run:
    config, path = run_config(run), run / METRICS
    if not path.is_file():
        raise InputError(str(run), f"no {METRICS}", "an evaluated run", REMEDY)
    metrics = read_json(path, REMEDY)
    try:
        figures, model = figures_of(metrics), str(metrics["model"]["fingerprint"])
    except (KeyError, TypeError, AttributeError, ValueError):
        found = "another format"
        raise InputError(str(path), found, "what `evaluate` wrote", REMEDY) from None
    samples = read_samples(run / SAMPLES)
    if samples.attrs["fingerprint"] != model:
        found = f"results of another model than those of {METRICS}"
        raise InputError(str(run / SAMPLES), found, f"fingerprint {model[:12]}", REMEDY)
    return _Run(run, config, metrics, figures, samples)


def _check_same_data(first: _Run, other: _Run) -> None:
    where, expected = f"compare {first.path} with {other.path}", "runs on the same data"
    mine, its = (flat(_identity(r.config)) for r in (first, other))
    if keys := differing_keys([mine, its]):
        key = keys[0]
        found = f"data.{key} is {mine.get(key)!r} and {its.get(key)!r}"
        raise InputError(where, found, expected, "compare each with runs of its own data")
    alone = set(first.samples["id"]) ^ set(other.samples["id"])
    if alone:
        name = min(alone)
        holder = first if name in set(first.samples["id"]) else other
        found = f"other test samples: {len(alone)} in one alone, as {name!r} in {holder.path}"
        raise InputError(where, found, expected, "evaluate both on the same files")


def _identity(config: Config) -> dict[str, Any]:
    """What makes data the same: all but how the columns are encoded."""
    values = config.data.model_dump(mode="json")
    columns = {name: m["column"] or name for name, m in values["modalities"].items()}
    return {**values, "modalities": columns}


def _notes(runs: Sequence[_Run]) -> tuple[str, ...]:
    """Says which options of the evaluation differ between runs, and how they read the data.

    Their figures differ by them. Which `parts` were measured does not matter to those that were.
    """
    notes: list[str] = []
    settings = [flat(run.metrics.get("settings", {})) for run in runs]
    if keys := [key for key in differing_keys(settings) if key != "parts"]:
        notes.append(
            f"Evaluated with different settings ({', '.join(keys)}): other samples or estimates."
        )
    read = [flat(run.config.data.model_dump(mode="json")["modalities"]) for run in runs]
    if keys := differing_keys(read):
        notes.append(
            f"Read by different encoders or cut into other tokens ({', '.join(keys)}): shares and "
            "figures by modality are not of the same parts."
        )
    return tuple(notes)


def _group(name: str, runs: Sequence[_Run], base: Sequence[_Run] | None) -> Group:
    figures = {
        figure: _spread([run.figures.get(figure) for run in runs])
        for figure in dict.fromkeys(figure for run in runs for figure in run.figures)
    }
    return Group(
        name,
        tuple(str(run.path) for run in runs),
        tuple(run.config.seed for run in runs),
        figures,
        () if base is None else _differences(runs, base, list(figures)),
    )


def _spread(values: Sequence[float | None]) -> Spread:
    kept = [value for value in values if value is not None and np.isfinite(value)]
    mean = float(np.mean(kept)) if kept else None
    return Spread(mean, float(np.std(kept, ddof=1)) if len(kept) > 1 else None, len(kept))


def _differences(
    runs: Sequence[_Run], base: Sequence[_Run], figures: Sequence[str]
) -> tuple[Difference, ...]:
    found: list[Difference] = []
    for figure in figures:
        column = column_of(figure)
        if column is None:
            continue
        own, other = _by_sample(runs, column), _by_sample(base, column)
        common = own.index.intersection(other.index, sort=True)
        values: list[float] = (own[common] - other[common]).tolist()
        exact = column == CORRECT
        if exact and runs[0].config.data.labels == "multilabel":
            figure = "exact match"  # accuracy is the mean over labels there
        found.append(
            Difference(
                figure,
                "sign flips" if exact else "Wilcoxon",
                float(np.mean(values)) if values else None,
                bootstrap_interval(values),
                _sign_flips(values) if exact else wilcoxon(values, "two-sided"),
                None,
                effect_size(values),
                len(values),
            )
        )
    adjusted = holm([d.p for d in found])
    return tuple(replace(d, p_holm=p) for d, p in zip(found, adjusted, strict=True))


def _by_sample(runs: Sequence[_Run], column: str) -> pandas.Series[float]:
    """The mean over runs of a column, by sample id; samples that no run measured are left out."""
    columns = [
        run.samples.set_index("id")[column].astype(float)
        for run in runs
        if column in run.samples.columns
    ]
    if not columns:
        return pandas.Series(dtype=float)
    return pandas.concat(columns, axis=1).mean(axis=1).dropna()


def _sign_flips(differences: Sequence[float], seed: int = 0) -> float | None:
    """Returns the two-sided p of |mean| were each difference's sign chance; None below two.

    Differences of 0 have no sign to flip, so they count for nothing.
    """
    if len(differences) < 2:
        return None
    values = np.array([d for d in differences if d], dtype=np.float64)
    seen = abs(float(values.sum())) - 1e-9  # an equal sum, rounded otherwise, is as large
    if 2 ** len(values) <= FLIPS:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(values))))
        return float((np.abs(signs @ values) >= seen).mean())
    generator, larger, block = np.random.default_rng(seed), 0, 500
    for _ in range(FLIPS // block):
        flips: NDArray[np.int64] = generator.integers(2, size=(block, len(values))) * 2 - 1
        larger += int((np.abs(flips @ values) >= seen).sum())
    return (1 + larger) / (1 + FLIPS)


def comparison_tables(comparison: Comparison) -> dict[str, Table]:
    """Returns a table of all figures, and one of the differences from the reference if any."""
    groups = comparison.groups
    figures = dict.fromkeys(figure for group in groups for figure in group.figures)
    seeds = "; ".join(f"{g.name}: {len(g.runs)}" for g in groups)
    note = f"Mean ± standard deviation over seeds ({seeds})."
    tables: dict[str, Table] = {
        "Runs compared": {
            "columns": ["figure", *(group.name for group in groups)],
            "rows": [[figure, *(_shown(group, figure) for group in groups)] for figure in figures],
            "note": " ".join([note, *comparison.notes]),
        }
    }
    rows = [
        [
            group.name,
            d.figure,
            None if d.mean is None else f"{d.mean:+.3f}",
            None if d.interval is None else f"{d.interval[0]:+.3f} to {d.interval[1]:+.3f}",
            d.test,
            d.p_holm,
            d.effect_size,
            d.n,
        ]
        for group in groups
        for d in group.differences
    ]
    columns = ["runs", "figure", "difference", "95% interval", "test", "p (Holm)", "d_z", "samples"]
    if rows:
        tables[f"Differences from {comparison.reference}"] = {
            "columns": columns,
            "rows": rows,
            "note": "Sample by sample, means over seeds: the samples are chance here, the seeds "
            "are not. Two-sided; Holm over the figures of a row's runs.",
        }
    return tables


def _shown(group: Group, figure: str) -> str | None:
    """`mean ± sd`, and of how many runs where not all have measured it."""
    found = group.figures.get(figure)
    if found is None or found.mean is None:
        return None
    missing = f" ({found.n} of {len(group.runs)})" if found.n < len(group.runs) else ""
    return mean_and_spread(found.mean, found.sd) + missing

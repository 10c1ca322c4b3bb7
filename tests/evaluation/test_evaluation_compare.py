"""Comparison of runs: figures and tests by hand, names of groups, and what cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from fli2moe.config import Config
from fli2moe.errors import InputError
from fli2moe.evaluation.compare import Comparison, Spread, compare_runs, comparison_tables
from fli2moe.evaluation.results import FORMAT
from fli2moe.evaluation.statistics import wilcoxon

IDS = ("a", "b", "c", "d")
GAP = "comprehensiveness gap, attention_gradient, text"
GAP_COLUMN = "faithfulness.attention_gradient.text.comprehensiveness_gap"
Make = Callable[..., Path]


def config_of(tmp_path: Path, options: Mapping[str, Any], seed: int) -> Config:
    data = {
        "path": str(tmp_path / "data.csv"),
        "modalities": {"text": {"encoder": "builtin:words", "max_tokens": 64, "pool": 1}},
    }
    config = Config.from_dict(
        {"preset": options.get("preset", "small"), "seed": seed, "data": data}
    )
    return config.with_options({k: v for k, v in options.items() if k != "preset"})


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a run folder as `train` and `evaluate` leave it, with given figures and columns."""

    def run(
        name: str,
        options: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        accuracy: float = 0.5,
        metrics: Mapping[str, Any] | None = None,
        ids: Sequence[str] = IDS,
        **columns: Sequence[Any],
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = config_of(tmp_path, options or {}, seed)
        (folder / "config.yaml").write_text(config.to_yaml())
        task = {"accuracy": accuracy, "macro_f1": None, "micro_f1": 0.25, "auroc": 0.75}
        found = {"task": task, "experts": {}, "model": {"name": "x", "fingerprint": name}}
        (folder / "metrics.json").write_text(json.dumps({**found, **(metrics or {})}))
        table = {"id": list(ids), "correct": [True] * len(ids), **columns}
        about = {"format": FORMAT, "fingerprint": name}
        pyarrow.parquet.write_table(
            pyarrow.table(table).replace_schema_metadata(about), folder / "samples.parquet"
        )
        return folder

    return run


def names(comparison: Comparison) -> list[str]:
    return [group.name for group in comparison.groups]


def test_runs_that_differ_in_their_seed_are_one_group_with_mean_and_sd(make: Make):
    dense = {"model.name": "dense"}
    runs = [
        make("m0", accuracy=0.6),
        make("d0", dense, accuracy=0.4),
        make("m1", seed=1, accuracy=0.9),
        make("m2", seed=2, accuracy=0.9),
    ]
    found = compare_runs(runs)
    assert names(found) == ["fli2moe", "dense"]
    assert found.reference == "fli2moe"
    mixture, other = found.groups
    assert mixture.seeds == (0, 1, 2)
    assert mixture.runs == tuple(str(runs[n]) for n in (0, 2, 3))
    assert mixture.figures["accuracy"] == Spread(pytest.approx(0.8), pytest.approx(sqrt(0.03)), 3)
    assert other.figures["accuracy"] == Spread(0.4, None, 1)
    assert other.figures["macro F1"] == Spread(None, None, 0)
    assert other.figures["micro F1"].mean == 0.25


def test_figures_of_every_part_are_compared_and_one_that_is_missing_is_none(make: Make):
    gap = {"comprehensiveness_gap": {"mean": 0.1}, "sufficiency_gap": {"mean": 0.2}}
    metrics = {
        "interaction_share": {"mixture": {"mean": 0.07}, "synergy": {"mean": 0.9}},
        "faithfulness": {
            "percents": [5.0],
            "baseline": "mean",
            "by_head": [],
            "attention_gradient": {"text": gap},
        },
        "planted": {"synergy": {"precision_at_1": 0.8, "average_precision": float("nan")}},
    }
    found = compare_runs([make("m", metrics=metrics), make("d", {"model.name": "dense"})])
    figures = {name: spread.mean for name, spread in found.groups[0].figures.items()}
    assert figures == {
        "accuracy": 0.5,
        "macro F1": None,
        "micro F1": 0.25,
        "AUROC": 0.75,
        "interaction share": 0.07,
        GAP: 0.1,
        "sufficiency gap, attention_gradient, text": 0.2,
        "planted synergy, precision@1": 0.8,
        "planted synergy, average precision": None,
    }
    table = comparison_tables(found)["Runs compared"]
    assert table["columns"] == ["figure", "fli2moe", "dense"]
    assert [GAP, "0.100", None] in table["rows"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([{}, {"losses.decorrelation": "cka"}], ["fli2moe", "fli2moe, decorrelation cka"]),
        (
            [{"model.name": "dense"}, {}, {"losses.decorrelation": "cos"}],
            ["dense", "fli2moe", "fli2moe, decorrelation cos"],
        ),
        (
            [
                {"losses.variant": "residual"},
                {"losses.variant": "residual", "losses.router": "pid"},
                {"losses.variant": "swap"},
            ],
            [
                "fli2moe, variant residual",
                "fli2moe, variant residual, router pid",
                "fli2moe, variant swap",
            ],
        ),
        ([{}, {"preset": "paper"}], ["fli2moe", "fli2moe, preset paper"]),
        (
            [{"model.hidden": 96}, {"model.hidden": 128}],
            ["fli2moe", "fli2moe, hidden 128"],
        ),
        (
            [{"model.router.kind": "uniform", "training.epochs": 3}, {}],
            ["fli2moe, router.kind uniform", "fli2moe"],
        ),
        (
            [{"training.class_weights": {"x": 2.0}}, {}],
            ["fli2moe, class_weights.x 2.0", "fli2moe"],
        ),
        (
            [{"model.name": "dense", "losses.interaction": 0.0}, {"training.epochs": 3}],
            ["dense", "fli2moe"],
        ),
    ],
)
def test_a_groups_name_says_as_little_as_tells_it_apart(
    make: Make, options: list[dict[str, Any]], expected: list[str]
):
    found = compare_runs([make(str(n), of_run) for n, of_run in enumerate(options)])
    assert names(found) == expected


def test_continuous_columns_are_matched_by_id_and_averaged_over_seeds(make: Make):
    metrics = {
        "faithfulness": {
            "attention_gradient": {
                "text": {"comprehensiveness_gap": {"mean": 0.0}, "sufficiency_gap": None}
            }
        }
    }
    dense = {"model.name": "dense"}
    runs = [
        make("d", dense, metrics=metrics, ids=("d", "c", "b", "a"), **{GAP_COLUMN: [0, 1, 2, 3]}),
        make("m0", metrics=metrics, **{GAP_COLUMN: [4.0, 4.0, None, None]}),
        make("m1", seed=1, metrics=metrics, **{GAP_COLUMN: [6.0, None, 2.5, None]}),
    ]
    found = compare_runs(runs)
    assert not found.groups[0].differences
    (difference,) = [d for d in found.groups[1].differences if d.figure == GAP]
    values = [5.0 - 3, 4.0 - 2, 2.5 - 1]  # a, b, c; no seed measured d
    assert difference.mean == pytest.approx(np.mean(values))
    assert difference.n == 3
    assert difference.test == "Wilcoxon"
    assert difference.p == wilcoxon(values, "two-sided")
    assert difference.effect_size == pytest.approx(np.mean(values) / np.std(values, ddof=1))
    low, high = difference.interval
    assert 1.5 <= low <= difference.mean <= high <= 2.0
    correct = {d.figure: d for d in found.groups[1].differences}["accuracy"]
    assert (correct.mean, correct.p, correct.effect_size) == (0.0, 1.0, None)
    # Holm over the two that were tested: the smaller p is doubled
    assert difference.p_holm == pytest.approx(min(1.0, 2 * difference.p))
    assert correct.p_holm == 1.0
    unmeasured = {d.figure: d for d in found.groups[1].differences}["interaction share"]
    assert unmeasured.n == 0
    assert unmeasured.mean is unmeasured.p is unmeasured.p_holm is unmeasured.interval is None


def test_correctness_is_tested_by_all_flips_of_few_signs(make: Make):
    runs = [
        make("d", {"model.name": "dense"}, correct=[False, False, False, True]),
        make("m0", correct=[True, True, True, True]),
        make("m1", seed=1, correct=[True, False, True, True]),
    ]
    (difference,) = [d for d in compare_runs(runs).groups[1].differences if d.figure == "accuracy"]
    # differences 1, 1/2, 1, 0: of the 8 signs of three, all plus and all minus are as large
    assert difference.test == "sign flips"
    assert difference.mean == pytest.approx(2.5 / 4)
    assert difference.p == pytest.approx(2 / 8)
    swapped = compare_runs([runs[1], runs[2], runs[0]]).groups[1].differences[0]
    assert (swapped.mean, swapped.p) == (-difference.mean, difference.p)


def test_correctness_of_many_samples_is_tested_by_seeded_flips(make: Make):
    ids = [f"{n:02d}" for n in range(40)]
    correct = [True] * 24 + [False] * 16
    runs = [
        make("d", {"model.name": "dense"}, ids=ids, correct=[not c for c in correct]),
        make("m", ids=ids, correct=correct),
    ]
    difference = compare_runs(runs).groups[1].differences[0]
    binomial = 0.2682  # two-sided of 24 of 40, as McNemar's exact test has it
    assert difference.p == pytest.approx(binomial, abs=4 * sqrt(binomial * (1 - binomial) / 1e4))
    assert compare_runs(runs).groups[1].differences[0] == difference


def test_multi_label_correctness_is_not_called_accuracy(make: Make):
    many = {"data.labels": "multilabel"}
    found = compare_runs([make("m", many), make("d", {**many, "model.name": "dense"})])
    assert found.groups[1].differences[0].figure == "exact match"


def test_another_group_can_be_the_reference(make: Make):
    runs = [make("m"), make("d", {"model.name": "dense"})]
    found = compare_runs(runs, reference="dense")
    assert found.reference == "dense"
    assert found.groups[0].differences
    assert not found.groups[1].differences
    with pytest.raises(InputError, match=r"unknown group 'dens'; .*did you mean 'dense'"):
        compare_runs(runs, reference="dens")


def test_seeds_of_one_model_are_compared_with_nothing(make: Make):
    found = compare_runs([make("m0"), make("m1", seed=1)])
    assert list(comparison_tables(found)) == ["Runs compared"]


def test_tables_and_json_hold_the_same(make: Make):
    runs = [
        make("d", {"model.name": "dense"}, correct=[False, False, False, True]),
        make("m0", accuracy=0.6),
        make("m1", seed=1, metrics={"task": {}}),
        make("m2", seed=2, accuracy=0.8),
    ]
    found = compare_runs(runs)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["reference"] == "dense"
    accuracy = data["groups"][1]["figures"]["accuracy"]
    assert accuracy == {"mean": pytest.approx(0.7), "sd": pytest.approx(sqrt(0.02)), "n": 2}
    tables = comparison_tables(found)
    assert list(tables) == ["Runs compared", "Differences from dense"]
    for table in tables.values():
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
    assert tables["Runs compared"]["rows"][0] == ["accuracy", "0.500", "0.700 ± 0.141 (2 of 3)"]
    assert "(dense: 1; fli2moe: 3)" in tables["Runs compared"]["note"]
    row = tables["Differences from dense"]["rows"][0]
    assert row[:3] == ["fli2moe", "accuracy", "+0.750"]
    assert row[4:] == ["sign flips", 0.25, pytest.approx(1.5), 4]


def test_different_settings_of_the_evaluation_are_said(make: Make):
    settings = {"seed": 0, "budget": 500, "explain": {"steps": 32}}
    other = {"seed": 0, "budget": 300, "explain": {"steps": 64}}
    dense = {"model.name": "dense"}
    runs = [
        make("m", metrics={"settings": settings}),
        make("d", dense, metrics={"settings": other}),
    ]
    assert compare_runs(runs).notes == (
        "Evaluated with different settings (budget, explain.steps): other samples or estimates.",
    )
    same = [runs[0], make("e", dense, metrics={"settings": settings})]
    assert compare_runs(same).notes == ()


def fails(runs: Sequence[Path]) -> str:
    with pytest.raises(InputError) as caught:
        compare_runs(runs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_fewer_than_two_runs_or_one_twice(make: Make, tmp_path: Path):
    run = make("m")
    assert fails([]) == "compare: 0 runs; expected two or more run folders"
    assert "1 run;" in fails([run])
    assert f"compare {run}: given twice" in fails([run, run])
    link = tmp_path / "link"
    link.symlink_to(run)
    assert f"compare {link}: the same run as {run}" in fails([run, link])
    copy = make("copy")
    assert f"compare {copy}: the same run as {run}" in fails([run, make("other", seed=1), copy])


def test_a_run_that_was_not_evaluated(make: Make, tmp_path: Path):
    good, bad = make("m"), make("bad", seed=1)
    (bad / "metrics.json").unlink()
    assert fails([good, bad]) == (
        f"{bad}: no metrics.json; expected an evaluated run; run `fli2moe evaluate` on it"
    )
    assert "no such run folder" in fails([good, tmp_path / "nowhere"])
    for text, message in (
        ("{", "not readable"),
        ("[]", "another format"),
        ("{}", "another format"),
    ):
        (bad / "metrics.json").write_text(text)
        assert message in fails([good, bad])


def test_results_of_single_samples_that_are_missing_or_of_another_model(make: Make):
    good, bad = make("m"), make("bad", seed=1)
    (good / "samples.parquet").rename(bad / "samples.parquet")
    assert "samples.parquet: results of another model than those of metrics.json" in fails(
        [bad, good]
    )
    assert "samples.parquet: no such file" in fails([good, bad])


def test_runs_of_different_data_are_named_with_what_differs(make: Make):
    good = make("m")
    other = make("o", {"data.split_seed": 3})
    assert fails([good, other]) == (
        f"compare {good} with {other}: data.split_seed is 0 and 3; "
        "expected runs on the same data; compare each with runs of its own data"
    )
    column = make("e", {"data.modalities.text.column": "caption"})
    assert "data.modalities.text is 'text' and 'caption'" in fails([good, column])
    fewer = make("f", {"model.name": "dense"}, ids=("a", "b", "c"))
    assert f"other test samples: 1 in one alone, as 'd' in {good}" in fails([good, fewer])
    more = make("g", {"model.name": "dense"}, ids=("0", *IDS, "e"))
    assert f"other test samples: 2 in one alone, as '0' in {more}" in fails([good, more])


def test_runs_that_read_the_same_data_otherwise_are_compared_and_that_is_said(make: Make):
    found = compare_runs([make("m"), make("e", {"data.modalities.text.max_tokens": 8})])
    assert len(found.groups) == 2
    assert any("max_tokens" in group.name for group in found.groups)
    assert any("text.max_tokens" in note for note in found.notes)

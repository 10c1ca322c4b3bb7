"""Every table that a reader is promised, with n/a where nothing was measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluation_options import with_options

from fli2moe.config import Config
from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError
from fli2moe.evaluation import evaluate, metric_tables, to_latex, to_markdown
from fli2moe.evaluation.across_models import across_tables
from fli2moe.evaluation.evaluate import PARTS
from fli2moe.evaluation.results import read_samples
from fli2moe.evaluation.sanity import sanity_tables
from fli2moe.evaluation.stability import stability_tables
from fli2moe.features import default_cache
from fli2moe.predictor import Predictor
from fli2moe.training import fit


@pytest.fixture(scope="module")
def dense(make_config: Callable[..., Config], dataset: Dataset, tiny_run: Path) -> Predictor:
    config = make_config(model={"name": "dense"}, training={"epochs": 1})
    return fit(config, dataset, cache=default_cache(tiny_run))


@pytest.fixture(scope="module")
def metrics(
    predictor: Predictor,
    dense: Predictor,
    dataset: Dataset,
    tiny_run: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("metrics")
    options = {"parts": tuple(PARTS), "samples": 2, "pair_samples": 2, "budget": 100}
    whole = with_options(predictor, evaluation=options)
    found = evaluate(
        whole, dataset, cache=default_cache(tiny_run), out=out, against={"other": dense}
    )
    assert len(read_samples(out / "samples.parquet")) == 24
    tables = metric_tables(found)
    assert (out / "tables.md").read_text(encoding="utf-8") == to_markdown(tables)
    assert (out / "tables.tex").read_text(encoding="utf-8") == to_latex(tables)
    assert json.loads((out / "metrics.json").read_text()) == found
    return found


def test_every_promised_table_is_there(metrics: dict[str, Any]):
    tables = metric_tables(metrics)
    assert list(tables) == [
        "Share of the output that interactions explain",
        "Share of the output that interactions explain, per label",
        "Task",
        "Accuracy per label",
        "Experts",
        "Faithfulness",
        "Drop of the probability at K = 15%",
        "Faithfulness by head",
        "Faithfulness by baseline",
        "Concentration of importance",
        "Specificity of importance to experts",
        "Top pairs against the same players with other partners",
        "Hiding the top pairs",
        "Members of the top pairs as two blocks",
        "Planted pairs recovered",
        *sanity_tables(metrics["sanity"]),
        *across_tables(metrics["explanations_against"]),
        *stability_tables(metrics["stability"]),
    ]
    for table in tables.values():
        assert all(len(row) == len(table["columns"]) for row in table["rows"])


def test_the_task_stands_beside_the_other_model_and_the_probes(metrics: dict[str, Any]):
    tables = metric_tables(metrics)
    names = [row[0] for row in tables["Task"]["rows"]]
    probes = [f"linear probe, {view}" for view in ("text", "image", "text + image")]
    assert names == ["fli2moe", "other", *probes]
    assert tables["Task"]["rows"][1][1] == metrics["against"]["other"]["accuracy"]
    per_label = tables["Accuracy per label"]
    assert per_label["columns"] == ["label", "fli2moe", "other"]
    assert [row[0] for row in per_label["rows"]] == ["dog", "match", "star", "sunny"]


def test_rows_hold_the_figures_of_the_metrics(metrics: dict[str, Any]):
    tables = metric_tables(metrics)
    experts = {row[0]: row for row in tables["Experts"]["rows"]}
    assert experts["synergy"][1] == metrics["experts"]["synergy"]["weight"]
    assert experts["synergy"][3] == metrics["experts"]["synergy"]["share"]
    rows = {tuple(row[:2]): row for row in tables["Faithfulness"]["rows"]}
    found = metrics["faithfulness"]["attention_gradient"]["text"]
    row = rows["attention_gradient", "text"]
    assert row[2] == found["aopc_comprehensiveness"]["mean"]
    assert row[3] == pytest.approx(sum(found["random_comprehensiveness"]) / 5)
    gap = found["comprehensiveness_gap"]
    assert row[4] == f"{gap['mean']:+.3f} ± {gap['standard_error']:.3f}"
    assert gap["mean"] == pytest.approx(row[2] - row[3])
    heads = {
        row[0]: row[1] for row in tables["Share of the output that interactions explain"]["rows"]
    }
    assert list(heads) == ["mixture", "unique_text", "unique_image", "synergy", "redundancy"]
    labels = tables["Share of the output that interactions explain, per label"]["rows"]
    of_dog = metrics["interaction_share"]["per_label"]["dog"]["mixture"]
    assert labels[0] == ["dog", of_dog["mean"], of_dog["standard_error"], of_dog["n"]]
    planted = {tuple(row[:2]): row for row in tables["Planted pairs recovered"]["rows"]}
    synergy = metrics["planted"]["synergy"]
    assert planted["synergy (match)", "mixture"][2] == synergy["precision_at_1"]
    expert = synergy["experts"]["unique_text"]
    assert planted["synergy (match)", "unique_text"][3] == expert["average_precision"]


def test_another_model_cannot_take_the_models_own_name(predictor: Predictor, dataset: Dataset):
    with pytest.raises(InputError, match="against fli2moe: the name of the model itself; give"):
        evaluate(predictor, dataset, cache="unused", against={"fli2moe": predictor})


def test_the_dense_model_and_ordinary_data_have_fewer_tables(
    dense: Predictor, dataset: Dataset, tiny_run: Path
):
    samples = tuple(replace(s, causes=()) for s in dataset.samples)
    found = evaluate(dense, replace(dataset, samples=samples), cache=default_cache(tiny_run))
    assert "planted" not in found
    tables = metric_tables(found)
    assert "Experts" not in tables
    assert "Planted pairs recovered" not in tables
    assert tables["Task"]["rows"][0][0] == "dense"


def test_what_was_not_measured_is_none_and_shown_as_such(metrics: dict[str, Any]):
    data = json.loads(json.dumps(metrics))
    gap = data["faithfulness"]["attention_gradient"]["text"]["comprehensiveness_gap"]
    gap.update(mean=None, standard_error=None, n=0)
    data["task"]["auroc"] = None
    data["planted"]["synergy"].update(precision_at_1=None, n=0)
    tables = metric_tables(data)
    assert tables["Task"]["rows"][0][-1] is None
    rows = {tuple(row[:2]): row for row in tables["Faithfulness"]["rows"]}
    assert rows["attention_gradient", "text"][4] == "n/a"
    assert tables["Planted pairs recovered"]["rows"][0][2] is None

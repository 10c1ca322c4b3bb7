"""A binary task from a manifest to a report: two classes, one score, the second class positive."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fli2moe.config import Config
from fli2moe.data.load import load_dataset
from fli2moe.errors import InputError
from fli2moe.evaluation import metric_tables
from fli2moe.explain.store import read_explanations
from fli2moe.predictor import Predictor
from fli2moe.runs import evaluate_run, explain_run, report_run, train_run
from fli2moe.task import Task
from fli2moe.trainee import Trainee
from fli2moe.training import fit

MakeConfig = Callable[..., Config]
MakeBinary = Callable[..., Config]
NAMES = ("accuracy", "macro_f1", "micro_f1", "auroc")


@pytest.fixture(scope="session")
def make_binary(make_config: MakeConfig, manifest: Path) -> MakeBinary:
    """Returns a configuration over the tiny manifest with other labels: is there a dog?"""

    def make(names: Sequence[str], classes: Sequence[str] | None = None, **sections: Any) -> Config:
        path = manifest.with_name(f"{'-'.join(names)}.csv")
        with manifest.open(newline="", encoding="utf-8") as source:
            rows = list(csv.DictReader(source))
        for i, row in enumerate(rows):
            true = len(names) - 1 if "dog" in row["label"].split("|") else i % (len(names) - 1)
            row["label"] = names[true]
            del row["causes"]
        with path.open("w", newline="", encoding="utf-8") as target:
            writer = csv.DictWriter(target, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        data = {"path": str(path), "labels": "binary", "classes": classes}
        return make_config(data=data, **sections)

    return make


@pytest.fixture(scope="session")
def binary_run(make_binary: MakeBinary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("binary") / "run"
    train_run(make_binary(("no", "yes"), training={"epochs": 3}), run)
    return run


def test_a_run_is_trained_evaluated_explained_and_reported(binary_run: Path) -> None:
    metrics = evaluate_run(binary_run)
    task = metrics["task"]
    assert set(task) == {"accuracy", "micro_f1", "macro_f1", "auroc", "f1", "average_precision"}
    assert all(0 <= value <= 1 for value in task.values())
    table = metric_tables(metrics)["Task"]
    assert table["columns"][-2:] == ["F1 of the positive", "average precision"]
    assert table["rows"][0][-2:] == [task["f1"], task["average_precision"]]
    assert all(len(row) == len(table["columns"]) for row in table["rows"])
    older = {n: v for n, v in task.items() if n not in ("f1", "average_precision")}
    beside = metric_tables({**metrics, "against": {"multiclass": older}})["Task"]["rows"]
    assert beside[1] == ["multiclass", *(older[n] for n in NAMES), None, None]
    explain_run(binary_run, limit=2)
    explanations = list(read_explanations(binary_run / "explanations"))
    assert len(explanations) == 2
    assert {e.task for e in explanations} == {"binary"}
    assert {e.target for e in explanations} == {"yes"}
    assert {e.classes for e in explanations} == {("no", "yes")}
    assert all(sum(e.probabilities) == pytest.approx(1) for e in explanations)
    page = report_run(binary_run).read_text(encoding="utf-8")
    assert "F1 of the positive" in page
    assert "average precision" in page


def test_what_is_saved_predicts_what_was_trained(binary_run: Path) -> None:
    predictor = Predictor.load(binary_run)
    assert predictor.task == Task("binary", ("no", "yes"))
    dataset = load_dataset(predictor.config.data)
    for sample in dataset.test[:8]:
        found = predictor(sample.inputs)
        positive = found.probabilities["yes"]
        assert found.probabilities["no"] == pytest.approx(1 - positive)
        assert found.labels == (("yes",) if positive >= 0.5 else ("no",))


@pytest.mark.parametrize("score", ["auto", "logit", "centred"])
def test_the_negative_class_is_explained_by_minus_the_score(binary_run: Path, score: str) -> None:
    predictor = Predictor.load(binary_run)
    sample = load_dataset(predictor.config.data).test[0]
    tokens = predictor.encode([sample.inputs])
    logits = predictor.run(tokens).logits
    yes, no = (predictor.game(sample.inputs, name, score=score) for name in ("yes", "no"))
    players = len(predictor.players(sample.inputs, tokens))
    coalitions = np.random.default_rng(0).random((6, players)) < 0.5
    coalitions[0] = True
    assert yes(coalitions)[0] == pytest.approx(float(logits[0, 1] - logits[0, 0]), rel=1e-5)
    np.testing.assert_allclose(yes.heads(coalitions), -no.heads(coalitions), rtol=1e-5, atol=1e-6)
    positive, negative = (predictor.explain(sample.inputs, target=n) for n in ("yes", "no"))
    assert (positive.target, negative.target) == ("yes", "no")
    assert positive.expert_shares == pytest.approx(negative.expert_shares, rel=1e-5)


@pytest.mark.parametrize(
    ("names", "classes", "expected"),
    [
        (("no", "yes"), None, ("no", "yes")),
        (("0", "1"), None, ("0", "1")),
        (("hate", "fine"), None, ("fine", "hate")),
        (("fine", "hate"), ("hate", "fine"), ("hate", "fine")),
    ],
)
def test_the_class_that_sorts_last_is_the_positive_one_unless_classes_say(
    make_binary: MakeBinary,
    names: tuple[str, ...],
    classes: tuple[str, ...] | None,
    expected: tuple[str, ...],
) -> None:
    config = make_binary(names, classes)
    assert load_dataset(config.data).classes == expected
    assert Config.from_dict(config.model_dump(mode="json")) == config


def test_other_than_two_classes_are_one_error(make_binary: MakeBinary) -> None:
    config = make_binary(("a", "b", "c"))
    with pytest.raises(InputError) as caught:
        load_dataset(config.data)
    assert str(caught.value) == (
        "data.labels: binary: 3 classes (a, b, c); expected two classes; "
        "data.labels: multiclass takes any number"
    )
    one = make_binary(("only", "only"))
    with pytest.raises(InputError, match=r"1 class\(es\).*expected at least two"):
        load_dataset(one.data)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("none", None), ({"yes": 3}, [1.0, 3.0]), ({"no": 0.5, "yes": 2}, [0.5, 2.0])],
    ids=["none", "one", "both"],
)
def test_class_weights_are_none_or_as_given(
    make_binary: MakeBinary, given: Any, expected: list[float] | None
) -> None:
    seen: list[Any] = []

    class Stop(Exception):  # noqa: N818
        pass

    def stop(self: Trainee, *_: Any) -> None:
        seen.append(self.class_weights)
        raise Stop

    config = make_binary(("no", "yes"), training={"class_weights": given})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainee, "configure_optimizers", stop)
        with pytest.raises(Stop):
            fit(config, load_dataset(config.data))
    assert (None if seen[0] is None else seen[0].tolist()) == expected


def test_an_unknown_class_in_the_weights_is_refused_before_anything_is_encoded(
    make_binary: MakeBinary, tmp_path: Path
) -> None:
    config = make_binary(("no", "yes"), training={"class_weights": {"yess": 2}})
    with pytest.raises(InputError, match=r"class_weights: .*'yess'.*did you mean 'yes'"):
        fit(config, load_dataset(config.data), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "losses",
    [
        {"space": "logit"},
        {"variant": "residual", "router": "pid", "decorrelation": "cka"},
    ],
    ids=["logit", "residual"],
)
def test_every_kind_of_loss_trains_a_binary_task(
    make_binary: MakeBinary, tmp_path: Path, losses: dict[str, Any]
) -> None:
    config = make_binary(
        ("no", "yes"),
        losses={"interaction_schedule": "constant", **losses},
        training={"epochs": 1, "class_weights": "balanced", "micro_batch": 8},
    )
    fit(config, load_dataset(config.data), tmp_path / "run", cache=tmp_path / "cache")
    (row,) = json.loads((tmp_path / "run" / "training.json").read_text())["history"]
    assert all(value is not None for value in row.values())

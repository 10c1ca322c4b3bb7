"""Run folders as functions: what is written where, and what is never mixed up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fli2moe import demo, runs
from fli2moe.config import Config
from fli2moe.data.sample import Dataset
from fli2moe.demo import demo_config, run_demo
from fli2moe.errors import InputError, MachineError
from fli2moe.evaluation import metric_tables
from fli2moe.explain.store import read_explanations
from fli2moe.predictor import Predictor
from fli2moe.runs import (
    evaluate_run,
    explain_run,
    probe_sample,
    report_run,
    train_run,
)

MakeConfig = Callable[..., Config]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, beside a copy of its cache."""
    shutil.copytree(tiny_run, tmp_path / "run")
    shutil.copytree(tiny_run.parent / "features", tmp_path / "features")
    return tmp_path / "run"


@pytest.fixture
def no_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoders that refuse to work: everything must come from the cache."""

    def refuse(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("fli2moe.encoders.builtin.BuiltinWords.encode", refuse)
    monkeypatch.setattr("fli2moe.encoders.builtin.BuiltinPatches.encode", refuse)


@pytest.mark.usefixtures("no_encoding")
def test_a_second_training_reads_the_cache(make_config: MakeConfig, run: Path):
    test_only = make_config(training={"epochs": 1})
    train_run(test_only, run.parent / "second")
    assert (run.parent / "second" / "predictor.json").is_file()


def test_an_existing_run_is_kept_unless_told(make_config: MakeConfig, run: Path):
    before = (run / "predictor.json").read_bytes()
    with pytest.raises(InputError, match=r"holds a trained model; .*or give --overwrite"):
        train_run(make_config(seed=3), run)
    assert (run / "predictor.json").read_bytes() == before


def test_overwriting_forgets_the_old_models_figures(make_config: MakeConfig, run: Path):
    explain_run(run, limit=1, budget=60)
    report_run(run)
    (run / "metrics.json").write_text("{}")
    old = Predictor.load(run).fingerprint
    train_run(make_config(seed=3), run, overwrite=True)
    assert Predictor.load(run).fingerprint != old
    assert not (run / "metrics.json").exists()
    assert not (run / "report.html").exists()
    with pytest.raises(InputError, match="no explanations"):
        report_run(run)


def test_a_training_that_fails_leaves_the_old_model_and_its_figures(
    make_config: MakeConfig, run: Path, monkeypatch: pytest.MonkeyPatch
):
    (run / "metrics.json").write_text("{}")
    old = Predictor.load(run).fingerprint
    with pytest.raises(InputError, match="not finite"):
        train_run(make_config(training={"learning_rate": 1e30, "clip": None}), run, overwrite=True)
    assert Predictor.load(run).fingerprint == old
    assert (run / "metrics.json").exists()


def test_a_folder_that_cannot_be_written_is_found_before_encoding(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("fli2moe.training.fit", lambda *_: pytest.fail("began to work"))
    with pytest.raises(MachineError, match="cannot write"):
        train_run(make_config(), tmp_path / "file")


def test_notes_on_the_data_are_told(
    make_config: MakeConfig,
    dataset: Dataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    noted = replace(dataset, notes=("two rows look the same",))
    monkeypatch.setattr(runs, "load_dataset", lambda _: noted)
    with caplog.at_level("WARNING", "fli2moe"):
        train_run(make_config(training={"epochs": 1}), tmp_path / "run")
    assert "data: two rows look the same" in caplog.messages


def test_evaluate_writes_metrics_and_stands_beside_another_run(make_config: MakeConfig, run: Path):
    dense = run.parent / "dense"
    train_run(make_config(model={"name": "dense"}, training={"epochs": 1}), dense)
    stages: list[str] = []
    metrics = evaluate_run(run, against=[dense], progress=lambda stage, *_: stages.append(stage))
    assert json.loads((run / "metrics.json").read_text()) == metrics
    assert set(metrics["against"]) == {"dense"}
    assert {"linear probe", "faithfulness", "interaction share", "planted synergy"} <= set(stages)


def test_runs_whose_folders_have_one_name_stand_beside_each_other(run: Path):
    folders = [run.parent / name for name in ("a/dense", "b/dense", "c/fli2moe")]
    for folder in folders:
        shutil.copytree(run, folder)
    found = evaluate_run(run, against=folders)
    assert list(found["against"]) == ["a/dense", "b/dense", "c/fli2moe"]
    columns = metric_tables(found)["Accuracy per label"]["columns"]
    assert columns == ["label", "fli2moe", "a/dense", "b/dense", "c/fli2moe"]
    assert list(evaluate_run(run, against=folders[:1])["against"]) == ["dense"]
    alone = evaluate_run(run, against=folders[2:])
    assert list(alone["against"]) == ["c/fli2moe"]  # the model itself is called fli2moe


def test_a_run_is_not_compared_twice_or_with_itself(run: Path, monkeypatch: pytest.MonkeyPatch):
    other = run.parent / "other"
    shutil.copytree(run, other)
    with pytest.raises(InputError, match=r"--against .*/\.\./other: given twice; expected each"):
        evaluate_run(run, against=[other, other / ".." / "other"])
    monkeypatch.chdir(run)
    with pytest.raises(InputError, match=r"--against \.: the run itself; expected each other run"):
        evaluate_run(run, against=[Path()])


def test_runs_on_other_data_are_not_compared(make_config: MakeConfig, run: Path):
    other = run.parent / "other"
    data = {"label_separator": ";"}
    shutil.copytree(run, other)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("label_separator: '|'", "label_separator: ;"))
    assert Config.from_yaml(other / "config.yaml").data.label_separator == data["label_separator"]
    with pytest.raises(InputError, match="--against other: trained on other data"):
        evaluate_run(run, against=[other])


@pytest.mark.usefixtures("no_encoding")
def test_samples_of_the_data_are_explained_from_the_cache(run: Path, dataset: Dataset):
    seen: list[tuple[str, int, int]] = []
    evaluated = run_features(run, dataset)
    count = explain_run(
        run, split="train", limit=2, budget=60, progress=lambda *step: seen.append(step)
    )
    found = list(read_explanations(run / "explanations"))
    assert len(found) == count >= 2
    assert list(dict.fromkeys(e.sample_id for e in found)) == [s.id for s in dataset.train[:2]]
    assert seen == [("explain", 1, 2), ("explain", 2, 2)]
    predictor = Predictor.load(run)
    for explanation in found:
        assert explanation.class_index in evaluated[explanation.sample_id]
        assert explanation.fingerprint == predictor.fingerprint


def run_features(run: Path, dataset: Dataset) -> dict[str, list[int]]:
    """{sample: targets}, from the cache alone."""
    from fli2moe.features import default_cache, encode_samples

    predictor = Predictor.load(run)
    features = encode_samples(dataset.train[:2], predictor.encoders, default_cache(run))
    targets = predictor.task.targets(predictor.run(features.batch([0, 1])).logits)
    return dict(zip([s.id for s in dataset.train[:2]], targets, strict=True))


def test_named_samples_are_explained_in_the_order_asked_for(run: Path, dataset: Dataset):
    wanted = [dataset.test[3].id, dataset.test[1].id]
    explain_run(run, ids=wanted, budget=60)
    found = [e.sample_id for e in read_explanations(run / "explanations")]
    assert list(dict.fromkeys(found)) == wanted
    with pytest.raises(InputError, match="--id nobody: no such sample in split test"):
        explain_run(run, ids=["nobody"])
    with pytest.raises(InputError, match=r"unknown split 'tset'; expected one of train, val, test"):
        explain_run(run, split="tset")


def test_the_report_shows_what_was_explained(run: Path, dataset: Dataset):
    explain_run(run, limit=1, budget=60)
    page = report_run(run)
    assert page == run / "report.html"
    assert dataset.test[0].id in page.read_text(encoding="utf-8")
    evaluate_run(run)
    elsewhere = report_run(run, run.parent / "page.html")
    assert "Accuracy per label" in elsewhere.read_text(encoding="utf-8")


def test_damaged_metrics_are_one_line(run: Path):
    explain_run(run, limit=1, budget=60)
    for content in ("{", "[]", "{}", '{"task": {}}'):
        (run / "metrics.json").write_text(content)
        with pytest.raises(InputError, match=r"metrics\.json: .*run `fli2moe evaluate` again"):
            report_run(run)


def test_explanations_of_samples_that_left_the_data_are_one_line(
    run: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
):
    explain_run(run, limit=1, budget=60)
    fewer = replace(dataset, samples=dataset.samples[:-24])
    monkeypatch.setattr(runs, "load_dataset", lambda _: fewer)
    with pytest.raises(InputError, match="which the data do not have; explain again"):
        report_run(run)


def test_the_seed_is_the_configs_unless_one_is_given(run: Path):
    text = (run / "config.yaml").read_text()
    assert "\nseed: 0\n" in text
    (run / "config.yaml").write_text(text.replace("\nseed: 0\n", "\nseed: 7\n"))
    explain_run(run, limit=1, budget=60)
    assert {e.seed for e in read_explanations(run / "explanations")} == {7}
    explain_run(run, limit=1, budget=60, seed=3)
    assert {e.seed for e in read_explanations(run / "explanations")} == {3}
    assert evaluate_run(run)["settings"]["seed"] == 7
    assert evaluate_run(run, seed=0)["settings"]["seed"] == 0


def test_how_to_explain_and_evaluate_can_be_chosen_after_training(run: Path):
    before = (run / "config.yaml").read_bytes()
    options = {"explain.baseline": "zero", "explain.budget": 60, "explain.steps": 16}
    explain_run(run, limit=1, options=options)
    for explanation in read_explanations(run / "explanations"):
        assert {
            f"explain.{k}": explanation.settings[k] for k in ("baseline", "budget", "steps")
        } == (options)
    measured = {"evaluation.probe": False, "evaluation.samples": 2, "explain.baseline": "zero"}
    metrics = evaluate_run(run, options=measured)
    assert "linear_probe" not in metrics
    assert metrics["settings"]["samples"] == 2
    assert metrics["settings"]["explain"]["baseline"] == "zero"
    assert (run / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model.hidden", 8, "model.hidden: fixed when the model was trained; expected explain.key"),
        ("seed", 3, "seed: fixed when the model was trained"),
        ("explainn.budget", 99, "explainn.budget: no such section; expected explain.key=value or"),
        ("explain.baselin", "zero", "explain.baselin: unknown key; .*'baseline'"),
        ("explain.steps", 3, "explain.steps: 3; expected .*16"),
        ("explain", "zero", "explain: "),
    ],
)
def test_only_known_options_that_do_not_touch_the_model_are_taken(
    run: Path, key: str, value: object, said: str
):
    for call in (evaluate_run, explain_run):
        with pytest.raises(InputError, match=said) as caught:
            call(run, options={key: value})
        assert "\n" not in str(caught.value)


def test_a_new_sample_is_probed(run: Path, dataset: Dataset):
    inputs = {m: str(x) for m, x in dataset.test[0].inputs.items()}
    explanation = probe_sample(run, inputs, target="dog", budget=60, seed=0)
    assert (explanation.sample_id, explanation.target) == ("probe", "dog")


@pytest.mark.parametrize(
    "call",
    [evaluate_run, explain_run, report_run],
    ids=["evaluate", "explain", "report"],
)
def test_no_run_folder_is_one_line(tmp_path: Path, call: Callable[[Path], object]):
    with pytest.raises(InputError, match="no such run folder; expected a folder written by"):
        call(tmp_path / "none")


def test_a_small_demo_ends_with_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def small(manifest: Path, seed: int = 0) -> Config:
        data = demo_config(manifest, seed).model_dump(mode="json")
        data["training"] |= {"epochs": 1}
        data["model"] |= {"hidden": 16, "layers": 1}
        data["explain"] |= {"budget": 60}
        data["evaluation"] |= {"samples": 3, "pair_samples": 2, "budget": 200, "head_samples": 1}
        data["evaluation"] |= {"check_samples": 2, "pair_contexts": 2}
        return Config.from_dict(data)

    monkeypatch.setattr(demo, "demo_config", small)
    stages: list[str] = []
    epochs: list[str] = []
    result = run_demo(
        tmp_path / "demo",
        sizes=(64, 16, 16),
        samples=2,
        progress=lambda stage, *_: stages.append(stage),
        progress_epoch=lambda name, _: epochs.append(name),
    )
    assert result.report == tmp_path / "demo" / "report.html"
    assert result.report.is_file()
    assert set(result.metrics["against"]) == {"demo-dense"}
    assert set(result.seconds) == {
        "data",
        "train fli2moe",
        "train dense",
        "evaluate",
        "explain",
        "report",
    }
    assert epochs == ["fli2moe", "dense"]
    assert {"text", "image", "faithfulness", "explain"} <= set(stages)
    assert stages.count("text") == 4 + 1 + 1  # train, val and test once each, nothing twice

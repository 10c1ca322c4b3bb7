"""Predictions as probabilities, explanations of several samples, and the way to the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError, MachineError
from fli2moe.predictor import Predictor
from fli2moe.run_folder import RUN_FILES


class Hub:
    """Stands for the hub: keeps what was uploaded, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.calls = error, []

    def __call__(self, token: Any = None) -> Hub:
        self.token = token
        return self

    def create_repo(self, name: str, **options: Any) -> str:
        if self.error:
            raise self.error
        self.calls.append(("create", name, options))
        return f"https://huggingface.co/{name}"

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], **_: Any
    ):
        files = {p.name: p.read_bytes() for p in Path(folder_path).iterdir() if p.is_file()}
        kept = {name: content for name, content in files.items() if name in allow_patterns}
        self.calls.append(("upload", repo_id, kept))


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


def test_probabilities_are_those_of_predict(predictor: Predictor, dataset: Dataset):
    inputs = [s.inputs for s in dataset.test[:3]]
    found = predictor.predict_proba(inputs)
    assert found.shape == (3, 4)
    for row, prediction in zip(found, predictor.predict(inputs), strict=True):
        assert row.tolist() == pytest.approx(list(prediction.probabilities.values()))


def test_a_batch_of_explanations_is_each_alone(predictor: Predictor, dataset: Dataset):
    inputs, seen = [s.inputs for s in dataset.test[:2]], []
    found = predictor.explain_batch(
        inputs, [None, "dog"], budget=60, seed=3, progress=lambda *step: seen.append(step)
    )
    assert seen == [("explain", 1, 2), ("explain", 2, 2)]
    assert found[0] == predictor.explain(inputs[0], sample_id="0", budget=60, seed=3)
    assert found[1] == predictor.explain(inputs[1], "dog", sample_id="1", budget=60, seed=3)
    with pytest.raises(InputError, match="targets: 1; expected 2"):
        predictor.explain_batch(inputs, ["dog"])
    assert predictor.explain_batch([]) == []


def test_what_is_pushed_loads_again(
    predictor: Predictor, tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
):
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    address = predictor.push_to_hub("someone/shapes", private=True, token="t")
    assert address == "https://huggingface.co/someone/shapes"
    assert hub.token == "t"
    (_, name, options), (_, _, files) = hub.calls
    assert name == "someone/shapes"
    assert options == {"private": True, "exist_ok": True}
    assert set(files) == {*RUN_FILES, "README.md"} - {"metrics.json", "training.json"}
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    inputs = dataset.test[0].inputs
    assert Predictor.from_pretrained(tmp_path)(inputs) == predictor(inputs)


def test_figures_and_report_of_the_run_go_along(
    predictor: Predictor, run: Path, monkeypatch: pytest.MonkeyPatch
):
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    with pytest.raises(InputError, match=r"no metrics\.json"):
        predictor.push_to_hub("someone/shapes", run=run)
    metrics = {"model": {"fingerprint": predictor.fingerprint}, "task": {"accuracy": 0.875}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "report.html").write_text("<!doctype html>")
    predictor.push_to_hub("someone/shapes", run=run)
    files = hub.calls[-1][2]
    assert {"metrics.json", "report.html", "training.json"} <= set(files)
    card = files["README.md"].decode()
    assert "`test accuracy`: 0.875" in card
    assert "`report.html` beside this card" in card
    metrics["model"]["fingerprint"] = "another"
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(InputError, match="figures of another model"):
        predictor.push_to_hub("someone/shapes", run=run)


def failed(status: int) -> errors.HfHubHTTPError:
    # The hub's library changes its HTTP library; of the answer it reads these alone.
    answer: Any = SimpleNamespace(status_code=status, headers={}, request=None)
    return errors.HfHubHTTPError("no", response=answer)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (failed(403), InputError, "does not let this account write here; .*hf auth login"),
        (failed(503), MachineError, "did not take it"),
        (OSError("no network"), MachineError, "cannot be reached"),
        (errors.LocalTokenNotFoundError("none"), MachineError, "no token; .*hf auth login"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    predictor: Predictor,
    error: Exception,
    kind: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub(error))
    with pytest.raises(kind, match=message):
        predictor.push_to_hub("someone/shapes")


@pytest.mark.parametrize("name", ["shapes", "a/b/c", "../x", ""])
def test_a_name_that_is_none_is_never_sent(
    predictor: Predictor, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface_hub, "HfApi", SimpleNamespace())
    with pytest.raises(InputError, match="expected owner/name"):
        predictor.push_to_hub(name)

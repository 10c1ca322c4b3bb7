"""Samples that lack a modality, and more than two modalities: from the manifest to the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fli2moe.config import Config
from fli2moe.data.load import load_dataset
from fli2moe.encoders import absent, encode_present, load_encoder
from fli2moe.errors import InputError
from fli2moe.features import encode_samples
from fli2moe.predictor import Predictor
from fli2moe.runs import evaluate_run, explain_run, report_run, train_run

MakeConfig = Callable[..., Config]
GAPS = {"text": 3, "image": 4}  # every third row has no text, every fourth no picture


@pytest.fixture(scope="module")
def gappy_manifest(manifest: Path) -> Path:
    """The tiny `shapes` with cells emptied; a row that would have neither keeps both."""
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for n, row in enumerate(rows):
        del row["causes"]
        for m, every in GAPS.items():
            if n % every == 1 and n % 12 != 1:
                row[m] = ""
    path = manifest.with_name("gaps.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def optional_modalities(**options: Any) -> dict[str, Any]:
    return {
        "text": {"encoder": "builtin:words", "optional": True, **options},
        "image": {"encoder": "builtin:patches", "optional": True},
    }


@pytest.fixture(scope="module")
def gappy_run(
    make_config: MakeConfig, gappy_manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    data = {"path": str(gappy_manifest), "modalities": optional_modalities()}
    constant = {"interaction_schedule": "constant"}
    config = make_config(data=data, losses=constant, training={"micro_batch": 5})
    run = tmp_path_factory.mktemp("gaps") / "run"
    train_run(config, run)
    return run


def test_a_run_with_gaps_trains_evaluates_explains_and_reports(
    gappy_run: Path,
) -> None:
    history = json.loads((gappy_run / "training.json").read_text())["history"]
    assert all(np.isfinite(row["loss_unique_image"]) for row in history)
    metrics = evaluate_run(gappy_run)
    assert 0 <= metrics["task"]["accuracy"] <= 1
    for curve in metrics["faithfulness"]["gradient_x_input"].values():
        assert curve["n"] + curve["left_out"] == 4
        assert np.isfinite(curve["comprehensiveness"]).all()
    found = explain_run(gappy_run, limit=6, budget=60)
    assert found >= 6
    report_run(gappy_run)
    page = (gappy_run / "report.html").read_text(encoding="utf-8")
    assert "the sample has no text" in page
    assert "the sample has no image" in page


def test_only_what_is_there_plays(gappy_run: Path, gappy_manifest: Path) -> None:
    predictor = Predictor.load(gappy_run)
    samples = load_dataset(predictor.config.data).samples
    whole = next(s for s in samples if len(s.inputs) == 2)
    for kept in ("text", "image"):
        inputs = {kept: whole.inputs[kept]}
        explanation = predictor.explain(inputs, budget=60)
        assert {p.modality for p in explanation.players} == {kept}
        assert set(explanation.inputs) == set(explanation.unseen) == {kept}
        assert explanation.pairs == {}
        assert any("the sample has no" in note for note in explanation.notes)
        both = dict.fromkeys(whole.inputs, None) | inputs
        assert predictor(both) == predictor(inputs)
        assert all(np.isfinite(p) for p in predictor(inputs).probabilities.values())
    assert predictor(whole.inputs) != predictor({"text": whole.inputs["text"]})
    with pytest.raises(InputError, match=r"input 0: no modality; expected at least one of"):
        predictor({"text": None})


def test_a_batch_with_gaps_predicts_each_sample_as_if_it_were_alone(gappy_run: Path) -> None:
    predictor = Predictor.load(gappy_run)
    samples = load_dataset(predictor.config.data).test
    inputs = [s.inputs for s in samples[:8]]
    assert {len(x) for x in inputs} == {1, 2}
    for alone, together in zip(map(predictor, inputs), predictor.predict(inputs), strict=True):
        assert alone.labels == together.labels
        assert alone.probabilities == pytest.approx(together.probabilities, abs=1e-5)


def test_features_from_the_cache_have_the_gaps_of_the_manifest(
    gappy_manifest: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    data = {"path": str(gappy_manifest), "modalities": optional_modalities()}
    dataset = load_dataset(make_config(data=data).data)
    assert any("rows have no 'text'" in note for note in dataset.notes)
    encoders = {"text": load_encoder("builtin:words"), "image": load_encoder("builtin:patches")}
    features = encode_samples(dataset.test, encoders, tmp_path)
    batch = features.batch(range(len(dataset.test)))
    for m, encoder in encoders.items():
        there = torch.tensor([m in s.inputs for s in dataset.test])
        assert not bool(there.all())
        assert torch.equal(batch[m].mask.any(1), there)
        encoded = encode_present(encoder, [s.inputs.get(m) for s in dataset.test])
        assert torch.equal(encoded.mask, batch[m].mask)
        torch.testing.assert_close(encoded.features[there], batch[m].features[there])
        assert torch.equal(encoded.spans, batch[m].spans)
        gaps = [i for i, has in enumerate(there.tolist()) if not has]
        nothing = features.batch(gaps)[m]
        assert not nothing.mask.any()
        assert nothing.spans.shape[2] == batch[m].spans.shape[2]
        assert torch.equal(nothing.features, absent(encoder, len(gaps)).features)


def test_an_empty_cell_is_an_error_where_the_modality_is_not_optional(
    gappy_manifest: Path, make_config: MakeConfig
) -> None:
    modalities = optional_modalities()
    modalities["image"]["optional"] = False
    config = make_config(data={"path": str(gappy_manifest), "modalities": modalities})
    with pytest.raises(InputError, match=r"line \d+, column 'image'.*an empty path"):
        load_dataset(config.data)


def test_a_predictor_of_whole_samples_goes_on_asking_for_every_modality(
    predictor: Predictor,
) -> None:
    for inputs in ({"text": "a dog"}, {"text": "a dog", "image": None}):
        with pytest.raises(InputError, match=r"input 0: no image; .*give every modality"):
            predictor(inputs)


def three_modalities(folder: Path, rows: int = 40) -> Path:
    """A text and two vector modalities; the label is whether the first numbers agree in sign."""
    draw = np.random.default_rng(0)
    lines = []
    for n in range(rows):
        words, signs = ("red", "blue"), draw.choice([-1, 1], 3)
        line: dict[str, Any] = {"id": str(n), "text": f"a {words[int(signs[0] > 0)]} thing"}
        for m, width, sign in (("table", 3, signs[1]), ("sound", 5, signs[2])):
            values = draw.normal(size=(2, width)).astype(np.float32)
            values[0, 0] = 2 * sign
            np.save(folder / f"{m}{n}.npy", values)
            line[m] = f"{m}{n}.npy"
        if n % 5 == 3:
            line["sound"] = ""
        line["label"] = "same" if signs[0] == signs[1] else "other"
        line["split"] = ("train", "train", "val", "test")[n % 4]
        lines.append(line)
    path = folder / "three.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("model", "losses"),
    [
        ({}, {}),
        ({"isolated": True, "router": {"kind": "uniform"}}, {"variant": "residual"}),
        ({"experts": ["synergy", "redundancy"]}, {"variant": "swap", "decorrelation": "cka"}),
    ],
    ids=["paper", "isolated", "two experts"],
)
def test_three_modalities_from_the_manifest_to_the_report(
    tmp_path: Path, model: dict[str, Any], losses: dict[str, Any]
) -> None:
    config = Config.from_dict(
        {
            "data": {
                "path": str(three_modalities(tmp_path)),
                "modalities": {
                    "text": {"encoder": "builtin:words", "width": 8},
                    "table": {"encoder": "vector", "width": 3},
                    "sound": {"encoder": "vector", "width": 5, "optional": True},
                },
            },
            "model": {"hidden": 8, "layers": 1, "heads": 2, **model},
            "losses": losses,
            "training": {"epochs": 2, "batch_size": 8},
            "explain": {"budget": 80},
            "evaluation": {
                "samples": 3,
                "head_samples": 1,
                "check_samples": 2,
                "pair_contexts": 2,
                "pair_samples": 3,
                "budget": 80,
                "random_draws": 2,
            },
        }
    )
    run = tmp_path / "run"
    train_run(config, run)
    predictor = Predictor.load(run)
    asked = model.get("experts")
    everyone = ("unique_text", "unique_table", "unique_sound", "synergy", "redundancy")
    assert predictor.model.experts == (everyone if asked is None else tuple(asked))
    terms = json.loads((run / "training.json").read_text())["history"][-1]
    assert all(np.isfinite(terms[f"loss_{e}"]) for e in predictor.model.experts)
    evaluate_run(run)
    explanations = explain_run(run, limit=4)
    assert explanations == 4
    report_run(run)
    assert (run / "report.html").stat().st_size > 1000

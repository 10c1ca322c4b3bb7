"""One object that reads raw inputs, predicts and explains."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fli2moe.config import Config
from fli2moe.data.load import load_dataset
from fli2moe.data.sample import Dataset, Sample
from fli2moe.encoders.builtin import BuiltinWords
from fli2moe.errors import InputError, MachineError
from fli2moe.evaluation.planted import planted_recovery
from fli2moe.evaluation.split import TestSplit, run_split
from fli2moe.evaluation.task import task_metrics
from fli2moe.explain import pieces
from fli2moe.explain.attribution import METHODS, Attribution, attribute
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.model_game import BASELINES
from fli2moe.explain.pieces import contribution_shares, input_name, leak_players
from fli2moe.features import default_cache
from fli2moe.model import MoEOutput, from_pretrained
from fli2moe.predictor import Predictor
from fli2moe.task import Task
from fli2moe.tokens import TokenBatch, Tokens
from fli2moe.training import fit

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def sample(dataset: Dataset) -> Sample:
    return dataset.test[0]


@pytest.fixture(scope="module")
def explanation(predictor: Predictor, sample: Sample) -> Explanation:
    return predictor.explain(sample.inputs, sample_id=sample.id, labels=sample.labels)


def with_config(predictor: Predictor, **explain: Any) -> Predictor:
    options = predictor.config.explain.model_copy(update=explain)
    config = predictor.config.model_copy(update={"explain": options})
    parts = (predictor.task, predictor.model, predictor.encoders, predictor.means)
    return Predictor(config, *parts)


def test_one_is_predicted_as_in_a_batch(predictor: Predictor, dataset: Dataset):
    inputs = [s.inputs for s in dataset.test[:6]]
    together = predictor.predict(inputs)
    for one, raw in zip(together, inputs, strict=True):
        alone = predictor(raw)
        assert alone.labels == one.labels
        for name in ("probabilities", "expert_weights"):
            assert getattr(alone, name) == pytest.approx(getattr(one, name), abs=1e-6)
        assert sum(alone.expert_weights.values()) == pytest.approx(1)
        assert tuple(alone.probabilities) == dataset.classes
        assert alone.labels == tuple(c for c, p in alone.probabilities.items() if p >= 0.5)


def test_loading_gives_identical_logits(predictor: Predictor, dataset: Dataset, tmp_path: Path):
    tokens = predictor.encode([s.inputs for s in dataset.test])
    again = Predictor.load(predictor.save(tmp_path / "run"))
    assert torch.equal(predictor.run(tokens).logits, again.run(tokens).logits)
    first, second = (p.explain(dataset.test[0].inputs, budget=300) for p in (predictor, again))
    assert first.to_json() == second.to_json()


def test_from_pretrained_reads_a_folder_or_the_hub(
    predictor: Predictor, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def download(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        return str(tiny_run)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    predictor.save_pretrained(tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    here = Predictor.from_pretrained("owner/name")
    assert not asked
    encoders = {"text": predictor.encoders["text"]}
    there = Predictor.from_pretrained(
        "owner/other", revision="v1", token="t", local_files_only=True, encoders=encoders
    )
    assert here.fingerprint == there.fingerprint == predictor.fingerprint
    assert there.encoders["text"] is predictor.encoders["text"]
    (options,) = asked
    given = [options[key] for key in ("name", "revision", "token", "local_files_only")]
    assert given == ["owner/other", "v1", "t", True]
    patterns = set(options["allow_patterns"])
    assert {Path(name).suffix for name in patterns} == {".safetensors", ".json", ".yaml", ".md"}
    assert {path.name for path in (tmp_path / "owner" / "name").iterdir()} <= patterns
    assert not any("*" in name for name in patterns)


def test_a_saved_predictor_is_a_saved_model(predictor: Predictor, tiny_run: Path):
    model = from_pretrained(tiny_run)
    state = predictor.model.state_dict()
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())


def test_same_seed_same_explanation(predictor: Predictor, sample: Sample, explanation: Explanation):
    options = {"sample_id": sample.id, "labels": sample.labels}
    assert predictor.explain(sample.inputs, **options).to_json() == explanation.to_json()
    tokens = predictor.encode([sample.inputs])
    given = predictor.explain(sample.inputs, tokens=tokens, **options)
    assert given.to_json() == explanation.to_json()
    other = predictor.explain(sample.inputs, seed=1, **options)
    assert other.to_json() != explanation.to_json()


def test_an_explanation_survives_json(explanation: Explanation):
    assert Explanation.from_json(explanation.to_json()).to_json() == explanation.to_json()


def test_what_an_explanation_says(predictor: Predictor, sample: Sample, explanation: Explanation):
    prediction = predictor(sample.inputs)
    best = max(prediction.probabilities, key=prediction.probabilities.__getitem__)
    assert explanation.target == best == explanation.classes[explanation.class_index]
    shown = dict(zip(explanation.classes, explanation.probabilities, strict=True))
    assert shown == pytest.approx(dict(prediction.probabilities))
    assert explanation.heads == ("mixture", *explanation.expert_weights)
    assert sum(explanation.expert_weights.values()) == pytest.approx(1)
    assert sum(explanation.expert_shares.values()) == pytest.approx(1)
    assert explanation.fingerprint == predictor.fingerprint
    assert set(explanation.pairs) == {"synergy", "redundancy"}
    assert explanation.inputs == {m: str(x) for m, x in sample.inputs.items()}
    assert explanation.settings["evaluations"] <= explanation.settings["budget"] == 300
    assert explanation.task == "multilabel"
    assert "leak" not in explanation.settings  # no structural token, and neighbours unmeasured
    assert "convergence_delta" not in explanation.settings


def test_words_are_exact_substrings_and_boxes_lie_in_the_picture(
    predictor: Predictor, dataset: Dataset
):
    for sample in dataset.test[:3]:
        explanation = predictor.explain(sample.inputs)
        text = str(sample.inputs["text"])
        width, height = explanation.sizes["image"]
        with Image.open(sample.inputs["image"]) as picture:
            assert (width, height) == picture.size
        words = [p for p in explanation.parts or explanation.players if p.modality == "text"]
        assert [p.name for p in words] == text.split()
        assert all(p.name == text[slice(*map(int, p.spans[0]))] for p in words)
        cut = [text[slice(*map(int, span))] for span in explanation.token_scores["text"].spans]
        assert cut == text.split()
        boxes = [b for p in explanation.players if p.modality == "image" for b in p.spans]
        for x0, y0, x1, y1 in [*boxes, *explanation.token_scores["image"].spans]:
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height


def test_a_named_target_is_explained(predictor: Predictor, sample: Sample):
    explanation = predictor.explain(sample.inputs, "star")
    assert (explanation.target, explanation.class_index) == ("star", 2)
    with pytest.raises(InputError, match=r"unknown label 'stra'; .*did you mean 'star'"):
        predictor.explain(sample.inputs, "stra")


def test_a_budget_too_small_says_how_many_are_needed(predictor: Predictor, sample: Sample):
    with pytest.raises(InputError, match=r"budget: 3 evaluations; expected at least 4"):
        predictor.explain(sample.inputs, budget=3)
    assert predictor.explain(sample.inputs, budget=4).settings["evaluations"] <= 4
    small = predictor.explain(sample.inputs, budget=80)
    assert small.settings["evaluations"] <= 80
    assert any("grouped" in note for note in small.notes)


@pytest.mark.parametrize("budget", [40, 200, 700])
def test_the_budget_is_never_exceeded(predictor: Predictor, sample: Sample, budget: int):
    calls = 0
    run = predictor.model.under

    def counted(states: Any, kept: Any) -> MoEOutput:
        nonlocal calls
        calls += len(next(iter(kept.values())))
        return run(states, kept)

    tokens = predictor.encode([sample.inputs])
    predictor.model.under = counted  # type: ignore[method-assign]
    try:
        pieces.probe_sample(
            lambda players: predictor.game(sample.inputs, "dog", tokens=tokens, players=players),
            tokens,
            predictor.players(sample.inputs, tokens),
            budget,
            "shapley",
            0,
        )
    finally:
        del predictor.model.under
    assert 0 < calls <= budget


def test_modalities_must_be_those_of_the_model(predictor: Predictor, sample: Sample):
    with pytest.raises(InputError, match=r"input 0: unknown modality 'txt'; .*mean 'text'"):
        predictor({**sample.inputs, "txt": "a"})
    with pytest.raises(InputError, match="input 1: no image; expected text, image; give every"):
        predictor.predict([sample.inputs, {"text": "a dog"}])
    with pytest.raises(InputError, match=r"gone\.png"):
        predictor({"text": "a dog", "image": "gone.png"})


@pytest.mark.parametrize("text", ["", " \n "])
def test_a_modality_without_content_is_explained_with_a_note(
    predictor: Predictor, sample: Sample, text: str
):
    explanation = predictor.explain({**sample.inputs, "text": text})
    assert explanation.notes == ("no cross-modal pair: a modality has no content token",)
    assert explanation.pairs == {}
    assert explanation.token_scores["text"].tokens == ()
    assert len(explanation.token_scores["image"].tokens) == 16
    assert {p.modality for p in explanation.players} == {"image"}
    assert Explanation.from_json(explanation.to_json()).notes == explanation.notes
    assert explanation.settings["evaluations"] == 0


def test_a_single_player_is_explained_with_a_note(predictor: Predictor, tmp_path: Path):
    Image.new("RGB", (16, 16)).save(tmp_path / "one.png")
    explanation = predictor.explain({"text": "", "image": tmp_path / "one.png"})
    assert explanation.notes[0].startswith("no cross-modal pair")
    assert len(explanation.players) == 1


def test_the_baseline_drop_warns(
    predictor: Predictor,
    sample: Sample,
    explanation: Explanation,
    caplog: pytest.LogCaptureFixture,
):
    dropping = with_config(predictor, baseline="drop")
    with caplog.at_level("WARNING", "fli2moe"):
        dropped = dropping.explain(sample.inputs)
        dropping.game(sample.inputs, "dog")
        predictor.game(sample.inputs, "dog")
    assert caplog.messages == [pieces.DROP_WARNING]
    assert pieces.DROP_WARNING in dropped.notes
    assert pieces.DROP_WARNING not in explanation.notes
    assert dropped.settings["baseline"] == "drop"


def test_baselines_by_name(predictor: Predictor):
    mean, zero = predictor.baseline("mean"), predictor.baseline("zero")
    assert all(torch.equal(mean[m], predictor.means[m]) for m in predictor.means)
    assert all(x.abs().max() == 0 for x in zero.values())
    assert predictor.baseline("drop") is None
    with pytest.raises(InputError, match=r"unknown baseline 'men'.*did you mean 'mean'"):
        predictor.baseline("men")


def test_hiding_nothing_is_the_prediction_and_hiding_all_knows_no_sample(
    predictor: Predictor, dataset: Dataset
):
    empty = []
    for sample in dataset.test[:2]:
        game = predictor.game(sample.inputs, "dog")
        everything, nothing = np.ones(game.n_players, bool), np.zeros(game.n_players, bool)
        logit = predictor.run(predictor.encode([sample.inputs])).logits[0, 0]
        assert float(game(everything)[0]) == pytest.approx(float(logit), abs=1e-5)
        empty.append(game.heads(nothing) if len(sample.inputs["text"].split()) else None)
        p = predictor.game(sample.inputs, ["dog", "star"], score="probability")(everything)
        expected = predictor(sample.inputs).probabilities
        assert float(p[0]) == pytest.approx((expected["dog"] + expected["star"]) / 2, abs=1e-6)
    same_length = predictor.encode([s.inputs for s in dataset.test[:2]])["text"].mask.all()
    if same_length:
        np.testing.assert_allclose(empty[0], empty[1], atol=1e-5)


class WithSummary(BuiltinWords):
    """Words with a structural token first that saw them all, as CLS does."""

    def encode(self, inputs: Any) -> Tokens:
        tokens = super().encode(inputs)
        total = torch.where(tokens.mask[..., None], tokens.features, 0).sum(1, keepdim=True)
        first = torch.ones(len(tokens), 1, dtype=torch.bool)
        place = torch.full((len(tokens), 1, 2), -1)
        return Tokens(
            torch.cat([total, tokens.features], 1),
            torch.cat([first, tokens.mask], 1),
            torch.cat([place, tokens.spans], 1),
        )


def test_what_structural_tokens_carry_is_reported(predictor: Predictor, sample: Sample):
    encoders = {**predictor.encoders, "text": WithSummary()}
    leaky = Predictor(predictor.config, predictor.task, predictor.model, encoders, predictor.means)
    explanation = leaky.explain(sample.inputs, "dog", budget=120)
    tokens = leaky.encode([sample.inputs])
    means = leaky.baseline("mean")
    hidden = {m: t.with_features(means[m].expand_as(t.features)) for m, t in tokens.items()}
    cls_kept = hidden["text"].features.clone()
    cls_kept[:, 0] = tokens["text"].features[:, 0]
    kept = {**hidden, "text": hidden["text"].with_features(cls_kept)}
    with torch.no_grad():
        a, b = (leaky.run(TokenBatch(x)).head_logits[0, :, 0] for x in (kept, hidden))
    expected = dict(zip(leaky.model.heads, (a - b).tolist(), strict=True))
    assert explanation.settings["leak"] == pytest.approx(expected, abs=1e-5)
    assert abs(expected["mixture"]) > 1e-4
    shown = f"{explanation.settings['leak']['mixture']:+.3g}"
    assert f"with every word and patch hidden, structural tokens still carry {shown}" in (
        explanation.notes
    )
    assert explanation.settings["evaluations"] <= 120
    assert all(0 not in p.tokens for p in explanation.players if p.modality == "text")
    players = leak_players(tokens)
    assert [(p.name, p.modality) for p in players] == [
        ("content", "text"),
        ("content", "image"),
        ("structural", "text"),
    ]


def test_a_picture_in_memory_gives_the_same_explanation_twice(predictor: Predictor, sample: Sample):
    def explain() -> Explanation:
        with Image.open(sample.inputs["image"]) as picture:
            return predictor.explain({**sample.inputs, "image": picture.copy()}, budget=100)

    first = explain()
    assert first.to_json() == explain().to_json()
    assert first.inputs["image"].startswith("Image of 64 x 64 x 3, sha256 ")
    assert input_name(np.zeros((2, 3))).startswith("ndarray of 2 x 3, sha256 ")
    assert input_name("a text") == "a text"
    by_path = predictor.explain(sample.inputs, budget=100)
    assert first.probabilities == by_path.probabilities


def test_shares_are_those_of_the_weighted_scores():
    task = Task("multiclass", ("a", "b"))
    logits = torch.tensor([[[3.0, 1.0], [0.0, 4.0]], [[1.0, 1.0], [2.0, 0.0]]])  # (B, E, C)
    weights = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    output = MoEOutput(logits[:, 0], weights, logits, torch.zeros(2, 2, 1))
    shares = contribution_shares(task, output, [0, 1])
    torch.testing.assert_close(shares, torch.tensor([[1 / 3, 2 / 3], [0.0, 1.0]]))


def test_how_far_integrated_gradients_miss_is_kept(predictor: Predictor, sample: Sample):
    coarse, fine = (
        with_config(predictor, attribution="integrated_gradients", steps=steps)
        for steps in (16, 128)
    )
    found = [p.explain(sample.inputs, budget=100) for p in (coarse, fine)]
    assert [e.attribution for e in found] == ["integrated_gradients"] * 2
    assert [e.settings["steps"] for e in found] == [16, 128]
    deltas = [e.settings["convergence_delta"] for e in found]
    assert all(
        set(d) == set(explanation.heads) for d, explanation in zip(deltas, found, strict=True)
    )
    assert sum(map(abs, deltas[1].values())) < sum(map(abs, deltas[0].values()))
    assert not any("completeness" in note for note in found[1].notes)


@pytest.mark.parametrize(
    ("delta", "difference", "noted"),
    [(0.004, 0.01, False), (0.04, 1.0, False), (-0.06, 1.0, True), (0.02, -0.1, True)],
)
def test_only_what_clearly_misses_completeness_is_noted(
    delta: float, difference: float, noted: bool
):
    values = {"convergence_delta": delta, "score_difference": difference}
    made = Attribution({}, **{name: {"mixture": torch.tensor([x])} for name, x in values.items()})
    notes = pieces.completeness_notes(made)
    assert len(notes) == noted
    assert all("of mixture miss completeness by" in note for note in notes)


def test_a_model_in_training_mode_answers_as_in_evaluation_mode(
    predictor: Predictor, sample: Sample
):
    expected = predictor(sample.inputs)
    model = copy.deepcopy(predictor.model).train()
    for layer in model.bank.layers:
        layer.dropout = layer.attention_dropout = 0.5
    training = replace(predictor, model=model)
    assert training(sample.inputs) == expected
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


def test_a_predictor_on_a_device_is_another_with_the_same_answers(
    predictor: Predictor, sample: Sample
):
    moved = predictor.to("cpu")
    assert moved.model is not predictor.model
    assert moved.device == torch.device("cpu") == predictor.device
    assert moved.explain(sample.inputs, budget=100) == predictor.explain(sample.inputs, budget=100)
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(MachineError, match=rf"device '{name}': cannot be used here: .*auto or"):
            predictor.to(name)


def test_everything_meets_the_model_on_its_device(
    predictor: Predictor, sample: Sample, monkeypatch: pytest.MonkeyPatch
):
    """Tensors without values stand for another device: they refuse to mix with the CPU's."""
    elsewhere = predictor.to("meta")
    assert predictor.device == torch.device("cpu")
    tokens = predictor.encode([sample.inputs])
    with pytest.raises(NotImplementedError, match="meta"):  # the result goes back to the CPU
        elsewhere.run(tokens)
    monkeypatch.setattr(MoEOutput, "to", lambda self, _: self)
    assert elsewhere.run(tokens).logits.is_meta
    weights = predictor.task.target_weights([[0]])
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: self)
    for method in METHODS:
        found = attribute(
            elsewhere.model, tokens, weights, method, baseline=elsewhere.baseline("mean")
        )
        assert all(x.is_meta for scores in found.scores.values() for x in scores.values())
    for baseline in BASELINES:
        game = elsewhere.game(sample.inputs, "dog", tokens=tokens, baseline=baseline)
        coalitions = torch.zeros(3, game.n_players, dtype=torch.bool)
        assert game._store._evaluate(coalitions).is_meta


def test_multi_class_predicts_and_explains_one_class(
    make_config: MakeConfig, dataset: Dataset, tmp_path: Path
):
    rows = [
        {
            "id": s.id,
            "split": s.split,
            "label": "dog" if "dog" in s.labels else "none",
            **{m: str(x) for m, x in s.inputs.items()},
        }
        for s in dataset.samples
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = make_config().model_dump(mode="json")
    data["data"] |= {"path": str(manifest), "labels": "multiclass", "allow_outside": True}
    config = Config.from_dict(data)
    predictor = fit(config, load_dataset(config.data))
    sample = dataset.test[0]
    prediction = predictor(sample.inputs)
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    (label,) = prediction.labels
    explanation = predictor.explain(sample.inputs)
    assert explanation.target == label
    game = predictor.game(sample.inputs, label)
    logits = predictor.run(predictor.encode([sample.inputs])).logits[0]
    centred = float(logits[predictor.task.index(label)] - logits.mean())
    everything = np.ones(game.n_players, bool)
    assert float(game(everything)[0]) == pytest.approx(centred, abs=1e-5)


@pytest.fixture(scope="module")
def demo_predictor(demo_run: Path) -> Predictor:
    return Predictor.load(demo_run)


@pytest.fixture(scope="module")
def demo_test(demo_predictor: Predictor, demo_run: Path) -> TestSplit:
    test = load_dataset(demo_predictor.config.data).test
    return run_split(demo_predictor, test, default_cache(demo_run))


@pytest.mark.slow
def test_the_demo_learns_every_label(demo_predictor: Predictor, demo_test: TestSplit):
    accuracy = task_metrics(demo_predictor, demo_test)["accuracy_per_label"]
    assert set(accuracy) == {"match", "sunny", "dog", "star"}
    assert min(accuracy.values()) >= 0.95


@pytest.mark.slow
def test_the_demo_finds_the_planted_pairs(demo_predictor: Predictor, demo_test: TestSplit):
    found = planted_recovery(demo_predictor, demo_test, 0, None).summary
    for kind in ("synergy", "redundancy"):
        assert found[kind]["pairs"] == (found[kind]["players"] - 16) * 16 > 100  # nothing grouped
        assert found[kind]["contexts"] == 4
        assert found[kind]["evaluations"] <= 1000
        assert found[kind]["chance_precision_at_1"] < 0.01
        assert found[kind]["n"] == 40
        assert 0 < found[kind]["precision_at_1_error"] < 0.05
        assert found[kind]["precision_at_1"] >= 0.95
        assert found[kind]["average_precision"] >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("label", "kind"), [("match", "synergy"), ("sunny", "redundancy")])
def test_the_explanation_of_a_positive_names_the_planted_pair(
    demo_predictor: Predictor, demo_test: TestSplit, label: str, kind: str
):
    positives = [s for s in demo_test.samples if label in s.labels][:4]
    named = 0
    for sample in positives:
        (cause,) = (c for c in sample.causes if c.label == label)
        explanation = demo_predictor.explain(sample.inputs, label, budget=1000)
        (pair,) = explanation.top_pairs(kind, k=1, head="mixture")
        players = {p.modality: p for p in (pair.first, pair.second)}
        found = {m: tuple(map(float, p.spans[0])) for m, p in players.items()}
        named += found == {m: tuple(map(float, spans[0])) for m, spans in cause.spans.items()}
    assert named >= 3


def test_inputs_that_are_no_mapping_are_one_line(predictor: Predictor, dataset: Dataset):
    for wrong in (dataset.test[0], "a red dog", [dataset.test[0].inputs]):
        with pytest.raises(InputError, match=r"input 0: a \w+; expected \{'text': \.\.\."):
            predictor(wrong)

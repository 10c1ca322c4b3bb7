"""The generator's promises: labels, causes, and that nothing else tells the synergy label."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import comb, sqrt
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from fli2moe.config import Config
from fli2moe.data import read_manifest
from fli2moe.data.load import load_dataset
from fli2moe.data.shapes import (
    ANIMALS,
    CELL,
    COLOURS,
    GRID,
    LABELS,
    OBJECTS,
    ORNAMENTS,
    WEATHER,
    Scene,
    draw_scene,
    render,
    write_shapes,
)
from fli2moe.demo import demo_config
from fli2moe.encoders.builtin import BuiltinPatches
from fli2moe.errors import InputError, MachineError
from fli2moe.evaluation.split import run_split
from fli2moe.evaluation.task import task_metrics
from fli2moe.training import fit

TRAIN, TEST = 5000, 3000


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    random = np.random.default_rng(3)
    return [draw_scene(random) for _ in range(TRAIN + TEST)]


@pytest.fixture(scope="module")
def match(scenes: list[Scene]) -> NDArray[np.bool_]:
    return np.array(["match" in scene.labels for scene in scenes])


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_shapes(tmp_path / name, sizes=(6, 2, 2), seed=seed)
    first = digest(tmp_path / "a")
    assert len(first) == 11
    assert first == digest(tmp_path / "b")
    assert first != digest(tmp_path / "c")


def test_writing_again_replaces_the_manifest(tmp_path: Path):
    write_shapes(tmp_path, sizes=(6, 2, 2), seed=0)
    write_shapes(tmp_path, sizes=(3, 1, 1), seed=0)
    assert len(read_manifest(tmp_path / "manifest.csv", multilabel=True)) == 5
    assert not list(tmp_path.glob(".*partial"))


def test_bad_sizes_and_a_folder_that_is_a_file(tmp_path: Path):
    with pytest.raises(InputError, match="at least one sample in each split"):
        write_shapes(tmp_path, sizes=(4, 0, 1))
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot write"):
        write_shapes(tmp_path / "file", sizes=(1, 1, 1))


def test_the_manifest_reads_back_with_causes(tmp_path: Path):
    manifest = write_shapes(tmp_path, sizes=(20, 5, 5), seed=1)
    dataset = read_manifest(manifest, multilabel=True)
    random = np.random.default_rng(1)
    assert dataset.modalities == {"image": "image", "text": "text"}
    assert dataset.classes == tuple(sorted(LABELS))
    assert [len(s) for s in (dataset.train, dataset.val, dataset.test)] == [20, 5, 5]
    for sample in dataset.samples:
        scene = draw_scene(random)
        assert sample.inputs["text"] == scene.caption
        assert set(sample.labels) == set(scene.labels)
        assert [(c.label, c.interaction) for c in sample.causes] == list(LABELS.items())
        written = [
            {m: [list(s) for s in spans] for m, spans in c.spans.items()} for c in sample.causes
        ]
        assert written == [cause["spans"] for cause in scene.causes]


def test_labels_are_balanced_and_independent(scenes: list[Scene]):
    holds = np.array([[name in scene.labels for name in LABELS] for scene in scenes])
    error = 0.5 / sqrt(len(scenes))
    assert np.abs(holds.mean(0) - 0.5).max() < 4 * error
    correlation = np.corrcoef(holds.T) - np.eye(len(LABELS))
    assert np.abs(correlation).max() < 4 / sqrt(len(scenes))


def test_text_spans_cut_out_the_one_word_that_says_it(scenes: list[Scene]):
    vocabulary = {"match": set(COLOURS), "sunny": set(WEATHER), "dog": set(ANIMALS)}
    for scene in scenes[:500]:
        words = re.findall(r"[a-z]+", scene.caption)
        said = {"match": scene.word, "sunny": scene.weather, "dog": scene.animal}
        assert 7 <= len(words) <= 13
        for cause in scene.causes:
            label = str(cause["label"])
            if label == "star":
                assert set(cause["spans"]) == {"image"}
                continue
            ((start, end),) = cause["spans"]["text"]
            assert scene.caption[start:end] == said[label]
            assert not scene.caption[max(0, start - 1) : start].isalpha()
            assert not scene.caption[end : end + 1].isalpha()
            assert [w for w in words if w in vocabulary[label]] == [said[label]]


@pytest.mark.parametrize("label", ["match", "sunny", "star"])
def test_what_causes_a_label_is_drawn_in_its_box_and_nowhere_else(scenes: list[Scene], label: str):
    for scene in scenes[:100]:
        others = {
            "match": [replace(scene, framed=c) for c in COLOURS if c != scene.framed],
            "sunny": [replace(scene, weather=w) for w in WEATHER if w != scene.weather],
            "star": [replace(scene, ornament=o) for o in ORNAMENTS if o != scene.ornament],
        }[label]
        (cause,) = (c for c in scene.causes if c["label"] == label)
        ((x0, y0, x1, y1),) = cause["spans"]["image"]
        assert (x1 - x0, y1 - y0) == (CELL, CELL)
        for other in others:
            differs = (np.asarray(render(scene)) != np.asarray(render(other))).any(-1)
            assert differs[y0:y1, x0:x1].any()
            differs[y0:y1, x0:x1] = False
            assert not differs.any()


def test_the_six_cells_are_apart_and_one_object_is_framed(scenes: list[Scene]):
    for scene in scenes[:100]:
        assert len(set(scene.cells)) == 6
        assert all(0 <= cell < GRID * GRID for cell in scene.cells)
        pixels = np.asarray(render(scene)).reshape(GRID, CELL, GRID, CELL, 3).swapaxes(1, 2)
        corners = pixels.reshape(GRID * GRID, CELL, CELL, 3)[:, 0, 0]
        assert np.flatnonzero(corners.sum(-1) < 100).tolist() == [scene.cells[0]]


def accuracy(model: object, x: NDArray[np.float64], y: NDArray[np.bool_]) -> float:
    model.fit(x[:TRAIN], y[:TRAIN])
    return float(model.score(x[TRAIN:], y[TRAIN:]))


def at_chance(value: float) -> bool:
    return abs(value - 0.5) < 3 * 0.5 / sqrt(TEST)


def one_hot(values: Sequence[str], names: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[value == name for name in names] for value in values], dtype=np.float64)


def counts(scenes: Sequence[Scene], *, framed: bool) -> NDArray[np.float64]:
    rows = []
    for scene in scenes:
        seen = Counter([*scene.others, *([scene.framed] if framed else [])])
        rows.append([seen[c] for c in COLOURS])
    return np.array(rows, dtype=np.float64)


def test_words_alone_leave_match_at_chance(scenes: list[Scene], match: NDArray[np.bool_]):
    vocabulary = sorted({word for scene in scenes for word in scene.caption.split()})
    presence = np.array([[w in s.caption.split() for w in vocabulary] for s in scenes], float)
    forest = RandomForestClassifier(100, min_samples_leaf=20, random_state=0)
    assert at_chance(accuracy(forest, presence, match))
    dog = np.array(["dog" in scene.labels for scene in scenes])
    assert accuracy(forest, presence, dog) > 0.99  # the classifier can learn what is there


def test_the_picture_alone_leaves_match_at_chance(scenes: list[Scene], match: NDArray[np.bool_]):
    encoder = BuiltinPatches(width=8)
    pictures = [render(scene) for scene in scenes]
    patches = encoder.encode(pictures).features.numpy().reshape(len(scenes), -1)
    boosting = HistGradientBoostingClassifier(max_iter=40, random_state=0)
    assert at_chance(accuracy(boosting, patches, match))
    star = np.array(["star" in scene.labels for scene in scenes])
    assert accuracy(boosting, patches, star) > 0.99  # the classifier can see what is there
    cells = np.array([scene.cells for scene in scenes], dtype=np.float64)
    told = [
        one_hot([s.framed for s in scenes], list(COLOURS)),
        counts(scenes, framed=True),
        one_hot([s.weather for s in scenes], WEATHER),
        one_hot([s.ornament for s in scenes], ORNAMENTS),
        *(one_hot([s.objects[k] for s in scenes], OBJECTS) for k in range(4)),
        cells,
    ]
    everything = np.concatenate(told, axis=1)  # all that a picture shows, already told apart
    assert at_chance(accuracy(boosting, everything, match))


def bag_of_colours_bound() -> float:
    """The best accuracy on `match` from the four objects' colour counts and the colour word.

    With k of the four objects in the word's colour, the framed one has it with p = k / 4; the word
    is the framed colour with 1/2, else one of three others with 1/6 each. So P(word, match) =
    p / 2 and P(word, no match) = (1 - p) / 6, for each of the four words.
    """
    chance = [comb(4, k) * 0.25**k * 0.75 ** (4 - k) for k in range(5)]
    best = [max(k / 4 / 2, (1 - k / 4) / 6) for k in range(5)]
    return 4 * sum(c * b for c, b in zip(chance, best, strict=True))


def test_a_bag_of_colours_reaches_its_bound_and_no_more(
    scenes: list[Scene], match: NDArray[np.bool_]
):
    bound = bag_of_colours_bound()
    assert bound == pytest.approx(0.7109375)
    word = one_hot([s.word for s in scenes], list(COLOURS))
    bag = np.concatenate([word, counts(scenes, framed=True)], axis=1)
    forest = RandomForestClassifier(100, min_samples_leaf=10, random_state=0)
    error = sqrt(bound * (1 - bound) / TEST)
    assert accuracy(forest, bag, match) < bound + 3 * error
    in_word = np.array([[c * w for c, w in zip(row[4:], row[:4], strict=True)] for row in bag])
    assert accuracy(forest, in_word.sum(1, keepdims=True), match) > bound - 3 * error


def test_hiding_the_framed_patch_leaves_nothing_that_tells_match(
    scenes: list[Scene], match: NDArray[np.bool_]
):
    word = one_hot([s.word for s in scenes], list(COLOURS))
    rest = [word, counts(scenes, framed=False)]
    rest += [one_hot([s.others[k] for s in scenes], list(COLOURS)) for k in range(3)]
    rest += [one_hot([s.objects[k] for s in scenes], OBJECTS) for k in range(1, 4)]
    rest += [np.array([s.cells for s in scenes], dtype=np.float64)]
    x = np.concatenate(rest, axis=1)
    boosting = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    assert at_chance(accuracy(boosting, x, match))
    shown = np.concatenate([one_hot([s.framed for s in scenes], list(COLOURS)), x], axis=1)
    assert accuracy(boosting, shown, match) > 0.99  # with it, the same classifier finds the label


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"), sizes=(TRAIN, 500, TEST), seed=4)


def with_one_modality(manifest: Path, kept: str) -> Path:
    """The same samples, every one with the first one's picture or caption."""
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    constant = "text" if kept == "image" else "image"
    rows = [{**row, constant: rows[0][constant], "causes": ""} for row in rows]
    path = manifest.with_name(f"{kept}_only.csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kept", "told", "other"), [("image", "star", "dog"), ("text", "dog", "star")]
)
def test_the_demos_transformer_learns_match_from_no_modality_alone(
    written: Path, kept: str, told: str, other: str
):
    data = demo_config(with_one_modality(written, kept)).model_dump(mode="json")
    data["model"] |= {"name": "dense"}
    data["training"] |= {"epochs": 5}  # with both modalities four are enough
    config = Config.from_dict(data)
    dataset = load_dataset(config.data)
    predictor = fit(config, dataset, cache=written.parent / "features")
    test = run_split(predictor, dataset.test, written.parent / "features")
    found = task_metrics(predictor, test)["accuracy_per_label"]
    assert found[told] > 0.99  # the recipe can learn what is there
    assert found["sunny"] > 0.99
    assert at_chance(found["match"])
    assert at_chance(found[other])

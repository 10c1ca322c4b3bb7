from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from fli2moe.data import DATASETS, read_enrico

SHARED = Path(__file__).parents[3] / "shared" / "data" / "enrico"
needs_enrico = pytest.mark.skipif(
    not (SHARED / "manifest.csv").is_file(),
    reason="shared/data/enrico/manifest.csv beside the checkout is missing",
)

IDS = [str(n) for n in range(100, 138)] + ["50105", "50109"]


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """The official layout with 40 screens, the two corrupt ones among them."""
    folder = tmp_path / "enrico"
    for name in ("screenshots", "wireframes"):
        (folder / name).mkdir(parents=True)
    lines = ["screen_id,topic"]
    for n, id in enumerate(IDS):
        lines.append(f"{id},{('login', 'list')[n % 2]}")
        if id == "50109":
            continue  # its pictures are not needed
        Image.new("RGB", (9, 16)).save(folder / "screenshots" / f"{id}.jpg")
        Image.new("RGB", (9, 16)).save(folder / "wireframes" / f"{id}.png")
    (folder / "design_topics.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_official_layout(official):
    dataset = DATASETS["enrico"](official)
    assert dataset.modalities == {"screenshot": "image", "wireframe": "image"}
    assert [s.id for s in dataset.samples] == IDS[:-2]
    assert dataset.classes == ("list", "login")
    assert dataset.samples[0].inputs == {
        "screenshot": official / "screenshots/100.jpg",
        "wireframe": official / "wireframes/100.png",
    }
    assert dataset.samples[0].labels == ("login",)
    assert any("2 screens" in note for note in dataset.notes)


def test_split_is_the_published_shuffle(official):
    ids = IDS[:-2]
    random.Random(42).shuffle(ids)
    dataset = read_enrico(official)
    assert {s.id for s in dataset.train} == set(ids[:24])  # int(.65 * 38)
    assert {s.id for s in dataset.val} == set(ids[24:30])  # int(.8 * 38)
    assert {s.id for s in dataset.test} == set(ids[30:])


def test_text_comes_from_a_manifest_beside_it(official, fault):
    fault(
        lambda: read_enrico(official, modalities=["screenshot", "text"]),
        where=["manifest.csv"],
        found=["no texts"],
        expected=["columns id and text"],
        remedy=["leave out modality 'text'"],
    )
    rows = "".join(f'{id},"text, {id}"\n' for id in IDS)
    (official / "manifest.csv").write_text("id,text\n" + rows)
    dataset = read_enrico(official, modalities=["screenshot", "text"])
    assert dataset.modalities == {"screenshot": "image", "text": "text"}
    assert dataset.samples[3].inputs["text"] == "text, 103"
    (official / "manifest.csv").write_text("id,text\n100,x\n")
    fault(
        lambda: read_enrico(official, modalities=["text"]),
        where=["manifest.csv"],
        found=["no row with id '101'"],
        expected=["design_topics.csv"],
    )
    (official / "manifest.csv").write_text("id,txt\n100,x\n")
    fault(
        lambda: read_enrico(official, modalities=["text"]),
        found=["'text'"],
        remedy=["'txt'"],
    )


@pytest.mark.parametrize("there", [False, True])
def test_absent_data_set_says_where_to_get_it(tmp_path, fault, there):
    folder = tmp_path / "enrico"
    if there:
        folder.mkdir()
    fault(
        lambda: read_enrico(folder),
        where=["enrico"],
        found=["no design_topics.csv" if there else "no such folder"],
        expected=["design_topics.csv", "screenshots/<id>.jpg", "wireframes/<id>.png"],
        remedy=["github.com/luileito/enrico", "screenshots.zip"],
    )


def test_faults_name_file_line_and_id(official, fault):
    (official / "screenshots/105.jpg").unlink()
    fault(
        lambda: read_enrico(official),
        where=["design_topics.csv", "line 7", "'105'"],
        found=["no such file 'screenshots/105.jpg'"],
        remedy=["mean"],
    )
    assert read_enrico(official, modalities=["wireframe"])
    topics = official / "design_topics.csv"
    text = topics.read_text()
    topics.write_text(text + "100,list\n")
    fault(lambda: read_enrico(official), where=["line 42"], found=["twice (lines 2 and 42)"])
    topics.write_text(text.replace("screen_id", "id"))
    fault(lambda: read_enrico(official), where=["design_topics.csv"], found=["screen_id"])
    topics.write_text(text.replace("103,list", "103,"))
    fault(
        lambda: read_enrico(official, modalities=["wireframe"]),
        where=["line 5", "'topic'"],
        found=["no label"],
    )


def test_unknown_modality_names_the_closest(official, fault):
    fault(
        lambda: read_enrico(official, modalities=["screenshots"]),
        found=["'screenshots'"],
        expected=["screenshot, wireframe, text"],
        remedy=["'screenshot'"],
    )
    fault(lambda: read_enrico(official, modalities=[]), where=["modalities"])
    fault(lambda: read_enrico(official, modalities="text"), where=["modalities"])


@needs_enrico
@pytest.mark.shared
def test_the_real_split_is_multibenchs():
    with (SHARED / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    dataset = read_enrico(SHARED, modalities=("screenshot", "wireframe", "text"))
    assert {s.id: s.split for s in dataset.samples} == {i: r["split"] for i, r in rows.items()}
    assert Counter(s.split for s in dataset.samples) == {"train": 947, "val": 219, "test": 292}
    assert len(dataset.classes) == 20
    for sample in dataset.samples:
        row = rows[sample.id]
        assert sample.labels == (row["label"],)
        assert sample.inputs["text"] == row["text"]
        assert sample.inputs["screenshot"] == SHARED / row["image"]
        assert sample.inputs["wireframe"] == SHARED / row["wireframe"]

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from fli2moe.config import Config
from fli2moe.data import DATASETS, load_dataset
from fli2moe.data.mmhs150k import BINARY_CLASSES, CLASSES, read_mmhs150k

ROOT = Path(__file__).parents[2]
LABELS = {
    "101": [0, 0, 0],
    "102": [1, 0, 1],
    "103": [0, 5, 0],
    "104": [0, 1, 2],  # no two agree; two of three say hate
    "105": [3, 2, 2],
    "106": [5, 4, 4],
    "107": [0, 0, 1],
    "108": [3, 3, 3],
    "109": [0, 0, 0],  # in no split
}
SPLITS = {"train": ["103", "101", "102", "104"], "val": ["105", "106"], "test": ["108", "107"]}
PICTURE_TEXTS = {"101": "STOP", "105": "  two words\n", "106": " "}


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """The official layout with nine tweets."""
    folder = tmp_path / "mmhs150k"
    for name in ("img_resized", "img_txt", "splits"):
        (folder / name).mkdir(parents=True)
    write_truth(folder, {})
    for id in LABELS:
        Image.new("RGB", (8, 6)).save(folder / "img_resized" / f"{id}.jpg")
    for id, text in PICTURE_TEXTS.items():
        (folder / "img_txt" / f"{id}.json").write_text(json.dumps({"img_text": text}))
    for split, ids in SPLITS.items():
        (folder / "splits" / f"{split}_ids.txt").write_text("\n".join(ids) + "\n")
    return folder


def write_truth(folder: Path, changes: dict[str, object]) -> None:
    """Writes the labels of the tweets, and for some of them other entries."""
    tweets: dict[str, object] = {
        id: {
            "img_url": f"http://pbs.twimg.com/media/{id}.jpg",
            "labels": labels,
            "tweet_url": f"https://twitter.com/user/status/{id}",
            "tweet_text": f"tweet {id} https://t.co/x",
            "labels_str": [CLASSES[n] for n in labels],
        }
        for id, labels in LABELS.items()
    }
    (folder / "MMHS150K_GT.json").write_text(json.dumps({**tweets, **changes}))


def test_official_layout(official):
    dataset = DATASETS["mmhs150k"](official)
    assert not dataset.multilabel
    assert dataset.modalities == {"image": "image", "text": "text"}
    assert dataset.classes == CLASSES
    assert [(s.id, s.split, *s.labels) for s in dataset.samples] == [
        ("103", "train", "NotHate"),
        ("101", "train", "NotHate"),
        ("102", "train", "Racist"),
        ("105", "val", "Sexist"),
        ("106", "val", "Religion"),
        ("108", "test", "Homophobe"),
        ("107", "test", "NotHate"),
    ]
    assert dataset.samples[1].inputs == {
        "image": official / "img_resized/101.jpg",
        "text": "tweet 101 https://t.co/x",
    }
    assert "hateful" in dataset.notice
    assert "\n" not in dataset.notice


def test_what_is_left_out_is_counted(official):
    notes = read_mmhs150k(official).notes
    assert "1 tweets with three different labels left out" in notes
    assert "1 tweets that are in no split left out" in notes
    assert not any("three different" in n for n in read_mmhs150k(official, labels="binary").notes)


def test_binary_is_the_majority_of_three(official):
    dataset = read_mmhs150k(official, labels="binary")
    assert dataset.classes == BINARY_CLASSES == ("NotHate", "Hate")
    hate = {s.id for s in dataset.samples if s.labels == ("Hate",)}
    assert hate == {"102", "104", "105", "106", "108"}
    assert len(dataset) == 8


def test_every_verdict_of_three_annotators(official):
    """All 216, against the sorted middle: with three labels it is the majority if there is one."""
    verdicts = list(product(range(6), repeat=3))
    tweets = {
        f"v{n}": {"tweet_text": "t", "labels": list(labels)} for n, labels in enumerate(verdicts)
    }
    write_truth(official, tweets)
    listed = official / "splits/train_ids.txt"
    listed.write_text(listed.read_text() + "\n".join(tweets))
    classes = {s.id: s.labels for s in read_mmhs150k(official, modalities=["text"]).samples}
    binary = read_mmhs150k(official, modalities=["text"], labels="binary")
    hate = {s.id: s.labels for s in binary.samples}
    for n, labels in enumerate(verdicts):
        middle = sorted(labels)[1]
        agreed = len(set(labels)) < 3
        assert classes.get(f"v{n}") == ((CLASSES[middle],) if agreed else None)
        assert hate[f"v{n}"] == (("NotHate" if middle == 0 else "Hate"),)


def test_text_of_the_picture(official):
    dataset = read_mmhs150k(official, ocr=True)
    texts = {s.id: s.inputs["text"] for s in dataset.samples}
    assert texts["101"] == "tweet 101 https://t.co/x\nSTOP"
    assert texts["105"] == "tweet 105 https://t.co/x\ntwo words"
    assert texts["106"] == "tweet 106 https://t.co/x"  # nothing was read
    assert texts["102"] == "tweet 102 https://t.co/x"  # there is no file
    assert "no text was found in the pictures of 5 tweets" in dataset.notes
    assert not any("no text was found" in note for note in read_mmhs150k(official).notes)
    pictures = read_mmhs150k(official, modalities=["image"], ocr=True)
    assert set(pictures.samples[0].inputs) == {"image"}


@pytest.mark.parametrize("content", ["[]", "{}", '{"img_text": 3}', '{"img_text"'])
def test_broken_text_of_a_picture(official, fault, content):
    (official / "img_txt/101.json").write_text(content)
    fault(lambda: read_mmhs150k(official, ocr=True), where=["101.json"], remedy=["unpack it again"])
    assert len(read_mmhs150k(official)) == 7  # not read without ocr


def test_no_texts_of_pictures_at_all(official, fault):
    for path in (official / "img_txt").iterdir():
        path.unlink()
    (official / "img_txt").rmdir()
    fault(
        lambda: read_mmhs150k(official, ocr=True),
        where=["img_txt"],
        found=["no such folder"],
        remedy=["data.ocr: false"],
    )
    assert len(read_mmhs150k(official)) == 7


@pytest.mark.parametrize("there", [False, True])
def test_absent_data_set_says_where_to_get_it(tmp_path, fault, there):
    folder = tmp_path / "mmhs150k"
    if there:
        folder.mkdir()
    fault(
        lambda: read_mmhs150k(folder),
        where=["mmhs150k"],
        found=["no MMHS150K_GT.json" if there else "no such folder"],
        expected=["MMHS150K_GT.json", "img_resized/<id>.jpg", "splits/train_ids.txt", "img_txt"],
        remedy=["gombru.github.io/2019/10/09/MMHS"],
    )


def test_missing_picture_names_line_and_id(official, fault):
    (official / "img_resized/106.jpg").unlink()
    fault(
        lambda: read_mmhs150k(official),
        where=["val_ids.txt", "line 2", "'106'"],
        found=["no such file 'img_resized/106.jpg'"],
        remedy=["mean"],
    )
    assert len(read_mmhs150k(official, modalities=["text"])) == 7
    (official / "img_resized/104.jpg").unlink()  # left out before its picture is asked for
    (official / "img_resized/106.jpg").touch()
    assert len(read_mmhs150k(official)) == 7


@pytest.mark.parametrize("ids", ["101\n", "../../101\n", "999\n", "", None, b"\xff\xfe"])
def test_bad_split(official, fault, ids):
    path = official / "splits/val_ids.txt"
    found = {"101\n": "twice (train_ids.txt line 2 and val_ids.txt line 1)"}
    if ids is None:
        path.unlink()
    else:
        path.write_bytes(ids if isinstance(ids, bytes) else ids.encode())
    expected = {
        "": "an empty file",
        None: "no such file",
        b"\xff\xfe": "not readable",
        **found,
    }.get(ids, "the id is not in MMHS150K_GT.json")
    fault(lambda: read_mmhs150k(official), where=["val_ids.txt"], found=[expected])


def test_a_path_for_an_id_does_not_leave_the_folder(official, fault):
    write_truth(official, {"../../101": {"tweet_text": "t", "labels": [0, 0, 0]}})
    (official / "splits/val_ids.txt").write_text("../../101\n")
    fault(
        lambda: read_mmhs150k(official),
        where=["val_ids.txt", "line 1"],
        found=["outside the image root"],
    )


def test_blank_lines_of_a_split_are_skipped(official):
    path = official / "splits/val_ids.txt"
    path.write_text("\n105\r\n\n 106 \n")
    assert [s.id for s in read_mmhs150k(official).val] == ["105", "106"]


@pytest.mark.parametrize(
    ("entry", "where", "found"),
    [
        ({"tweet_text": "t", "labels": [0, 6, 1]}, "key 'labels'", "unknown label '6'"),
        ({"tweet_text": "t", "labels": [0, True, 1]}, "key 'labels'", "unknown label 'True'"),
        ({"tweet_text": "t", "labels": ["Racist"] * 3}, "key 'labels'", "Racist"),
        ({"tweet_text": "t", "labels": [0, 1]}, "key 'labels'", "labels of 2 annotators, [0, 1]"),
        ({"tweet_text": "t", "labels": []}, "key 'labels'", "labels of 0 annotators"),
        ({"tweet_text": "t", "labels": 3}, "key 'labels'", "'3'"),
        ({"tweet_text": "t"}, "key 'labels'", "missing"),
        ({"tweet_text": None, "labels": [0, 0, 0]}, "key 'tweet_text'", "None"),
        ({"labels": [0, 0, 0]}, "key 'tweet_text'", "missing"),
        ([0, 0, 0], "'105'", "JSON of type list"),
    ],
)
def test_bad_tweet(official, fault, entry, where, found):
    write_truth(official, {"105": entry})
    fault(
        lambda: read_mmhs150k(official),
        where=["MMHS150K_GT.json", "id '105'", where],
        found=[found],
    )


@pytest.mark.parametrize(("content", "found"), [("[]", "type list"), ('{"1": ', "not readable")])
def test_broken_truth(official, fault, content, found):
    (official / "MMHS150K_GT.json").write_text(content)
    fault(lambda: read_mmhs150k(official), where=["MMHS150K_GT.json"], found=[found])


def test_unknown_options_name_the_closest(official, fault):
    fault(
        lambda: read_mmhs150k(official, modalities=["tex"]),
        expected=["image, text"],
        remedy=["'text'"],
    )
    fault(lambda: read_mmhs150k(official, modalities="text"), where=["modalities"])
    fault(
        lambda: read_mmhs150k(official, labels="multilabel"),
        where=["labels"],
        expected=["multiclass, binary"],
    )


def test_from_the_configuration(official):
    path = ROOT / "configs/mmhs150k.yaml"
    config = Config.from_yaml(path, overrides={"data.path": str(official)})
    assert load_dataset(config.data) == read_mmhs150k(official)
    config = config.with_options({"data.labels": "binary", "data.ocr": True})
    assert load_dataset(config.data) == read_mmhs150k(official, labels="binary", ocr=True)


def test_options_that_do_not_fit(fault):
    modalities = {"text": {"encoder": "builtin:words"}}
    data = {"source": "mmhs150k", "path": "x", "modalities": modalities}
    assert Config.from_dict({"data": data}).data.labels == "multiclass"
    fault(
        lambda: Config.from_dict({"data": {**data, "labels": "multilabel"}}),
        where=["data.labels"],
        expected=["multiclass or binary where data.source is mmhs150k"],
    )
    fault(
        lambda: Config.from_dict({"data": {**data, "source": "manifest", "ocr": True}}),
        where=["data.ocr"],
        expected=["false where data.source is manifest"],
    )

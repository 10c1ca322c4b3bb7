from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fli2moe.config import Config
from fli2moe.data import DATASETS, load_dataset
from fli2moe.data.mmimdb import GENRES, read_mmimdb

ROOT = Path(__file__).parents[2]
FILMS: dict[str, tuple[list[str], list[str]]] = {
    "0000008": (["A plot.", "A second plot.", "As long a one."], ["Drama", "War"]),
    "0000012": (["Laughter."], ["Comedy"]),
    "0000023": (["News of the day."], ["News", "Documentary"]),
    "0000031": (["A talk."], ["Talk-Show", "News"]),
    "0000044": (["Cowboys."], ["Western", "Western"]),
}
SPLIT = {"test": ["0000044"], "train": ["0000012", "0000008", "0000031"], "dev": ["0000023"]}


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """The official layout with five films."""
    folder = tmp_path / "mmimdb"
    (folder / "dataset").mkdir(parents=True)
    for id, (plots, genres) in FILMS.items():
        film = {"title": id, "plot": plots, "genres": genres, "year": 1950}
        (folder / "dataset" / f"{id}.json").write_text(json.dumps(film))
        Image.new("RGB", (6, 9)).save(folder / "dataset" / f"{id}.jpeg")
    (folder / "split.json").write_text(json.dumps(SPLIT))
    return folder


def change(folder: Path, id: str, **keys: object) -> None:
    path = folder / "dataset" / f"{id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def test_official_layout(official):
    dataset = DATASETS["mmimdb"](official)
    assert dataset.multilabel
    assert dataset.modalities == {"image": "image", "text": "text"}
    assert dataset.classes == GENRES
    assert len(GENRES) == len(set(GENRES)) == 23
    assert list(GENRES) == sorted(GENRES)
    assert [(s.id, s.split) for s in dataset.samples] == [
        ("0000012", "train"),
        ("0000008", "train"),
        ("0000031", "train"),
        ("0000023", "val"),
        ("0000044", "test"),
    ]
    film = dataset.samples[1]
    assert film.labels == ("Drama", "War")
    assert film.inputs == {"image": official / "dataset/0000008.jpeg", "text": "A second plot."}
    assert dataset.notice == ""


def test_other_genres_are_left_out_and_counted(official):
    dataset = read_mmimdb(official)
    labels = {s.id: s.labels for s in dataset.samples}
    assert labels["0000023"] == ("Documentary",)
    assert labels["0000031"] == ()
    assert labels["0000044"] == ("Western",)
    notes = "\n".join(dataset.notes)
    assert "left out: 'News' 2, 'Talk-Show' 1" in notes
    assert "1 films carry none of the 23 genres" in notes
    assert "empty plot" not in notes
    change(official, "0000012", plot=[" "])
    assert "1 films have an empty plot" in read_mmimdb(official).notes


def test_one_modality_needs_no_file_of_the_other(official):
    (official / "dataset/0000008.jpeg").unlink()
    dataset = read_mmimdb(official, modalities=["text"])
    assert dataset.modalities == {"text": "text"}
    assert dataset.samples[0].inputs == {"text": "Laughter."}
    change(official, "0000008", plot=[])
    Image.new("RGB", (6, 9)).save(official / "dataset/0000008.jpeg")
    assert set(read_mmimdb(official, modalities=["image"]).samples[0].inputs) == {"image"}


@pytest.mark.parametrize("there", [False, True])
def test_absent_data_set_says_where_to_get_it(tmp_path, fault, there):
    folder = tmp_path / "mmimdb"
    if there:
        folder.mkdir()
    fault(
        lambda: read_mmimdb(folder),
        where=["mmimdb"],
        found=["no split.json" if there else "no such folder"],
        expected=["split.json", "dataset/<id>.json", "dataset/<id>.jpeg"],
        remedy=["lisi1.unal.edu.co/mmimdb", "mmimdb.tar.gz"],
    )


def test_a_missing_file_names_the_place_in_the_split(official, fault):
    (official / "dataset/0000008.jpeg").unlink()
    fault(
        lambda: read_mmimdb(official),
        where=["split.json", "train entry 2", "'0000008'"],
        found=["no such file 'dataset/0000008.jpeg'"],
        remedy=["mean"],
    )
    (official / "dataset/0000023.json").unlink()
    fault(
        lambda: read_mmimdb(official, modalities=["text"]),
        where=["split.json", "dev entry 1", "'0000023'"],
        found=["no such file 'dataset/0000023.json'"],
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"plot": ["x"', "not readable"),
        ("[1]", "JSON of type list"),
        ("", "not readable"),
    ],
)
def test_broken_film(official, fault, content, found):
    (official / "dataset/0000012.json").write_text(content)
    fault(lambda: read_mmimdb(official), where=["0000012.json"], found=[found])


@pytest.mark.parametrize(
    ("keys", "where", "found"),
    [
        ({"plot": []}, "key 'plot'", "an empty list"),
        ({"plot": "a text"}, "key 'plot'", "a text"),
        ({"plot": None}, "key 'plot'", "None"),
        ({"genres": [1]}, "key 'genres'", "[1]"),
        ({"genres": "Drama"}, "key 'genres'", "Drama"),
    ],
)
def test_fields_of_the_wrong_type(official, fault, keys, where, found):
    change(official, "0000012", **keys)
    fault(lambda: read_mmimdb(official), where=["0000012.json", where], found=[found])
    path = official / "dataset/0000012.json"
    kept = {k: v for k, v in json.loads(path.read_text()).items() if k not in keys}
    path.write_text(json.dumps(kept))
    fault(lambda: read_mmimdb(official), where=["0000012.json", where], found=["missing"])


@pytest.mark.parametrize(
    ("split", "where", "found"),
    [
        ([], "split.json", "JSON of type list"),
        ({**SPLIT, "dev": []}, "split.json", "no ids of split 'dev'"),
        ({k: v for k, v in SPLIT.items() if k != "dev"}, "split.json", "no ids of split 'dev'"),
        ({**SPLIT, "dev": {"0000023": 1}}, "split.json", "split 'dev' is no list"),
        ({**SPLIT, "deb": []}, "split.json", "unknown split 'deb'"),
        ({**SPLIT, "dev": [23]}, "dev entry 1", "23 is no text"),
        ({**SPLIT, "dev": [""]}, "dev entry 1", "an empty id"),
        (
            {**SPLIT, "dev": ["0000023", "0000008"]},
            "dev entry 2",
            "'0000008' stands twice (train entry 2 and dev entry 2)",
        ),
        ({**SPLIT, "dev": ["../../0000023"]}, "dev entry 1", "outside the image root"),
    ],
)
def test_bad_split(official, fault, split, where, found):
    (official / "split.json").write_text(json.dumps(split))
    fault(lambda: read_mmimdb(official), where=[where], found=[found])


def test_broken_split(official, fault):
    (official / "split.json").write_text('{"train": [')
    fault(lambda: read_mmimdb(official), where=["split.json"], found=["not readable"])


def test_unknown_modality_names_the_closest(official, fault):
    fault(
        lambda: read_mmimdb(official, modalities=["images"]),
        found=["'images'"],
        expected=["image, text"],
        remedy=["'image'"],
    )
    fault(lambda: read_mmimdb(official, modalities=[]), where=["modalities"])
    fault(lambda: read_mmimdb(official, modalities="text"), where=["modalities"])


def test_from_the_configuration(official):
    options = {"data.path": str(official)}
    config = Config.from_yaml(ROOT / "configs/mmimdb.yaml", overrides=options)
    assert load_dataset(config.data) == read_mmimdb(official)
    assert config.preset == "paper"
    published = (config.training.epochs, config.training.batch_size, config.training.learning_rate)
    assert published == (40, 32, 1e-4)
    assert (config.model.hidden, config.model.layers, config.model.heads) == (256, 2, 4)
    assert (config.losses.interaction, config.model.router.temperature) == (0.5, 2)
    assert config.data.modalities["text"].max_tokens == 320


def test_options_that_do_not_fit(fault):
    data = {"source": "mmimdb", "path": "x", "modalities": {"text": {"encoder": "builtin:words"}}}
    fault(
        lambda: Config.from_dict({"data": data}),
        where=["data.labels"],
        found=["multiclass"],
        expected=["multilabel where data.source is mmimdb"],
    )
    data["labels"] = "multilabel"
    fault(
        lambda: Config.from_dict({"data": {**data, "classes": ["Drama", "War"]}}),
        where=["data.classes"],
        expected=["mmimdb has classes of its own"],
    )
    fault(
        lambda: Config.from_dict({"data": {**data, "ocr": True}}),
        where=["data.ocr"],
        expected=["false where data.source is mmimdb"],
    )

from __future__ import annotations

import json

import pytest

from fli2moe.data import Cause, Sample, causes_as_json, read_manifest
from fli2moe.errors import InputError


def test_a_sound_manifest(folder):
    dataset = read_manifest(folder.write(folder.rows()))
    assert dataset.samples[2] == Sample(
        "002",
        {"image": folder.path / "pictures/2.png", "text": "text number 2"},
        ("dog",),
        "val",
    )
    assert dataset.classes == ("cat", "dog")
    assert dataset.modalities == {"image": "image", "text": "text"}
    assert not dataset.multilabel
    assert [len(s) for s in (dataset.train, dataset.val, dataset.test)] == [2, 2, 2]
    assert dataset.source.endswith("manifest.csv")


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.ndjson", "m.parquet", "m.CSV"])
def test_the_format_does_not_matter(folder, name):
    rows = folder.rows()
    if name == "m.ndjson":
        path = folder.write(rows, "m.jsonl").rename(folder.path / name)
    elif name == "m.CSV":
        path = folder.write(rows, "m.csv").rename(folder.path / name)
    else:
        path = folder.write(rows, name)
    assert read_manifest(path).samples == read_manifest(folder.write(rows)).samples


def test_ids_stay_strings(folder):
    ids = ["001", "1e3", "NA", "null", "None", "1"]
    rows = [row | {"id": id} for row, id in zip(folder.rows(), ids, strict=True)]
    for name in ("m.csv", "m.jsonl", "m.parquet"):
        dataset = read_manifest(folder.write(rows, name))
        assert [sample.id for sample in dataset.samples] == ids


def test_columns_can_be_named(folder):
    rows = [
        {"key": r["id"], "poster": r["image"], "plot": r["text"], "genre": r["label"], "fold": s}
        for r, s in zip(
            folder.rows(), ["train", "train", "val", "val", "test", "test"], strict=True
        )
    ]
    dataset = read_manifest(
        folder.write(rows),
        modalities={"picture": "poster"},
        id_column="key",
        label_column="genre",
        split_column="fold",
    )
    assert dataset.modalities == {"picture": "image"}
    assert dataset.samples[0].inputs == {"picture": folder.path / "pictures/0.png"}


def test_kinds_can_be_given(folder):
    path = folder.write(folder.rows())
    dataset = read_manifest(path, kinds={"image": "text"})
    assert dataset.samples[0].inputs["image"] == "pictures/0.png"


def test_vectors_are_told_by_their_suffix(folder):
    for n in range(6):
        (folder.path / f"{n}.npy").write_bytes(b"")
    rows = [row | {"lab": f"{n}.npy"} for n, row in enumerate(folder.rows())]
    assert read_manifest(folder.write(rows)).modalities["lab"] == "vector"


def test_most_values_decide_the_kind_so_that_a_typo_is_a_fault(folder, fault):
    path = folder.write(folder.rows(image="pictures/2.pgn"))
    fault(lambda: read_manifest(path), where=["line 4", "'image'"], remedy=["'pictures/2.png'"])


ROW_FAULTS = {
    "empty id": ({"id": ""}, "'id'", "an empty id", "names the sample", "give each row"),
    "blank id": ({"id": "  "}, "'id'", "an empty id", "names the sample", "give each row"),
    "duplicate id": ({"id": "001"}, "'id'", "stands twice (lines 3 and 4)", "once", "rename"),
    "unknown split": ({"split": "vla"}, "'split'", "unknown split 'vla'", "train, val", "'val'?"),
    "other split name": ({"split": "dev"}, "'split'", "'dev'", "one of train", "mean 'val'?"),
    "validation": ({"split": "validation"}, "'split'", "'validation'", "train", "mean 'val'?"),
    "no split": ({"split": ""}, "'split'", "no split", "one of train, val", "name a split"),
    "two labels": ({"label": "cat|dog"}, "'label'", "2 labels", "one label", "multilabel"),
    "no label": ({"label": ""}, "'label'", "no label", "one label", "multilabel"),
    "space": ({"label": " dog"}, "'label'", "space around", "no space", "remove"),
    "JSON list": ({"label": '["cat"]'}, "'label'", "a JSON list", "class names", "'|'"),
    "label of val only": ({"label": "dgo"}, "'label'", "no training row", "training", "'dog'?"),
    "no such picture": ({"image": "pictures/3.jpg"}, "'image'", "no such file", "inside", "3.png"),
    "no picture": ({"image": ""}, "'image'", "an empty path", "path of a file", "relative"),
    "a folder": ({"image": "pictures"}, "'image'", "a folder", "a file", "inside it"),
}


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
@pytest.mark.parametrize("case", ROW_FAULTS)
def test_fault_of_a_row_names_row_column_and_id(folder, fault, case, name):
    change, column, found, expected, remedy = ROW_FAULTS[case]
    if name != "m.csv":  # no header
        unit = "lines" if name == "m.jsonl" else "rows"
        found = found.replace("lines 3 and 4", f"{unit} 2 and 3")
    path = folder.write(folder.rows(**change), name)
    place = {"m.csv": "line 4", "m.jsonl": "line 3", "m.parquet": "row 3"}[name]
    multilabel = None if case == "no label" else False
    fault(
        lambda: read_manifest(path, multilabel=multilabel),
        where=[name, place, column, f"id {change.get('id', '002')!r}"],
        found=[found],
        expected=[expected],
        remedy=[remedy],
    )


UNKNOWN_LABELS = {
    "typo": ("dgo", "did you mean 'dog'?"),
    "case": ("Dog", "did you mean 'dog'?"),
    "space": ("dog ", "did you mean 'dog'?"),
    "look-alike": ("d\u043eg", "did you mean 'dog'?"),  # Cyrillic o
    "comma": ("cat,dog", "write 'cat|dog'"),
    "number": ("-1", "add the class"),
    "far": ("zebra crossing", "add the class"),
}


@pytest.mark.parametrize("case", UNKNOWN_LABELS)
def test_label_outside_the_classes_names_the_closest(folder, fault, case):
    label, remedy = UNKNOWN_LABELS[case]
    path = folder.write(folder.rows(label=label))
    fault(
        lambda: read_manifest(path, classes=["dog", "cat"]),
        where=["line 4", "'label'"],
        found=["unknown label", repr(label)],
        expected=["one of dog, cat"],
        remedy=[remedy],
    )


def test_classes_keep_the_given_order_and_may_lack_rows(folder):
    dataset = read_manifest(folder.write(folder.rows()), classes=["dog", "ant", "cat"])
    assert dataset.classes == ("dog", "ant", "cat")
    assert any("'train' carries 'ant'" in note for note in dataset.notes)


def test_multilabel_is_told_by_the_separator(folder):
    rows = folder.rows(label="")
    rows[0]["label"] = "dog|cat"
    dataset = read_manifest(folder.write(rows))
    assert dataset.multilabel
    assert dataset.samples[0].labels == ("dog", "cat")
    assert dataset.samples[2].labels == ()


MULTILABEL_FAULTS = {
    "twice": ("cat|cat", "'cat' stands twice", "each once", "remove"),
    "nothing between": ("cat||dog", "an empty label in 'cat||dog'", "each side", "extra '|'"),
    "at the end": ("cat|", "an empty label", "each side", "extra '|'"),
    "JSON": ('["cat", "dog"]', "a JSON list", "class names", "'|' between"),
}


@pytest.mark.parametrize("case", MULTILABEL_FAULTS)
def test_multilabel_fault(folder, fault, case):
    label, found, expected, remedy = MULTILABEL_FAULTS[case]
    path = folder.write(folder.rows(label=label))
    fault(
        lambda: read_manifest(path, multilabel=True),
        where=["line 4", "'label'"],
        found=[found],
        expected=[expected],
        remedy=[remedy],
    )


def test_a_class_name_may_hold_the_separator_if_it_is_given(folder):
    dataset = read_manifest(folder.write(folder.rows(label="a|b")), classes=["a|b", "cat", "dog"])
    assert dataset.samples[2].labels == ("a|b",)
    assert not dataset.multilabel


def test_one_class_is_too_few(folder, fault):
    path = folder.write([row | {"label": "cat"} for row in folder.rows()])
    fault(
        lambda: read_manifest(path),
        where=["manifest.csv", "'label'"],
        found=["1 class(es)", "cat"],
        expected=["two"],
        remedy=["check the label column"],
    )
    rows = [row | {"label": "cat" if n % 2 else ""} for n, row in enumerate(folder.rows())]
    assert read_manifest(folder.write(rows), multilabel=True).classes == ("cat",)


def test_an_empty_split_is_a_fault(folder, fault):
    path = folder.write([row | {"split": "train"} for row in folder.rows()])
    fault(
        lambda: read_manifest(path),
        where=["manifest.csv", "'split'"],
        found=["no row in split 'val'"],
        expected=["rows in each of train, val, test"],
        remedy=["name the split"],
    )


def renamed(folder, old, new):
    return folder.write([{new if k == old else k: v for k, v in r.items()} for r in folder.rows()])


@pytest.mark.parametrize(
    ("old", "new"), [("label", "lable"), ("id", "ID"), ("split", "spilt"), ("split", "Split")]
)
def test_misspelt_column_names_the_closest(folder, fault, old, new):
    fault(
        lambda: read_manifest(renamed(folder, old, new)),
        where=["manifest.csv"],
        found=[f"no column {old!r}", new],
        expected=[f"a column {old!r}"],
        remedy=[f"rename column {new!r}"],
    )


def test_a_modality_called_plot_is_not_taken_for_split(folder):
    rows = [{k: v for k, v in row.items() if k != "split"} for row in folder.rows()]
    path = folder.write([row | {"plot": "x"} for row in rows])
    assert "plot" in read_manifest(path).modalities


def test_wrong_arguments_are_named(folder, fault):
    path = folder.write(folder.rows())
    fault(
        lambda: read_manifest(path, modalities={"x": "imge"}), found=["'imge'"], remedy=["'image'"]
    )
    fault(lambda: read_manifest(path, modalities={}), found=["no modality"])
    fault(lambda: read_manifest(path, split_column="fold"), found=["no column 'fold'"])
    fault(lambda: read_manifest(path, kinds={"imag": "text"}), found=["'imag'"], remedy=["'image'"])
    fault(lambda: read_manifest(path, kinds={"text": "txt"}), found=["'txt'"], remedy=["'text'"])
    fault(lambda: read_manifest(path, classes=["a", "a"]), found=["twice"], remedy=["remove"])
    fault(lambda: read_manifest(path, classes=["a"]), expected=["two"])
    fault(lambda: read_manifest(path, label_separator=""), where=["label_separator"])
    fault(lambda: read_manifest(path, image_root=path), where=["image_root"], expected=["folder"])
    rows = [{"id": r["id"], "label": r["label"]} for r in folder.rows()]
    fault(lambda: read_manifest(folder.write(rows)), found=["no modality"], remedy=["add a column"])


def test_seeded_split_stands_in_for_a_missing_column(folder):
    rows = [{"id": n, "text": f"t{n}", "label": "ab"[n % 2]} for n in range(200)]
    one = read_manifest(folder.write(rows))
    other_order = read_manifest(folder.write(rows[::-1], "m.jsonl"))
    assert [len(s) for s in (one.train, one.val, one.test)] == [140, 30, 30]
    assert {s.id: s.split for s in one.samples} == {s.id: s.split for s in other_order.samples}
    assert {s.id: s.split for s in one.samples} != {
        s.id: s.split for s in read_manifest(folder.write(rows), seed=1).samples
    }
    assert any("seed 0 into 140/30/30" in note for note in one.notes)


def test_same_inputs_in_two_splits_are_noted(folder):
    rows = folder.rows(text="text number 0", image="pictures/0.png")
    (note,) = [n for n in read_manifest(folder.write(rows)).notes if "leakage" in n]
    assert "1 sample(s)" in note
    assert "'002' of val and '000' of train" in note
    notes = read_manifest(folder.write(folder.rows(text="text number 0"))).notes
    assert not any("leakage" in note for note in notes)


def test_empty_texts_and_classes_alike_are_noted(folder):
    rows = folder.rows(text=" ")
    rows[0]["label"], rows[1]["label"] = "Cat", "dog"
    rows[3]["label"], rows[5]["label"] = "dog", "dog"
    with pytest.raises(InputError, match="did you mean 'Cat'"):
        read_manifest(folder.write([*rows[:2], rows[2] | {"label": "cat"}, *rows[3:]]))
    notes = read_manifest(folder.write(rows), classes=["Cat", "cat", "dog"]).notes
    assert any("1 of 6 rows have an empty 'text'" in note for note in notes)
    assert any("differ in case only: 'Cat', 'cat'" in note for note in notes)
    assert any("one training row only carries" in note for note in notes)


def test_causes_come_back(folder):
    cause = Cause("dog", "synergy", {"text": ((0, 4),), "image": ((0, 0, 4, 6), (4, 0, 8, 3.5))})
    rows = [row | {"causes": ""} for row in folder.rows()]
    rows[2]["causes"] = causes_as_json((cause,))
    for name in ("m.csv", "m.jsonl", "m.parquet"):
        dataset = read_manifest(folder.write(rows, name))
        assert dataset.samples[2].causes == (cause,)
        assert dataset.samples[0].causes == ()
        assert "causes" not in dataset.modalities
    rows = [row | {"causes": []} for row in rows]
    rows[2]["causes"] = json.loads(causes_as_json((cause,)))
    assert read_manifest(folder.write(rows, "m.jsonl")).samples[2].causes == (cause,)


def test_a_cause_of_an_unknown_label_is_a_fault(folder, fault):
    rows = [row | {"causes": ""} for row in folder.rows()]
    rows[2]["causes"] = causes_as_json((Cause("cow", "synergy", {"text": ((0, 4),)}),))
    fault(
        lambda: read_manifest(folder.write(rows)),
        where=["line 4", "'causes'", "'002'"],
        found=["unknown label 'cow'"],
        expected=["one of cat, dog"],
        remedy=["mend"],
    )

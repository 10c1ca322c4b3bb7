from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from fli2moe.data import check_manifest, read_manifest
from fli2moe.errors import InputError


def open_picture(path: Path) -> object:
    """What a real opener does, as far as these tests need it: decode the picture or say why not."""
    if path.stat().st_size == 0:
        raise InputError(str(path), "an empty file", "a picture", "replace it")
    with Image.open(path) as picture:
        picture.load()
        return picture


def test_a_sound_manifest_has_no_problems(folder):
    report = check_manifest(folder.write(folder.rows()), open_picture=open_picture)
    assert report.ok
    assert report.complete
    assert report.problems == ()
    assert report.rows == 6
    assert report.splits == {"train": 2, "val": 2, "test": 2}
    assert report.classes["cat"] == {"train": 1, "val": 1, "test": 1}
    assert report.modalities == {"image": "image", "text": "text"}
    assert report.lines()[-1].endswith("no problems")


def broken(folder):
    """A manifest with one problem of each kind, by line."""
    rows = folder.rows()
    for n in range(4):
        extra = [r | {"id": f"x{n}{i}"} for i, r in enumerate(rows)]
        rows += extra[:3]
    rows[1]["id"] = "000"
    rows[2]["image"] = "pictures/20.png"
    rows[3]["split"] = "dev"
    rows[4]["label"] = "cat|dog"
    rows[5]["image"], rows[5]["label"] = "../x.png", ""  # two problems in one row
    (folder.path / "pictures/empty.png").write_bytes(b"")
    (folder.path / "pictures/half.png").write_bytes(
        (folder.path / "pictures/1.png").read_bytes()[:40]
    )
    rows[6]["image"] = "pictures/empty.png"
    rows[7]["image"] = "pictures/half.png"
    path = folder.write(rows)
    with path.open("a", encoding="utf-8") as file:
        file.write("too,few\n")
    return path


EXPECTED = [
    (3, "id", "stands twice (lines 2 and 3)"),
    (4, "image", "no such file"),
    (5, "split", "unknown split 'dev'"),
    (6, "label", "2 labels"),
    (7, "label", "no label"),
    (7, "image", "outside"),
    (8, "image", "an empty file (empty.png)"),
    (9, "image", "half.png"),
    (20, None, "2 fields"),
]


def test_every_problem_is_collected_in_one_pass(folder):
    report = check_manifest(broken(folder), open_picture=open_picture, multilabel=False)
    rows = [p for p in report.problems if p.row is not None]
    assert [(p.row, p.column) for p in rows] == [(row, column) for row, column, _ in EXPECTED]
    for problem, (_, _, found) in zip(rows, EXPECTED, strict=True):
        assert found in problem.found
        assert problem.expected
        assert problem.remedy
        assert "manifest.csv" in str(problem)
        assert "\n" not in str(problem)
    assert rows[1].id == "002"
    assert report.total == len(EXPECTED)
    assert not report.ok


def test_pictures_stay_closed_without_an_opener(folder):
    report = check_manifest(broken(folder), multilabel=False)
    assert report.total == len(EXPECTED) - 2


def test_the_reader_stops_at_the_first_problem_of_the_checker(folder):
    path = broken(folder)
    first = check_manifest(path, multilabel=False).problems[0]
    with pytest.raises(InputError) as caught:
        read_manifest(path, multilabel=False)
    assert str(caught.value) == str(first)


def test_problems_are_capped_but_counted(folder):
    rows = [row | {"image": "none.png"} for row in folder.rows() for _ in range(20)]
    rows = [row | {"id": str(n)} for n, row in enumerate(rows)]
    report = check_manifest(folder.write(rows), max_errors=5)
    assert len(report.problems) == 5
    assert report.total == 120
    assert "... and 115 more problems" in report.lines()
    with pytest.raises(InputError, match="max_errors"):
        check_manifest(folder.write(rows), max_errors=0)


@pytest.mark.parametrize(
    "content", ["", "id,text\n", "id;text;label\n1;a;b\n", b"id,text,label\n1,\xe9,b\n"]
)
def test_a_file_that_cannot_be_read_is_a_problem_too(folder, content):
    report = check_manifest(folder.raw(content))
    assert report.total == 1
    assert not report.complete
    assert "manifest.csv" in str(report.problems[0])
    assert report.lines()[-1].endswith("1 problem")


def test_a_missing_file_is_a_problem_with_a_near_match(folder):
    folder.write(folder.rows())
    (problem,) = check_manifest(folder.path / "manifest.cvs").problems
    assert "no such file" in problem.found
    assert "manifest.csv" in problem.remedy


def test_problems_of_the_whole_file_come_with_a_row_where_there_is_one(folder):
    rows = [row | {"label": "dog", "split": "train"} for row in folder.rows()]
    rows[5] = rows[5] | {"label": "bird", "split": "test"}
    report = check_manifest(folder.write(rows))
    assert [(p.row, p.column) for p in report.problems] == [
        (7, "label"),
        (None, "label"),
        (None, "split"),
    ]
    assert "no training row" in report.problems[0].found
    assert "1 class(es)" in report.problems[1].found
    assert "split 'val'" in report.problems[2].found


def test_copies_of_a_picture_under_another_name_are_leakage(folder):
    copy = folder.path / "pictures/copy.png"
    copy.write_bytes((folder.path / "pictures/0.png").read_bytes())
    path = folder.write(folder.rows(image="pictures/copy.png", text="text number 0"))
    assert any("leakage" in note for note in check_manifest(path, open_picture=open_picture).notes)
    assert not any("leakage" in note for note in check_manifest(path).notes)


def test_memory_does_not_grow_with_the_texts(folder):
    text = "word " * 2000
    path = folder.path / "long.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("id,text,label,split\n")
        for n in range(2000):  # 20 MB
            split = ("train", "val", "test")[n % 3]
            file.write(f"{n},{n} {text},{'ab'[n % 2]},{split}\n")
    tracemalloc.start()
    try:
        report = check_manifest(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.ok
    assert peak < 5_000_000


def test_pictures_that_open_but_may_be_wrong_are_noted(folder):
    rows = folder.rows()
    pictures = folder.path / "pictures"
    Image.new("RGB", (8, 8), "black").save(pictures / "black.png")
    Image.linear_gradient("L").resize((90, 10)).save(pictures / "long.png")
    for row, name in zip(rows[:4], ("black", "black", "black", "long"), strict=True):
        row["image"] = f"pictures/{name}.png"
        row["text"] += row["id"]  # no copies of one another
    report = check_manifest(folder.write(rows), open_picture=open_picture)
    assert report.ok
    first, last = rows[0]["id"], rows[3]["id"]
    plain = [note for note in report.notes if "one colour" in note]
    long = [note for note in report.notes if "a side" in note]
    same = [note for note in report.notes if "the same as one of another row" in note]
    assert "3 of 6 pictures" in plain[0] or "5 of 6" in plain[0]  # the fixture's may be plain too
    assert f"first: id {first!r}" in plain[0]
    assert "1 of 6 pictures have a side more than 8 times as long as the other (first: " in long[0]
    assert repr(last) in long[0]
    assert (
        f"2 of 6 pictures are the same as one of another row (most often that of id {first!r}: 3"
        in (same[0])
    )
    assert not any("pictures" in note for note in check_manifest(folder.write(rows)).notes)

from __future__ import annotations

import os
import socket
import unicodedata

import pytest

from fli2moe.data import read_manifest


def read(folder, value, **options):
    return read_manifest(folder.write(folder.rows(image=value)), **options)


REFUSED = {
    "parent": "../outside.png",
    "hidden parent": "pictures/../../outside.png",
    "absolute": "/etc/hostname.png",
    "url": "http://example.org/a.png",
    "https": "HTTPS://example.org/a.png",
    "file url": "file:///etc/hostname",
    "short file url": "file:/etc/hostname",
    "data url": "data:image/png;base64,AAAA",
    "drive": "C:/pictures/a.png",
    "backslash": "pictures\\2.png",
    "long name": "x" * 5000 + ".png",
    "missing": "pictures/20.png",
}


REMEDIES = {
    **dict.fromkeys(("parent", "hidden parent", "absolute"), "allow paths outside the image root"),
    "long name": "check the name",
    "missing": "did you mean 'pictures/2.png'",
}


@pytest.mark.parametrize("case", REFUSED)
def test_path_that_is_not_a_file_in_the_root_is_refused(folder, fault, case):
    (folder.path.parent / "outside.png").write_bytes(b"x")
    fault(
        lambda: read(folder, REFUSED[case]),
        where=["manifest.csv", "line 4", "'image'", "'002'"],
        found=[REFUSED[case][:20].replace("\\", "\\\\")],
        expected=["'/'" if case == "backslash" else "a file in"],
        remedy=[REMEDIES.get(case, "relative to")],
    )


def test_nul_in_a_path_is_refused(folder, fault):
    path = folder.write(folder.rows(image="a\0.png"), "m.jsonl")
    fault(lambda: read_manifest(path), where=["line 3", "'image'"], found=["NUL"])


def test_link_out_of_the_root_is_refused(folder, fault):
    outside = folder.path.parent / "outside.png"
    outside.write_bytes(b"x")
    (folder.path / "link.png").symlink_to(outside)
    fault(lambda: read(folder, "link.png"), found=["outside", "link.png"], remedy=["move"])
    (folder.path / "inner.png").symlink_to(folder.path / "pictures/1.png")
    assert read(folder, "inner.png")


def test_allow_outside_accepts_files_but_never_urls(folder, fault):
    outside = folder.path.parent / "outside.png"
    outside.write_bytes(b"x")
    for value in ("../outside.png", str(outside)):
        dataset = read(folder, value, allow_outside=True)
        assert dataset.samples[2].inputs["image"].samefile(outside)
    fault(lambda: read(folder, "file:/etc/x.png", allow_outside=True), found=["URL"])


def test_image_root_is_where_paths_start(folder):
    rows = [row | {"image": str(row["image"]).removeprefix("pictures/")} for row in folder.rows()]
    root = folder.path / "pictures"
    assert read_manifest(folder.write(rows), image_root=root).samples[0].inputs["image"] == (
        root / "0.png"
    )


def test_what_is_no_regular_file_is_refused_without_opening_it(
    folder, fault, tmp_path, monkeypatch
):
    os.mkfifo(folder.path / "pipe.png")
    (folder.path / "dangling.png").symlink_to(folder.path / "gone.png")
    (folder.path / "loop.png").symlink_to(folder.path / "loop.png")
    monkeypatch.chdir(folder.path)  # socket names are short
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket.png")
        for name in ("pipe.png", "socket.png"):
            fault(lambda name=name: read(folder, name), found=["regular"], remedy=["on disk"])
    fault(lambda: read(folder, "dangling.png"), found=["dangling"], remedy=["mend"])
    fault(lambda: read(folder, "loop.png"), found=["a loop of links", "loop.png"], remedy=["mend"])


@pytest.mark.parametrize("name", ["Café.png", "STRASSE.png"])
def test_names_that_differ_in_case_or_normal_form_are_suggested(folder, fault, name):
    stored, asked = unicodedata.normalize("NFD", name), unicodedata.normalize("NFC", name).lower()
    (folder.path / stored).write_bytes(b"x")
    error = fault(lambda: read(folder, asked), found=["no such file", asked])
    assert repr(stored) in error.remedy


def test_paths_with_spaces_and_emoji_work(folder):
    (folder.path / "a b 🎬.png").write_bytes(b"x")
    assert read(folder, "a b 🎬.png").samples[2].inputs["image"].name == "a b 🎬.png"

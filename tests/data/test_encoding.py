"""Manifests that are not UTF-8, when they say so."""

from __future__ import annotations

import pytest

from fli2moe.data import check_manifest, read_manifest
from fli2moe.data.guess import guess_table, write_config
from fli2moe.data.text_files import is_utf8
from fli2moe.errors import InputError

TEXT = 'id,text,label,split\n1,"café\nau lait",a,train\n2,naïve,b,val\n3,über,a,test\n'
TEXT += "4,x,b,train\n"


@pytest.mark.parametrize("encoding", ["latin1", "cp1252", "utf-16", "utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_the_encoding_that_is_named_is_read(tmp_path, encoding, ends):
    path = tmp_path / "m.csv"
    path.write_bytes(TEXT.replace("\n", ends).encode(encoding))
    texts = [s.inputs["text"] for s in read_manifest(path, encoding=encoding).samples]
    assert texts == [f"café{ends}au lait", "naïve", "über", "x"]
    assert check_manifest(path, encoding=encoding).ok


def test_jsonl_is_read_in_it(tmp_path):
    lines = ['{"id": "1", "text": "é", "label": "a", "split": "train"}']
    path = tmp_path / "m.jsonl"
    path.write_bytes("\n".join(lines).encode("latin1"))
    assert guess_table(path, label="label", encoding="latin1").rows == 1


@pytest.mark.parametrize(
    ("written", "named", "message"),
    [
        ("latin1", "utf-8", r"0xe9 at byte offset 26 is not UTF-8; .*--encoding \(latin1"),
        ("utf-16", "utf-8", r"UTF-16 .*--encoding"),
        ("latin1", "ascii", r"line 1 or after: not ascii: .*name the encoding"),
        ("utf-16-le", "latin1", r"line 1: a NUL character; expected text in latin1"),
        ("utf-8", "klingon", r"encoding: unknown encoding 'klingon'; expected a name such as"),
        ("utf-8", "zlib", r"unknown encoding 'zlib'"),
    ],
)
def test_another_one_is_one_line(tmp_path, written, named, message):
    path = tmp_path / "m.csv"
    path.write_bytes(TEXT.encode(written))
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(path, encoding=named)
    assert "\n" not in str(caught.value)


def test_a_long_line_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("fli2moe.data.text_files.LINE_LIMIT", 100)
    path = tmp_path / "m.csv"
    path.write_bytes(("id,text,label\n1," + "é" * 200 + ",a\n").encode("latin1"))
    with pytest.raises(InputError, match="line 2: a line of more than 100"):
        read_manifest(path, encoding="latin1")


def test_utf8_by_any_name():
    assert is_utf8("UTF8")
    assert is_utf8("utf_8_sig")
    assert not is_utf8("latin1")


def test_a_configuration_that_is_written_names_it(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(TEXT.encode("latin1"))
    write_config(path, tmp_path / "c.yaml", encoding="latin1")
    assert "  encoding: latin1\n" in (tmp_path / "c.yaml").read_text()
    path.write_bytes(TEXT.encode())
    write_config(path, tmp_path / "d.yaml")
    assert "encoding: " not in (tmp_path / "d.yaml").read_text().replace("encoder", "")

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from fli2moe.data import text_files
from fli2moe.data.problems import Problem, raise_first
from fli2moe.data.table import open_table
from fli2moe.errors import InputError

HEADER = "id,text,label\n"


def read(path: Path) -> list[tuple[int, dict[str, str]]]:
    return [(row.number, row.values) for row in open_table(path, raise_first).rows]


def collect(path: Path) -> tuple[list[dict[str, str]], list[Problem]]:
    problems: list[Problem] = []
    return [row.values for row in open_table(path, problems.append).rows], problems


def test_every_csv_value_keeps_its_spelling(folder):
    values = ["001", "1e3", "NA", "null", "None", "nan", "True", " 7 ", "=cmd()", "1.0"]
    path = folder.raw("id\n".replace("id", "id,x") + "".join(f"{v},\n" for v in values))
    assert [row["id"] for _, row in read(path)] == values


def test_line_numbers_count_lines_of_the_file(folder):
    path = folder.raw(HEADER + '1,"two\nlines",a\n\n2,x,b\n')
    assert read(path) == [
        (2, {"id": "1", "text": "two\nlines", "label": "a"}),
        (5, {"id": "2", "text": "x", "label": "b"}),
    ]


def test_byte_order_mark_and_crlf_are_accepted(folder):
    path = folder.raw(b"\xef\xbb\xbf" + HEADER.encode() + b"1,\xc3\xa4,b\r\n")
    assert read(path) == [(2, {"id": "1", "text": "ä", "label": "b"})]


CSV_FAULTS = {
    "empty": (b"", "", "an empty file", "a header and rows", "anew"),
    "blank lines only": (b"\n\n", "", "nothing but blank", "a header and rows", "anew"),
    "header only": (HEADER, "", "no rows", "one row for each sample", "add rows"),
    "duplicate column": ("id,a,a\n1,2,3\n", "line 1", "'a' stands twice (2 and 3)", "distinct", ""),
    "trailing comma": ("id,a,\n1,2,3\n", "line 1", "column 3 has no name", "a name", "comma"),
    "ragged, short": (HEADER + "1,a,b\n2,c\n", "line 3", "2 fields", "3 as in the header", "add"),
    "ragged, long": (HEADER + "1,a,b,c\n", "line 2", "4 fields", "3 as in the header", "quote"),
    "open quote": (HEADER + '1,a,b\n2,"c,d\n3,e,f\n', "line 3", "never closed", "quote", "close"),
    "text after quote": (HEADER + '1,"a" b,c\n', "line 2", "after a closing", "a comma", "double"),
    "NUL": (HEADER.encode() + b"1,a\0b,c\n", "line 2", "NUL byte at byte offset 17", "UTF-8", ""),
    "latin-1": (
        HEADER.encode() + b"1,caf\xe9,c\n",
        "line 2",
        "0xe9 at byte offset 19",
        "UTF-8",
        "",
    ),
    "bad utf-8": (b"\xef\xbb\xbfid,t\n1,\xff\n", "line 2", "0xff at byte offset 10", "UTF-8", ""),
    "utf-16": (HEADER.encode("utf-16"), "line 1", "UTF-16", "UTF-8", "--encoding"),
    "semicolons": ("id;text;label\n1;a;b\n", "line 1", "looks like ';'", "','", "commas"),
    "tabs": ("id\ttext\n1\ta\n", "line 1", "looks like a tab", "','", "commas"),
    "old Mac": ("id,text\r1,a\r", "line 1", "carriage return", "LF or CRLF", "line ends"),
    "big field": (HEADER + '1,"' + "x" * 1_000_010, "line 2", "1,000,000", "shorter", "quote"),
}


@pytest.mark.parametrize("case", CSV_FAULTS)
def test_csv_fault_is_one_line_with_place_and_remedy(folder, fault, case):
    content, place, found, expected, remedy = CSV_FAULTS[case]
    path = folder.raw(content)
    error = fault(lambda: read(path), where=["manifest.csv", place], found=[found])
    assert expected in error.expected
    assert remedy in error.remedy
    assert error.remedy


def test_wrong_encoding_names_the_true_offset(folder, fault):
    content = HEADER.encode() + b"1,caf\xe9,c\n"
    error = fault(lambda: read(folder.raw(content)))
    assert content[int(error.found.split("offset ")[1].split()[0])] == 0xE9


def test_oversized_line_is_not_read_into_memory(folder, fault, monkeypatch):
    monkeypatch.setattr(text_files, "LINE_LIMIT", 100)
    path = folder.raw(HEADER + "1," + "x" * 300 + ",b\n")
    fault(lambda: read(path), where=["line 2"], found=["more than 100 bytes"], remedy=["quotes"])


def test_one_ragged_row_does_not_hide_the_others(folder):
    rows, problems = collect(folder.raw(HEADER + '1,a\n2,"b" x,c\n3,d,e\n4,f,g,h\n'))
    assert [row["id"] for row in rows] == ["3"]
    assert [problem.row for problem in problems] == [2, 3, 5]


def test_missing_file_names_the_near_match(folder, fault):
    folder.raw(HEADER + "1,a,b\n")
    path = folder.path / "manifets.csv"
    fault(lambda: read(path), where=["manifets.csv"], found=["no such"], remedy=["manifest.csv"])
    alone = folder.path / "elsewhere" / "m.csv"
    fault(lambda: read(alone), where=["m.csv"], found=["no such file"], remedy=["check"])


def test_folder_pipe_and_unknown_suffix_are_refused(folder, fault):
    fault(lambda: read(folder.path), found=["a folder"], expected=["CSV"], remedy=["inside"])
    os.mkfifo(folder.path / "pipe.csv")  # reading it would block for ever
    fault(lambda: read(folder.path / "pipe.csv"), found=["regular"], remedy=["on disk"])
    path = folder.raw("x", "manifest.xlsx")
    fault(lambda: read(path), found=[".xlsx"], expected=[".csv", ".parquet"], remedy=["save"])
    fault(lambda: read(folder.path / ("x" * 300)), found=["cannot be opened"], remedy=["check"])


def test_jsonl_values_become_strings(folder):
    row = {"id": 1, "a": None, "b": True, "c": 1.5, "d": ["x", {"y": 0}], "e": "001"}
    path = folder.raw("\n" + json.dumps(row) + "\n", "m.jsonl")
    values = {"id": "1", "a": "", "b": "true", "c": "1.5", "d": '["x", {"y": 0}]', "e": "001"}
    assert read(path) == [(2, values)]


JSONL_FAULTS = {
    "a list": ('{"id": "1"}\n[1]\n', "line 2", "JSON of type list", "one JSON object", "write"),
    "not JSON": ('{"id": "1"}\n{"id": \n', "line 2", "not JSON", "one JSON object", "mend"),
    "CSV inside": ("id,text\n", "line 1", "not JSON", "one JSON object", "mend"),
    "other key": (
        '{"id": "1", "label": "a"}\n{"id": "2", "lable": "a"}\n',
        "line 2",
        "key 'label' is missing",
        "the keys of the first line",
        "did you mean 'lable'",
    ),
    "new key": ('{"id": "1"}\n{"id": "2", "b": 1}\n', "line 2", "'b' is new", "first line", "null"),
    "key twice": ('{"id": "1", "id": "2"}\n', "line 1", "'id' stands twice", "once", "mend"),
    "NaN": ('{"id": NaN}\n', "line 1", "NaN is not JSON", "JSON", "mend"),
    "deep": ("[" * 100_000 + "\n", "line 1", "not JSON", "one JSON object", "mend"),
    "huge number": ('{"id": ' + "9" * 5000 + "}\n", "line 1", "not JSON", "object", "mend"),
    "surrogate": ('{"id": "\\ud800"}\n', "line 1", "surrogate", "valid Unicode", "whole"),
    "NUL": ('{"id": "a\\u0000"}\n', "line 1", "NUL", "plain text", "remove"),
    "latin-1": (b'{"id": "\xe9"}\n', "line 1", "byte offset 8", "UTF-8", "--encoding"),
    "empty key": ('{"": "a"}\n', "", "column 1 has no name", "a name", "name it"),
}


@pytest.mark.parametrize("case", JSONL_FAULTS)
def test_jsonl_fault_is_one_line_with_place_and_remedy(folder, fault, case):
    content, place, found, expected, remedy = JSONL_FAULTS[case]
    path = folder.raw(content, "m.jsonl")
    fault(
        lambda: read(path),
        where=["m.jsonl", place],
        found=[found],
        expected=[expected],
        remedy=[remedy],
    )


def test_parquet_values_become_strings(folder):
    pa = pytest.importorskip("pyarrow")
    import datetime

    import pyarrow.parquet as pq

    table = pa.table(
        {
            "id": pa.array([1, 2]),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "none": pa.array([None, "x"]),
            "flag": pa.array([True, False]),
            "number": pa.array([0.5, float("nan")]),
            "day": pa.array([datetime.date(2024, 1, 2), None]),
            "nested": pa.array([["x"], []]),
        }
    )
    pq.write_table(table, folder.path / "m.parquet")
    assert [list(row.values()) for _, row in read(folder.path / "m.parquet")] == [
        ["1", "a", "", "true", "0.5", "2024-01-02", '["x"]'],
        ["2", "b", "x", "false", "", "", "[]"],
    ]


def test_parquet_that_is_cut_or_not_parquet_is_refused(folder, fault):
    whole = folder.write(folder.rows(), "m.parquet").read_bytes()
    for content in (whole[: len(whole) // 2], b"id,text\n1,a\n"):
        path = folder.raw(content, "m.parquet")
        fault(
            lambda path=path: read(path),
            where=["m.parquet"],
            found=["not a whole Parquet file"],
            expected=["a Parquet file"],
            remedy=["again"],
        )


def test_parquet_with_a_damaged_page_is_refused(folder, fault):
    whole = bytearray(folder.write(folder.rows(), "m.parquet").read_bytes())
    whole[4:60] = b"\xff" * 56
    path = folder.raw(bytes(whole), "m.parquet")
    fault(lambda: read(path), where=["m.parquet"], found=["Parquet"], remedy=["again"])


def test_parquet_binary_and_header_only_are_refused(folder, fault):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = folder.path / "m.parquet"
    pq.write_table(pa.table({"id": ["1"], "image": [{"bytes": b"x"}]}), path)
    fault(lambda: read(path), found=["'image'", "binary"], expected=["text"], remedy=["path"])
    pq.write_table(pa.table({"id": pa.array([], pa.string())}), path)
    fault(lambda: read(path), found=["no rows"], remedy=["add rows"])


def test_a_line_of_a_gigabyte_would_not_be_read_into_memory(tmp_path):
    path = tmp_path / "m.csv"
    with path.open("wb") as file:
        file.write(HEADER.encode() + b"1,")
        for _ in range(40):
            file.write(b"x" * 1_000_000)
    tracemalloc.start()
    with pytest.raises(InputError, match="a line of more than 10,000,000 bytes"):
        list(open_table(path, raise_first).rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 25_000_000  # the limit, twice

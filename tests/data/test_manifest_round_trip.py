from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fli2moe.data import Cause, Sample, causes_as_json, check_manifest, read_manifest
from fli2moe.errors import InputError

CLASSES = ("a", "b c", "é")
FORMATS = ("m.csv", "m.jsonl", "m.parquet")

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
ids = texts.filter(lambda id: id.strip() != "")
label_sets = st.lists(st.sampled_from(CLASSES), unique=True).map(tuple)


@st.composite
def sample_sets(draw) -> list[Sample]:
    """Multi-label samples of two texts, some with causes; every class and split has its row."""
    names = draw(st.lists(ids, min_size=3, max_size=8, unique=True))
    samples = []
    for n, name in enumerate(names):
        words = {"title": draw(texts), "plot": draw(texts)}
        labels = CLASSES if n == 0 else draw(label_sets)
        causes = ()
        if words["plot"] and draw(st.booleans()):
            start = draw(st.integers(0, len(words["plot"]) - 1))
            span = (start, draw(st.integers(start + 1, len(words["plot"]))))
            causes = (Cause(draw(st.sampled_from(CLASSES)), "unique_plot", {"plot": (span,)}),)
        split = ("train", "val", "test")[n % 3]
        samples.append(Sample(name, words, labels, split, causes))
    return samples


def write(samples: list[Sample], path: Path) -> Path:
    rows = [
        {
            "id": s.id,
            **{name: str(value) for name, value in s.inputs.items()},
            "label": "|".join(s.labels),
            "split": s.split,
            "causes": causes_as_json(s.causes),
        }
        for s in samples
    ]
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@settings(deadline=None, max_examples=60)
@given(sample_sets())
def test_every_format_gives_back_what_was_written(samples):
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            path = write(samples, Path(folder) / name)
            kinds = {"title": "text", "plot": "text"}
            dataset = read_manifest(path, multilabel=True, kinds=kinds)
            assert list(dataset.samples) == samples
            assert dataset.classes == tuple(sorted(CLASSES))


pieces = st.sampled_from(
    [
        *(b"id,text,label,split\n", b"1,a,b,train\n", b"2,a,c,val\n", b"3,a,b,test\n", b"4,a,"),
        *(b'"', b",", b"\n", b"\r", b";", b"|", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3", b"PAR1"),
        *(b'{"id": "1", "text": ', b'"a"', b', "label": "b"', b"}\n", b"[", b"]", b"null"),
    ]
)


@settings(deadline=None, max_examples=200)
@given(st.lists(pieces, max_size=12), st.sampled_from(FORMATS))
def test_any_bytes_are_read_or_refused_in_one_line(content, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(b"".join(content))
        report = check_manifest(path)
        assert all("\n" not in str(problem) for problem in report.problems)
        if report.ok:
            read_manifest(path)
        else:
            with pytest.raises(InputError) as caught:
                read_manifest(path)
            assert str(caught.value).startswith(str(path))
            assert "\n" not in str(caught.value)

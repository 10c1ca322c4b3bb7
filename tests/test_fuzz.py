"""Damaged and arbitrary files: one clear error or a result, never another exception.

Bounded; more by `FLI2MOE_FUZZ=50 pytest tests/test_fuzz.py` (times as many examples).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from report_made import text_only

from fli2moe import report
from fli2moe.config import Config
from fli2moe.data import check_manifest, read_manifest
from fli2moe.data.guess import guess_table
from fli2moe.errors import FLI2MoEError, InputError
from fli2moe.explain.explanation import Explanation
from fli2moe.explain.store import read_explanations, write_explanations
from fli2moe.files import file_digest
from fli2moe.predictor import Predictor
from fli2moe.runs import report_run
from fli2moe.stored import read_tensors

TIMES = int(os.environ.get("FLI2MOE_FUZZ", "1"))
SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


def fuzzed(examples: int) -> settings:
    return settings(max_examples=examples * TIMES, deadline=None, suppress_health_check=SLOW)


ROWS = [
    {"id": f"{n:03}", "text": f'a "word", and é {n}', "label": "ab"[n % 2], "split": split}
    for n, split in enumerate(("train", "train", "val", "val", "test", "test"))
]


def table(kind: str) -> bytes:
    if kind == "parquet":
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(ROWS), buffer)
        return buffer.getvalue()
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    lines = ["id,text,label,split"]
    lines += ['{id},"{text}",{label},{split}'.format(**{**r, "text": r["text"].replace('"', '""')})
              for r in ROWS]  # fmt: skip
    return ("\n".join(lines) + "\n").encode()


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Some bytes changed, inserted or cut off."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(found) - 1)))
        match draw(st.sampled_from(["change", "insert", "cut", "double"])):
            case "change" if found:
                found[place] = draw(st.integers(0, 255))
            case "insert":
                found[place:place] = draw(st.binary(max_size=8))
            case "cut":
                del found[place : place + draw(st.integers(1, 40))]
            case "double":
                found[place:place] = found[place : place + 60]
    return bytes(found)


@contextlib.contextmanager
def only_clear_errors() -> Iterator[None]:
    """Whatever is raised is ours, and one line."""
    said = ""
    try:
        yield
    except FLI2MoEError as error:
        said = str(error)
    assert "\n" not in said


def accepts(path: Path) -> bool:
    accepted = False
    with only_clear_errors():
        read_manifest(path)
        accepted = True
    return accepted


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@fuzzed(150)
@given(data=st.data())
def test_a_damaged_manifest(tmp_path_factory: pytest.TempPathFactory, kind: str, data: Any) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    path.write_bytes(data.draw(damaged(table(kind))))
    read = accepts(path)
    found = check_manifest(path)
    assert found.ok == read  # the checker and the reader agree
    assert all("\n" not in line for line in found.lines())
    with only_clear_errors():
        guess_table(path)


@fuzzed(150)
@given(text=st.text(max_size=300), ending=st.sampled_from(["csv", "jsonl", "parquet"]))
@example(text="id,label\n", ending="csv")
@example(text='{"id": [[[[]]]]}', ending="jsonl")
def test_any_text_as_a_manifest(
    tmp_path_factory: pytest.TempPathFactory, text: str, ending: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{ending}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert check_manifest(path).ok == accepts(path)


def paths_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = value if isinstance(value, dict) else ()
    return [at, *(p for key in keys for p in paths_of(value[key], (*at, key)))]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=9), x, max_size=3),
    max_leaves=5,
)


@fuzzed(300)
@given(data=st.data())
def test_a_configuration_with_a_wrong_value(data: Any) -> None:
    whole = Config.from_dict(
        {"data": {"path": "m.csv", "modalities": {"text": {"encoder": "builtin:words"}}}}
    ).model_dump(mode="json")
    path = data.draw(st.sampled_from(paths_of(whole)[1:]))
    changed = copy.deepcopy(whole)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(VALUES)
    with only_clear_errors():
        config = Config.from_dict(changed)
        assert Config.from_dict(yaml.safe_load(config.to_yaml())) == config


@fuzzed(150)
@given(text=st.text(max_size=200))
@example(text="a: &a [*a]")
@example(text="? {}\n: 1")
@example(text="data: !!timestamp 2001-99-99")
def test_any_text_as_a_configuration(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as caught:
        Config.from_yaml(path)
    assert "\n" not in str(caught.value)


FILES = (
    *("model.safetensors", "config.json", "predictor.json", "config.yaml"),
    *("baseline.safetensors", "selftest.safetensors"),
)


@pytest.fixture(scope="module")
def scratch(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("fuzz") / "run"))


@pytest.mark.parametrize("name", FILES)
@fuzzed(20)
@given(data=st.data())
def test_a_damaged_run_folder(scratch: Path, name: str, data: Any) -> None:
    path = scratch / name
    sound = path.read_bytes()
    try:
        path.write_bytes(data.draw(damaged(sound)))
        with only_clear_errors():
            Predictor.load(scratch)
    finally:
        path.write_bytes(sound)


@fuzzed(200)
@given(data=st.data())
def test_damaged_tensors_whose_checksum_was_mended(scratch: Path, data: Any) -> None:
    path = scratch / "damaged.safetensors"
    path.write_bytes(data.draw(damaged((scratch / "baseline.safetensors").read_bytes())))
    with only_clear_errors():
        for x in read_tensors(path, file_digest(path)).values():
            assert x.numel() >= 0


@fuzzed(150)
@given(data=st.data())
def test_a_damaged_explanation(data: Any) -> None:
    sound = text_only("some words that say it")[0].to_json()
    text = data.draw(damaged(sound.encode())).decode("utf-8", "replace")
    with only_clear_errors():
        assert isinstance(Explanation.from_json(text), Explanation)


@fuzzed(60)
@given(data=st.data())
def test_damaged_parts_whose_checksum_was_mended(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / "explanations"
    write_explanations([text_only("some words that say it")[0]], folder)
    part = next(folder.glob("part-*.parquet"))
    content = data.draw(damaged(part.read_bytes()))
    part.write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parts"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with only_clear_errors():
        list(read_explanations(folder))


@pytest.fixture(scope="module")
def reported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fli2moe.runs import evaluate_run, explain_run

    run = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("reported") / "run"))
    explain_run(run, limit=1, budget=60)
    evaluate_run(run)
    return run


@fuzzed(60)
@given(data=st.data())
def test_damaged_figures_in_a_report(reported: Path, data: Any) -> None:
    path = reported / "metrics.json"
    sound = path.read_bytes()
    values = json.loads(sound)
    where = data.draw(st.sampled_from(paths_of(values)[1:]))
    inner = values
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = data.draw(VALUES)
    try:
        path.write_text(json.dumps(values))
        with only_clear_errors():
            report_run(reported)
    finally:
        path.write_bytes(sound)


@fuzzed(60)
@given(text=st.text(min_size=1, max_size=60), name=st.text(max_size=20), other=st.text(max_size=20))
@example(text="</script><script>alert(1)</script>", name="--><!--", other="]]>")
def test_any_text_in_a_report(text: str, name: str, other: str) -> None:
    explanation, sample = text_only(text, name)
    html = report.render([explanation], [sample], about={other: text})
    assert html.encode("utf-8")
    plain = report.render(*([x] for x in text_only("word", "id")), about={"a": "b"})
    assert html.count("<script") == plain.count("<script")
    assert html.count("</script") == plain.count("</script")


# --- what was found ---


def test_found_a_column_name_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    path.write_bytes(table("parquet").replace(b"label", b"\x80abel"))
    with pytest.raises(InputError, match="not a whole Parquet file"):
        read_manifest(path)


def test_found_a_footer_that_is_none(tmp_path: Path) -> None:
    write_explanations([text_only("some words")[0]], tmp_path)
    part = next(tmp_path.glob("part-*.parquet"))
    content = part.read_bytes()
    part.write_bytes(content[:-60] + b"\xff" * 52 + content[-8:])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["parts"][0]["sha256"] = file_digest(part)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="damaged"):
        list(read_explanations(tmp_path))


def test_found_figures_that_are_too_few(reported: Path) -> None:
    path = reported / "metrics.json"
    sound = path.read_bytes()
    values = json.loads(sound)
    values["faithfulness"]["gradient_x_input"]["text"]["identified_points"] = []
    try:
        path.write_text(json.dumps(values))
        with pytest.raises(InputError, match="damaged or of another version"):
            report_run(reported)
    finally:
        path.write_bytes(sound)

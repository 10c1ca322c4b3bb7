"""Files are complete or not there; what goes wrong is one line."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fli2moe.errors import InputError, MachineError
from fli2moe.files import (
    check_writable,
    complete_file,
    file_digest,
    read_json,
    write_json,
    write_tensors,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Writing a file beyond `size` bytes fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "deep" / "file.txt"
    with complete_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_failure_leaves_the_earlier_file_and_no_rest(tmp_path: Path):
    path = tmp_path / "file.txt"
    write_text(path, "first")

    def fail() -> None:
        with complete_file(path) as temporary:
            temporary.write_text("second")
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "first"
    assert names(tmp_path) == ["file.txt"]


def test_files_get_the_rights_of_the_umask(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_text(path, "x" * 100_000),
        lambda path: write_tensors(path, {"x": torch.zeros(100_000)}),
    ],
    ids=["text", "tensors"],
)
def test_a_full_disk_is_one_line_and_keeps_the_earlier_file(
    tmp_path: Path, write: Callable[[Path], None]
):
    path = tmp_path / "file"
    write_text(path, "first")
    with small_disk(1000), pytest.raises(MachineError) as caught:
        write(path)
    assert str(path) in str(caught.value)
    assert "cannot write" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    assert path.read_text() == "first"
    assert names(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot write"):
        write_text(tmp_path / "file" / "inner", "x")
    with pytest.raises(MachineError, match=r"cannot write.*choose another folder"):
        check_writable(tmp_path / "file")
    check_writable(tmp_path / "new" / "folder")
    assert names(tmp_path / "new" / "folder") == []


def test_json_round_trip_and_its_errors(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"ä": [1, None]})
    assert read_json(path) == {"ä": [1, None]}
    assert path.read_text(encoding="utf-8").endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert read_json(path) == {"ä": [1, None]}
    with pytest.raises(InputError, match=r"b\.json: no such file; expected a JSON file; make one"):
        read_json(tmp_path / "b.json", "make one")
    for content in (b'{"a": ', b"\xff\xfe{}"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.json: not readable"):
            read_json(path)
    with pytest.raises(InputError, match="not readable"):
        read_json(tmp_path)


def test_tensors_are_stored_whatever_their_layout(tmp_path: Path):
    turned = torch.arange(6.0).reshape(2, 3).T.requires_grad_()
    write_tensors(tmp_path / "x", {"turned": turned})
    torch.testing.assert_close(load_file(tmp_path / "x")["turned"], turned.detach())


def test_the_digest_is_sha256_of_the_bytes(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()

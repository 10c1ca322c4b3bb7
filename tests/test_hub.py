"""A folder by name: here first, on the hub only where the name can be one of the hub's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from fli2moe.errors import InputError, MachineError
from fli2moe.hub import HubOptions, fetch, find_pretrained

FILES = ("config.json", "model.safetensors")
Answer = Callable[[Exception | Path], list[dict[str, Any]]]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Lets the hub answer with a folder or an error; returns the list of what it was asked."""
    asked: list[dict[str, Any]] = []

    def set_answer(value: Exception | Path) -> list[dict[str, Any]]:
        def download(name: str, **options: Any) -> str:
            asked.append({"name": name, **options})
            if isinstance(value, Exception):
                raise value
            return str(value)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        return asked

    return set_answer


def test_a_folder_that_exists_is_taken(
    tmp_path: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch
):
    asked = answer(AssertionError("the hub was asked"))
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("owner/name", Path("owner/name"), str(tmp_path / "owner"), "~/owner/name"):
        assert find_pretrained(name, FILES, HubOptions()).is_dir()
    assert not asked


@pytest.mark.parametrize(
    "name",
    [
        *("./owner/name", "/owner/name", "../name", "~/name", "~nobody/x", "a/b/c", "name", ""),
        *("a/b\n", "a b/c", "-a/b", "a\\b", "a/\0", "é/b", "x" * 5000, Path("owner/name")),
    ],
)
def test_what_is_no_name_of_the_hub_is_never_asked_of_it(name: str | Path, answer: Answer):
    asked = answer(AssertionError("the hub was asked"))
    with pytest.raises(InputError, match="no such folder; expected a folder on this machine, or"):
        find_pretrained(name, FILES, HubOptions())
    assert not asked


def test_options_reach_the_hub_and_only_the_listed_files_are_fetched(
    tmp_path: Path, answer: Answer
):
    asked = answer(tmp_path)
    options = HubOptions("v2", "secret", tmp_path / "cache", True)
    assert find_pretrained("owner/name", FILES, options) == tmp_path
    expected = {
        "name": "owner/name",
        "allow_patterns": list(FILES),
        "ignore_patterns": ["*/*"],
        "etag_timeout": 3,
        "revision": "v2",
        "token": "secret",
        "cache_dir": tmp_path / "cache",
        "local_files_only": True,
    }
    assert asked == [expected]


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (errors.RepositoryNotFoundError, InputError, "no such folder or model"),
        (errors.GatedRepoError, InputError, "no such folder or model"),
        (errors.RevisionNotFoundError, InputError, "no revision 'v1'"),
        (errors.HfHubHTTPError, MachineError, "did not deliver it (HfHubHTTPError)"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    error: Any, kind: type[Exception], said: str, answer: Answer
):
    answer(error("no", response=SimpleNamespace(status_code=404, headers={}, request=None)))
    with pytest.raises(kind) as caught:
        fetch("owner/name", FILES, HubOptions("v1"))
    assert said in str(caught.value)
    assert str(caught.value).startswith("owner/name: ")


@pytest.mark.parametrize(
    ("error", "local", "said"),
    [
        (errors.LocalEntryNotFoundError("no"), False, "cannot be reached; give the path of"),
        (errors.LocalEntryNotFoundError("no"), True, "no earlier download of it; leave local_"),
        (errors.OfflineModeIsEnabled("no"), False, "cannot be reached"),
        (OSError("disk"), False, "did not deliver it (OSError)"),
    ],
)
def test_a_hub_that_cannot_be_reached_is_the_machines_fault(
    error: Exception, local: bool, said: str, answer: Answer
):
    answer(error)
    with pytest.raises(MachineError) as caught:
        fetch("owner/name", FILES, HubOptions(local_files_only=local))
    assert said in str(caught.value)
    assert caught.value.exit_code == 3

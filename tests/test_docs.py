"""The documentation site: it builds strictly, says what the code says, and loads nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="needs pip install 'fli2moe[docs]'")
    pytest.importorskip("mkdocstrings", reason="needs pip install 'fli2moe[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_command_line_and_configuration_are_the_codes(site: Path):
    commands = (site / "cli" / "index.html").read_text(encoding="utf-8")
    for name in ("init", "train", "evaluate", "serve", "reproduce", "data check"):
        assert f"fli2moe {name}" in commands
    options = (site / "configuration" / "index.html").read_text(encoding="utf-8")
    for key in ("gate_loss", "modalities.NAME.encoder", "router.temperature", "pair_contexts"):
        assert f"<code>{key}</code>" in options


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site: Path):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="(https?:[^"]+)"', text)
        loaded += re.findall(
            r'<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*href="(https?:[^"]+)"', text
        )
        assert not loaded, (page.name, loaded)


@pytest.mark.slow
def test_the_api_page_has_what_users_call(site: Path):
    text = (site / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("predict_proba", "explain_batch", "push_to_hub", "top_pairs", "as_quantus"):
        assert name in text


def test_every_test_that_a_page_names_is_there():
    text = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`tests/([\w/]+\.py)::(\w+)`", text))
    assert len(named) > 100
    for file, name in sorted(named):
        code = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", code, re.M), f"{file}::{name}"
    cases = re.findall(r"^\| (\d+) ", text, re.M)
    assert cases == [str(n) for n in range(1, 82)]

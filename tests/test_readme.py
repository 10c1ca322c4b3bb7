"""The README's code runs and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fli2moe.data.shapes import write_shapes

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted(set(re.findall(r"^(?:\.venv/bin/)?fli2moe .*$", README, re.MULTILINE)))


def _run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_library_example_trains_explains_and_reports(tmp_path: Path):
    write_shapes(tmp_path / "runs" / "demo" / "data", sizes=(96, 32, 16))
    configs = tmp_path / "configs"
    configs.mkdir()
    demo = (ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8")
    (configs / "demo.yaml").write_text(demo + "training: {epochs: 1}\n", encoding="utf-8")
    printed = _run(PYTHON[0], tmp_path)
    assert printed.count(" × patch (") == 5
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
    _run(PYTHON[2], tmp_path)  # shares what was trained
    card = (tmp_path / "shared" / "mine" / "README.md").read_text(encoding="utf-8")
    assert "library_name: fli2moe" in card


def test_the_probe_of_a_plain_function_prints_what_the_readme_says(tmp_path: Path):
    printed = _run(PYTHON[1], tmp_path)
    assert "text[1] × image[3]: +2.00 (exact)" in printed


def test_functions_of_shapiq_go_both_ways(tmp_path: Path):
    pytest.importorskip("shapiq")
    assert _run(PYTHON[3], tmp_path).splitlines() == [
        "text[1] × image[1]: +2.00 (exact)",
        "2.0 2.0",
    ]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_and_option_exists(line: str):
    words = line.split("#")[0].split()[1:]
    command = words[:2] if words[0] == "data" else words[:1]
    own = [sys.executable, "-c", "from fli2moe.cli import main; main()", *command, "--help"]
    done = subprocess.run(own, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    modalities = {"--text", "--image"} if command == ["probe"] else set()
    for option in {word for word in words if word.startswith("--")} - modalities:
        assert option in done.stdout


def test_the_two_commands_are_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_pictures_and_links_of_the_readme_exist():
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert "docs/report.png" in targets
    for target in targets:
        assert (ROOT / target).exists(), target

"""What reaches the terminal: whole lines, and data as they are."""

from __future__ import annotations

import io
import logging
from types import SimpleNamespace

import pytest
from rich.console import Console

from fli2moe.terminal import Terminal


def plain(width: int = 80) -> tuple[Terminal, io.StringIO]:
    page = io.StringIO()
    return Terminal(Console(file=page, width=width, highlight=False)), page


def test_markup_and_control_characters_in_data_are_shown_not_obeyed():
    terminal, page = plain()
    with terminal:
        terminal.say("[red]a[/red] \x1b[31mb\n:smile:")
        table = {"columns": ["[b]c[/b]"], "rows": [["\x1b[1m[u]d[/u]"]], "note": "[i]e[/i]"}
        terminal.tables({"[bold]t[/bold]": table})
    shown = page.getvalue()
    for literal in ("[red]a[/red] \\x1b[31mb\\n:smile:", "[b]c[/b]", "[u]d[/u]", "[i]e[/i]"):
        assert literal in shown
    assert "[bold]t[/bold]" in shown
    assert "\x1b" not in shown


def test_a_long_line_is_not_broken():
    terminal, page = plain(width=20)
    with terminal:
        terminal.say("metrics: " + "/folder" * 30)
    assert page.getvalue() == "metrics: " + "/folder" * 30 + "\n"


def test_numbers_are_rounded_and_nothing_is_na():
    terminal, page = plain()
    with terminal:
        rows = [["a", 0.12345, 3, None, float("nan")]]
        terminal.tables({"t": {"columns": list("abcde"), "rows": rows, "note": ""}})
    row = next(line for line in page.getvalue().splitlines() if "0.123" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["a", "0.123", "3", "n/a", "nan"]


def test_without_a_terminal_a_stage_is_one_line_when_it_is_done():
    terminal, page = plain()
    with terminal:
        for done in (1, 2, 3):
            terminal.step("text", done, 3)
        terminal.step("text", 5, 5)
        terminal.epoch("dense", {"epoch": 1.0, "train_loss": 1, "val_loss": 2, "val_score": 0.5})
    lines = page.getvalue().splitlines()
    assert lines[:2] == ["text: 3", "text: 5"]
    assert lines[2] == "dense  epoch   2  train loss 1.000  val loss 2.000  val score 0.500"


def test_a_long_stage_says_how_fast_it_is_and_what_is_left(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 0.0, 30.0, 61.0, 90.0, 125.0, 200.0])
    monkeypatch.setattr("fli2moe.terminal.time", SimpleNamespace(monotonic=lambda: next(clock)))
    terminal, page = plain()
    with terminal:
        for done in (0, 30, 61, 90, 125, 200):
            terminal.step("explain", done, 200)
    assert page.getvalue().splitlines() == [
        "explain: 61 of 200, 1 a second, 139 s left",
        "explain: 125 of 200, 1 a second, 75 s left",
        "explain: 200, 1 a second",
    ]


def test_on_a_terminal_there_is_a_bar_per_stage():
    page = io.StringIO()
    terminal = Terminal(Console(file=page, width=80, force_terminal=True))
    with terminal:
        terminal.step("[red]text[/red]", 1, 3)
        terminal.step("[red]text[/red]", 3, 3)
        terminal.step("[red]text[/red]", 1, 1)
    assert "[red]text[/red]" in page.getvalue()
    assert "3/3" in page.getvalue()


def test_warnings_of_the_library_become_notes_while_it_is_open():
    terminal, page = plain()
    log = logging.getLogger("fli2moe.training")
    with terminal:
        log.warning("the gate [b]never[/b] opened at %d", 3)
        log.info("not shown")
    before = logging.getLogger("fli2moe").handlers
    assert page.getvalue() == "note: the gate [b]never[/b] opened at 3\n"
    assert not before

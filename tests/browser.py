import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, or a skip that says what is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """A page that was opened from disk, and everything it asked for or complained about."""

    def __init__(self, browser: Any, path: Path, width: int, height: int, scheme: str) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".card")
        # Two frames: the curves are drawn when the fonts are there.
        self.page.evaluate(
            "document.fonts.ready.then(() => new Promise(r => requestAnimationFrame("
            "() => requestAnimationFrame(r))))"
        )


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens a report: visit(path, width=1280, height=900, scheme="light")."""
    opened: list[Visit] = []

    def go(path: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> Visit:
        opened.append(Visit(browser, path, width, height, scheme))
        return opened[-1]

    yield go
    for one in opened:
        one.context.close()

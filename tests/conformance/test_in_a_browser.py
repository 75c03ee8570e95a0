"""The report as one page, in a real browser: what its filters show and where its permanent links lead."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from conformance.tried import behaviour, passes
from criimage.conformance.outcome import Outcome, Result, Summary
from criimage.conformance.report.page import page
from parts.missing import lacking

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

OUTCOMES = {
    "L1": Outcome.PASSED,
    "L2": Outcome.FAILED,
    "L3": Outcome.KNOWN,
    "L4": Outcome.NOT_APPLICABLE,
    "L5": Outcome.UNEXPECTED,
}


class _Details(HTMLParser):
    """Which behaviours are shown, and which of them are open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.shown: set[str] = set()
        self.open: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "details" and "hidden" not in str(found["class"]).split():
            self.shown.add(str(found["id"]))
            if "open" in found:
                self.open.add(str(found["id"]))


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A page with a result of each kind."""
    results = tuple(Result(behaviour(number, passes), outcome, "text") for number, outcome in OUTCOMES.items())
    file = tmp_path / "report.html"
    file.write_bytes(page(Summary("a server", "unix:///here", "now", 1.0, results)))
    return file


def looked_at(file: Path, fragment: str = "", click: str = "") -> _Details:
    """Open the page at a fragment, click a filter, and say what is there then."""
    browser = shutil.which("chromium")
    if browser is None:
        lacking("chromium is not installed; the page is parsed in test_reports", also_in_ci=False)
    if click:
        script = f"<script>document.querySelector('[data-kind={click}]').click()</script>"
        file.write_text(file.read_text().replace("</body>", f"{script}</body>"))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={file.parent}/profile"]
    ended = subprocess.run(
        [*command, "--dump-dom", f"file://{file}{fragment}"], capture_output=True, text=True, check=True
    )
    return _Details(ended.stdout)


def test_without_a_click_all_is_shown(report: Path) -> None:
    """And what failed is open."""
    found = looked_at(report)
    assert (found.shown, found.open) == (set(OUTCOMES), {"L2", "L5"})


@pytest.mark.parametrize(
    ("click", "shown"), [("passed", {"L1"}), ("failed", {"L2", "L5"}), ("known", {"L3"}), ("na", {"L4"})]
)
def test_a_filter_shows_its_kind_alone(report: Path, click: str, shown: set[str]) -> None:
    """An unexpected pass counts as failed, as in the exit code."""
    assert looked_at(report, click=click).shown == shown


def test_a_permanent_link_opens_its_behaviour(report: Path) -> None:
    """It is open when somebody comes by its link."""
    assert looked_at(report, "#L3").open == {"L2", "L3", "L5"}

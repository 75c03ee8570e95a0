"""What is told of a run: outcomes, exit codes, and reports for people and programs."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from conformance.tried import behaviour, breaks, fails, passes, tried
from criimage.conformance.behaviour import Need
from criimage.conformance.exchange import shown
from criimage.conformance.outcome import Outcome, Result, Summary
from criimage.conformance.report.document import document
from criimage.conformance.report.junit import junit
from criimage.conformance.report.page import page
from criimage.conformance.report.text import result_lines, summary_lines
from criimage.conformance.supply import PASSWORD
from criimage.cri.runtime import v1

if TYPE_CHECKING:
    from pathlib import Path


async def test_outcomes_and_exit_codes(tmp_path: Path) -> None:
    """Passed and known: 0. Failed or an unexpected pass: 1. The suite's own fault: 2."""
    good, bad, broken = behaviour("L1", passes), behaviour("L2", fails), behaviour("L3", breaks)

    first = await tried(tmp_path, good, bad, known={"L2": "it is so"})
    assert ([one.outcome for one in first.results], first.exit_code) == ([Outcome.PASSED, Outcome.KNOWN], 0)
    assert first.line == "1 passed, 0 failed, 1 known, 0 not applicable"

    assert (await tried(tmp_path, good, bad)).exit_code == 1
    surprise = await tried(tmp_path, good, known={"L1": "it is not so"})
    assert ([one.outcome for one in surprise.results], surprise.exit_code) == ([Outcome.UNEXPECTED], 1)
    assert (await tried(tmp_path, good, bad, broken)).exit_code == 2


async def test_what_is_missing_is_not_applicable(tmp_path: Path) -> None:
    """A behaviour that needs what is not there is not tried, with the reason."""
    summary = await tried(tmp_path, behaviour("L1", breaks, Need.RESTART))

    (result,) = summary.results
    assert (result.outcome, result.text) == (
        Outcome.NOT_APPLICABLE,
        "there is no command that restarts the service: --restart",
    )
    assert (summary.line, summary.exit_code) == ("0 passed, 0 failed, 0 known, 1 not applicable", 0)


async def test_a_failure_shows_the_exchange_without_the_password(tmp_path: Path) -> None:
    """Every report shows request and answer, what was expected and why; none shows a credential."""
    summary = await tried(tmp_path, behaviour("L1", passes), behaviour("L2", fails))

    text = "\n".join(line for one in summary.results for line in result_lines(one))
    reports = [text, *(form(summary).decode() for form in (junit, page, document))]
    for report in reports:
        assert PASSWORD not in report
        assert all(part in report for part in ("PullImage", "***", "Sentence L2."))
    assert "L1" not in text


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids.add(found.get("id") or "")
        if tag == "a":
            self.links.add((found.get("href") or "").removeprefix("#"))
        self.loaded += [value for key, value in attrs if key == "src" and value]


async def test_reports_can_be_read_by_programs(tmp_path: Path) -> None:
    """JUnit has a case for each behaviour, JSON everything, and the page permanent links and nothing from elsewhere."""
    summary = await tried(tmp_path, behaviour("L1", passes), behaviour("L2", fails), behaviour("L3", breaks))

    suite = ET.fromstring(junit(summary)).find("testsuite")  # noqa: S314 - our own
    assert suite is not None
    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["3", "1", "1", "0"]
    assert [one["outcome"] for one in json.loads(document(summary))["results"]] == ["passed", "failed", "suite error"]
    links = _Links()
    links.feed(page(summary).decode())
    assert links.links <= links.ids
    assert {"L1", "L2", "L3", "list"} <= links.ids
    assert links.loaded == []


def test_a_report_says_whose_differences_were_taken_and_how_to_repeat_it() -> None:
    """On the page and for programs; in the terminal whose they are, which may be nobody's run."""
    of, command = "CRI-O 1.36 (from observations, not run here)", "criimage conformance --endpoint unix:///a"
    summary = Summary("CRI-O", "unix:///a", "now", 1.0, (), known_of=of, repeated_by=command)

    assert f"known differences: {of}" in summary_lines(summary)
    assert json.loads(document(summary))["repeated_by"] == command
    assert all(words in page(summary).decode() for words in (of, f"<code>{command}</code>"))


def test_foreign_text_does_not_break_reports() -> None:
    """A service's text with control characters, tags and halves of pairs is shown, and the reports stay whole."""
    nasty = "\x00\x1b[31m</pre><script>\ud800]]>"
    result = Result(behaviour("L1", passes), Outcome.FAILED, nasty)
    summary = Summary(nasty, nasty, "now", 1.0, (result,))

    ET.fromstring(junit(summary))  # noqa: S314 - our own
    json.loads(document(summary))
    assert b"</pre><script>" not in page(summary)


def test_exchanges_are_bounded() -> None:
    """A message of a megabyte is shown in some hundred characters."""
    many = v1.ListImagesResponse(images=[v1.Image(id="x" * 5000, repo_tags=["t"] * 500)] * 300)

    assert len(shown(many)) < 10_000
    assert len(shown(b"\xff" * 2**20)) < 200

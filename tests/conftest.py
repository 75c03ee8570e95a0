"""For all tests, whoever starts them."""

from __future__ import annotations

import datetime as dt
import platform
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from criimage import __version__, problems
from parts import frames, versions
from parts.alarm import pytest_timeout_set_timer  # noqa: F401 - a hook
from parts.missing import strict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_LONG_RUNS = pytest.StashKey[list[tuple[str, str, str]]]()
_ORDER_IN_CI = 1_414_859_696
"""Seed of the order of the tests; on a developer's machine each run has another one."""


# How long an example takes says how busy the machine is. Where `CI` is set Hypothesis takes the same examples each time
# by itself, and has no such deadline either.
settings.register_profile("unhurried", deadline=None)
if settings.get_current_profile_name() == "default":
    settings.load_profile("unhurried")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Settles what is to be known beforehand.

    A shell lets its background jobs ignore SIGINT; then so would every command that a test interrupts. Where `CI=true`
    the tests have the same order each time, so that a run that fails is one that fails again.
    """
    config.stash[_LONG_RUNS] = []
    if strict() and config.getoption("randomly_seed", None) == "default":
        config.option.randomly_seed = _ORDER_IN_CI
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    """The versions of the real parts: what a report of a failure is worth without them, nobody knows."""
    return versions.lines()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds what went over the wire to the report of a test that failed."""
    report = yield
    if report.failed and (text := frames.shown()):
        report.sections.append((f"frames of {item.name}", text))
    if item.get_closest_marker("long") and (report.when == "call" or not report.passed):
        _add_outcome(item.config.stash[_LONG_RUNS], item.name, report)
    return report


def _add_outcome(rows: list[tuple[str, str, str]], name: str, report: pytest.TestReport) -> None:
    """No long test is left out of the table: one that says nothing of itself has how it ended, one that failed too."""
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        rows.append((name, "", str(reason).replace("\n", " ")))
    elif report.failed:
        rows.append((name, "", f"**failed** in {report.when} after {report.duration:.0f} s"))
    elif not any(test == name for test, _, _ in rows):
        rows.append((name, "", f"passed in {report.duration:.0f} s"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test's frames are its own; so are the problems that stand, whatever one that failed has left."""
    frames.forget()
    for source in problems.standing():
        problems.forget(source)


@pytest.fixture
def long_run(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Adds a row to the table that a long run ends with: the versions of the parts that took part, and the result."""
    rows = request.config.stash[_LONG_RUNS]

    def add(versions: str, result: str) -> None:
        rows.append((request.node.name, versions, result))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the rows as docs/long-runs.md has them."""
    rows = config.stash[_LONG_RUNS]
    if not rows:
        return
    day = dt.datetime.now(tz=dt.UTC).date().isoformat()
    own = f"criimage {__version__}, Python {platform.python_version()}"
    terminalreporter.section("long runs, for docs/long-runs.md")
    terminalreporter.write_line("| date | test | versions | result |")
    terminalreporter.write_line("| --- | --- | --- | --- |")
    for test, taken, result in rows:
        with_what = f"{own}, {taken}" if taken else own
        terminalreporter.write_line(f"| {day} | `{test}` | {with_what} | {result} |")

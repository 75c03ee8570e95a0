"""What the tests of pulls measure is shown at the end of the run; nothing is asserted on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

Measured = Callable[[str], None]

_LINES = pytest.StashKey[list[str]]()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Takes a line for the end of the report."""

    def note(text: str) -> None:
        request.config.stash.setdefault(_LINES, []).append(f"{request.node.name}: {text}")

    return note


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Shows what was measured."""
    lines = config.stash.get(_LINES, [])
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)

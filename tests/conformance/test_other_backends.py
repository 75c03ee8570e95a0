"""Where our backends stand on the scale, by both suites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.reports import report

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

EXEMPLARY = {
    "containers-storage": "containers-storage: exemplary, 20 of 20 rules",
    "docker": "docker: exemplary, 20 of 20 rules; known differences: S21, D9, D10; without STOPS_PULLS",
    "docker-containerd-store": "docker: exemplary, 20 of 20 rules; known differences: S21",
    "cri": "cri: exemplary, 20 of 20 rules; known differences: S21",
}


@pytest.mark.long
@pytest.mark.parametrize("name", EXEMPLARY)
def test_a_backend_stands_at_the_top_of_the_scale(name: str, tmp_path: Path) -> None:
    """By both suites on the real thing; each known difference is still there, and nothing else differs."""
    assert report(name, tmp_path) == f"{EXEMPLARY[name]}\n"


def test_the_backend_in_memory_lacks_what_memory_lacks(tmp_path: Path) -> None:
    """The one rule that does not hold is that images outlive the process."""
    assert report("memory", tmp_path).splitlines() == [
        "missing 18 (exemplary): What is stored outlives a restart.",
        "memory: dependable, 19 of 20 rules; known differences: X1; without PERSISTENT",
    ]

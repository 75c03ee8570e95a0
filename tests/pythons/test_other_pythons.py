"""The Pythons after the one that the other tests run on: those of Debian 13 and of unstable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parts.debian13 import debian13, unstable
from parts.pythons import run_tests, run_tests_here
from parts.versions import packages_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.engine

SLICE = ("tests/values", "tests/wire", "tests/settings", "tests/foreign/test_files.py", "tests/pythons/test_serves.py")
"""That it can be imported and installed, reads its settings and foreign files, serves, and pulls on memory."""
REST = (
    *SLICE,
    "tests/channel", "tests/contract", "tests/docker", "tests/foreign", "tests/operating", "tests/plugins",
    "tests/pulls", "tests/relay", "tests/server", "tests/containers_storage", "tests/cri_backend",
    "tests/cli", "tests/conformance",
)  # fmt: skip


@pytest.mark.timeout(900)
def test_it_works_on_debian_13s_python(tmp_path: Path) -> None:
    """Installed from its wheel on Python 3.13, the tests of values, wire, settings, files and of serving pass."""
    outcome = run_tests(debian13(), tmp_path, SLICE)
    assert outcome.code == 0, outcome.output[-8000:]
    assert outcome.version == "3.13"
    assert outcome.passed > 100


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("system", [debian13, unstable])
def test_every_quick_test_passes(
    system: Callable[[], Path], tmp_path: Path, long_run: Callable[[str, str], None]
) -> None:
    """Every quick test but those of the documentation and of the repository itself, on that system's Python."""
    root = system()
    outcome = run_tests(root, tmp_path, REST)
    long_run(f"python3 {packages_in(root, ('python3',))['python3']}", f"{outcome.passed} tests passed")
    assert outcome.code == 0, outcome.output[-20_000:]
    assert outcome.passed > 1000


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_quick_test_passes_on_3_12(tmp_path: Path, long_run: Callable[[str, str], None]) -> None:
    """The same on the Python that neither Debian has, where this machine has it."""
    outcome = run_tests_here("3.12", tmp_path, REST)
    long_run(f"python {outcome.version}", f"{outcome.passed} tests passed")
    assert outcome.code == 0, outcome.output[-20_000:]
    assert outcome.passed > 1000

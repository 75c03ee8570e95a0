"""Claim: a test that takes too long ends, wherever the alarm finds it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from documentation.pages import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

_CONFTEST = """
from parts import alarm
from parts.alarm import pytest_timeout_set_timer
alarm.AGAIN = {again}
"""

_TEST = """
import asyncio, time

def test_what_a_callback_was_to_tell_is_waited_for():
    async def wait():
        told = asyncio.Event()

        def tell():
            time.sleep(60)
            told.set()

        asyncio.get_running_loop().call_soon(tell)
        await told.wait()

    asyncio.run(wait())
"""


def test_an_alarm_that_was_swallowed_comes_again(tmp_path: Path) -> None:
    """The first finds the test in a callback of the loop, which goes on without it; the next one ends the wait."""
    # A busy machine takes longer to begin the test, or to end it between two alarms.
    told = ""
    for number, seconds in enumerate((0.3, 3.0, 9.0)):
        told = _tried(tmp_path / str(number), seconds)
        if re.search(r"^1 failed", told, re.MULTILINE):
            assert f"Timeout (>{seconds}s)" in told
            return
    raise AssertionError(told)


def _tried(folder: Path, seconds: float) -> str:
    folder.mkdir()
    (folder / "conftest.py").write_text(_CONFTEST.format(again=seconds))
    (folder / "test_waiting.py").write_text(_TEST)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--timeout={seconds}", "--rootdir", ".", "."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT / "tests")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return ended.stdout + ended.stderr

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
alarm.AGAIN = 0.2
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
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_waiting.py").write_text(_TEST)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=0.3", "--rootdir", ".", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT / "tests")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert re.search(r"^1 failed", ended.stdout, re.MULTILINE), ended.stdout + ended.stderr
    assert "Timeout (>0.3s)" in ended.stdout

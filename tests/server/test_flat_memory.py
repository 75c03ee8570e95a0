"""Claims: a connection that is used for long takes no more memory than one that was just opened."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from server.flat_memory import BYTES, OBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable

_TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize("calls", [3_000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_calls_answered_at_once_leave_nothing(calls: int, long_run: Callable[[str, str], None]) -> None:
    """Issue 12.1: after as many calls as one likes a connection keeps what it kept after the first thousands."""
    command = [sys.executable, "-m", "server.flat_memory", str(calls)]
    told = subprocess.run(command, cwd=_TESTS, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-4000:]
    found = json.loads(told.stdout.splitlines()[-1])
    assert found["objects"] < OBJECTS
    assert found["bytes"] < BYTES
    text = f"{calls:,} calls on one connection: memory {found['bytes'] / 2**20:+.1f} MiB, objects {found['objects']:+}"
    if calls > 3_000:
        long_run(f"Linux {platform.release()}", text)

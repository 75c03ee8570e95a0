"""The alarm that ends a test which takes too long goes off again and again, until the test has ended."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

AGAIN = 60.0
"""Seconds between two alarms: a test that has heard one has so long to clean up."""


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_set_timer() -> Generator[None, bool | None, bool | None]:
    """Repeats pytest-timeout's alarm.

    It fails the test by an exception wherever the program is: in a callback of asyncio's loop that is logged and gone,
    what the callback was to do never happens, and the test would wait for it for ever.
    """
    done = yield
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    if left:
        signal.setitimer(signal.ITIMER_REAL, left, AGAIN)
    return done

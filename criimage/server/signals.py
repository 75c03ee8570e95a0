"""Signals, and the promise that SIGTERM ends the process in time whatever else happens.

Signals are read by a thread, not by the event loop: a loop that stands still, a thread that hangs in a file (a FIFO, a
network file system that is gone), a backend that cannot stop must not keep the process. Python ends only when every
thread has, so the last resort is to leave without them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import structlog

from criimage import logs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LEAVE_SECONDS", "Signals"]

_log = structlog.get_logger(__name__)

LEAVE_SECONDS = 4.3
"""So long after the first SIGTERM or SIGINT the process is left by force; users rely on 5 s."""
_LOG_SECONDS = 0.5
_ENDS = frozenset({signal.SIGTERM, signal.SIGINT})


class Signals:
    """Takes SIGTERM, SIGINT and SIGHUP while its block runs; a context manager, of the main thread.

    Set up before the socket is bound: a signal that comes early must not leave it behind. After the block a process
    that was asked to end ignores them: it is about to, and in time even if threads hang.

    Args:
        stopped: set by SIGTERM or SIGINT.
        hung_up: set by SIGHUP.

    Attributes:
        last_acts: called before the process is left by force, for what nobody else would tidy up.
    """

    def __init__(self, stopped: asyncio.Event, hung_up: asyncio.Event) -> None:
        self.last_acts: list[Callable[[], object]] = []
        self._events = {signal.SIGTERM: stopped, signal.SIGINT: stopped, signal.SIGHUP: hung_up}
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in self._events:
            # Python writes to the descriptor only for signals that have a handler.
            signal.signal(number, _nothing)
        # Both descriptors stay open: the thread outlives the block, to see the process end.
        threading.Thread(target=self._listen, args=(reading,), name="signals", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # The default would end a process that is ending well with an exit code that tells of a failure. If it ends by
        # itself, and a thread keeps it, the default is all that is left to end it.
        asked = self._events[signal.SIGTERM].is_set()
        for number in self._events:
            signal.signal(number, signal.SIG_IGN if asked else signal.SIG_DFL)

    def _listen(self, reading: int) -> None:
        leave: float | None = None
        while leave is None or time.monotonic() < leave:
            pause = None if leave is None else max(0.0, leave - time.monotonic())
            if not select.select([reading], [], [], pause)[0]:
                continue
            for number in os.read(reading, 64):
                event = self._events.get(signal.Signals(number))
                if event is None:
                    continue
                if number in _ENDS and leave is None:
                    leave = time.monotonic() + LEAVE_SECONDS
                with contextlib.suppress(RuntimeError):  # the loop has been closed
                    self._loop.call_soon_threadsafe(event.set)
        self._leave()

    def _leave(self) -> None:
        # Everything here may fail, and none of it may keep the process.
        with contextlib.suppress(Exception):
            _log.warning("left by force: something did not end in time", threads=_hanging())
        acts: list[Callable[[], object]] = [*self.last_acts, _kill_children, partial(logs.finish, _LOG_SECONDS)]
        for act in acts:
            with contextlib.suppress(Exception):
                act()
        os._exit(0)


def _nothing(_number: int, _frame: object) -> None:
    """Be a handler."""


def _hanging() -> list[str]:
    """Return where each thread stands: file and line of its innermost frame."""
    names = {thread.ident: thread.name for thread in threading.enumerate() if not thread.daemon}
    frames = sys._current_frames()  # noqa: SLF001 - documented, for debuggers
    return [
        f"{name}: {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        for ident, name in names.items()
        if (frame := frames.get(ident or 0)) is not None
    ]


def _kill_children() -> None:
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

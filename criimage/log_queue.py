"""The way of a log line to its file: a bounded queue and a thread that writes, so that no reader can stop the service.

A pipe whose reader stalls, a full disk or a terminal that was paused blocks whoever writes; here that is a thread with
nothing else to do. What finds no room is dropped and counted, and a line says so as soon as there is room again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque

__all__ = ["LineQueue"]

LINES_LIMIT = 10_000
BYTES_LIMIT = 8 * 2**20
LINE_LIMIT = 64 * 2**10
"""Longest line in bytes; the rest is cut off."""


class LineQueue(logging.Handler):
    """Formats records at once, where their context is, and writes them later, in a thread of its own.

    Args:
        descriptor: where lines are written to; a write may block, or fail.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = self._told = 0
        self._writing = False
        self._changed = threading.Condition()
        self._writer = threading.Thread(target=self._write_all, name="log writer", daemon=True)
        self._writer.start()

    @property
    def dropped(self) -> int:
        """How many lines have been dropped so far."""
        return self._dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record; never blocks and never fails."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - a line that cannot be written must not cost the call that logs it
            text = f"a log line could not be formatted: {record.name}"
        line = text.encode("utf-8", "backslashreplace")
        if len(line) > LINE_LIMIT:
            line = line[:LINE_LIMIT] + b" (cut)"
        with self._changed:
            if len(self._lines) >= LINES_LIMIT or self._bytes + len(line) > BYTES_LIMIT:
                self._dropped += 1
                return
            self._lines.append(line + b"\n")
            self._bytes += len(line) + 1
            self._changed.notify()

    def finish(self, seconds: float) -> None:
        """Wait until everything is written, for so long at most."""
        end = time.monotonic() + seconds
        with self._changed:
            while (self._lines or self._writing) and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._lines:
                    self._changed.wait()
                lines = [*self._lines]
                self._lines.clear()
                self._bytes, self._writing = 0, True
            # One write for all that waited: a burst costs a few system calls.
            if not self._written(b"".join(lines)):
                with self._changed:
                    self._dropped += len(lines)
            elif self._dropped > self._told:
                self._tell_dropped()

    def _written(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                # Somebody else has made the shared file non-blocking.
                with contextlib.suppress(OSError, ValueError):
                    select.select([], [self._descriptor], [], 1.0)
            except OSError:
                return False
        return True

    def _tell_dropped(self) -> None:
        dropped = self._dropped
        text = "log lines were dropped: they were not taken in time"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
        record.dropped = dropped - self._told
        with contextlib.suppress(Exception):
            line = self.format(record).rstrip("\n")
            if self._written(f"{line}\n".encode()):
                self._told = dropped

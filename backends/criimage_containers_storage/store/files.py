"""Tells whether a store's files of records are those that were read, with as few system calls as prove it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["FileIdentity", "RecordsFile", "Seen"]

FileIdentity = tuple[int, int, int, int, bytes] | None
"""Inode, times of content and inode in ns, size, and the last writer's token; None: there is no file."""

# A token takes 64 bytes (L6).
_TOKEN_LIMIT = 64

_TICK = 3 * 10**9
"""Nanoseconds within which two changes may have one time: ticks are milliseconds, but seconds on some file systems."""


class RecordsFile:
    """One file of records, and the lock file beside it."""

    __slots__ = ("_lock", "path")

    def __init__(self, file: Path) -> None:
        self.path = str(file)
        self._lock = str(file.with_suffix(".lock"))

    def identity(self) -> FileIdentity:
        """Return what changes whenever the file does.

        Inode, times and size repeat where a tool writes twice within a tick of the kernel's clock; the last writer's
        token in the lock file does not (L6). lstat, because the tools replace these files and never link them.
        """
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return 0, 0, 0, 0, str(error.errno).encode()
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size, self.token()

    def token(self) -> bytes:
        """Return the last writer's token. The lock file is only read: closing it drops no lock, as we hold none."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.read(descriptor, _TOKEN_LIMIT)
        except OSError:
            return b""
        finally:
            os.close(descriptor)


class Seen:
    """What files were when they were read; to be asked by one thread at a time.

    Args:
        files: to look at now, before they are read: what is written meanwhile is a change.
    """

    __slots__ = ("_files",)

    def __init__(self, files: Iterable[RecordsFile]) -> None:
        self._files = [_SeenFile(file) for file in files]

    def unchanged(self) -> bool:
        """Tell whether each of them is still what it was. Blocks for microseconds."""
        for file in self._files:  # noqa: SIM110 - hot: no generator
            if not file.unchanged():
                return False
        return True


class _SeenFile:
    """One of them.

    A file whose inode last changed more than a tick before it was found to be what was read has another time after
    every later change, so that one lstat proves that there was none. Until then the token is compared as well.
    """

    __slots__ = ("_file", "_identity", "_path", "_status", "_token_needed")

    def __init__(self, file: RecordsFile) -> None:
        now = time.time_ns()
        self._file, self._path = file, file.path
        self._identity = file.identity()
        self._status = None if self._identity is None else self._identity[:4]
        self._token_needed = not self._is_old(now)

    def unchanged(self) -> bool:
        if self._token_needed:
            now = time.time_ns()
            if self._file.identity() != self._identity:
                return False
            self._token_needed = not self._is_old(now)
            return True
        try:
            found = os.lstat(self._path)
        except OSError:
            return False
        return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size) == self._status

    def _is_old(self, now: int) -> bool:
        # An identity without an inode is that of no file.
        status = self._status
        return status is not None and status[0] > 0 and status[2] + _TICK < now

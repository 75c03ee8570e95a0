"""What a folder takes on disk, for `Backend.usage` of a store that lies in one."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from criimage.backend import FilesystemUsage, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from threading import Event

__all__ = ["Stopped", "folder_usage", "measure_folder"]

_BLOCK = 512
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What a process can have too many of says nothing about a folder."""


class Stopped(Exception):
    """Nobody waits for the figures any more."""


def folder_usage(folder: Path) -> Usage:
    """Return what a folder and all in it take, as the usage of images and of containers. Blocks.

    A store with many files measures in the background and answers what it knows: usage is asked for often.
    """
    used, files = measure_folder(folder)
    usage = (FilesystemUsage(str(folder), used, files, time.time_ns()),)
    return Usage(usage, usage)


def measure_folder(folder: Path, stop: Event | None = None) -> tuple[int, int]:
    """Return the bytes on disk and the number of files of a folder and all in it, on its own file system. Blocks.

    What vanishes meanwhile, and what this user may not look at, is not counted. Files with several names count once;
    other file systems mounted inside are left out (a mounted layer would count twice).

    Raises:
        Stopped: `stop` was set.
        OSError: this process has no descriptor or no memory left for it: the folder is not empty for that.
    """
    try:
        own = folder.lstat()
    except OSError:
        return 0, 0
    total, files = own.st_blocks * _BLOCK, 1
    linked: set[int] = set()
    waiting = [str(folder)] if stat.S_ISDIR(own.st_mode) else []
    while waiting:
        if stop is not None and stop.is_set():
            raise Stopped
        for found in _stats(waiting.pop(), waiting, own.st_dev):
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                if found.st_ino in linked:
                    continue
                linked.add(found.st_ino)
            total += found.st_blocks * _BLOCK
            files += 1
    return total, files


def _stats(folder: str, waiting: list[str], device: int) -> Iterator[os.stat_result]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if found.st_dev != device:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(entry.path)
                yield found
    except OSError as error:
        if error.errno in _OURS:
            raise

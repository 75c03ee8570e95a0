"""A folder of our own for downloads, and the sweep of those that a killed server left behind (cri-o T14)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import structlog

from criimage.files import UnreadableFile, entries_of
from criimage_containers_storage.finishing import finish, settled
from criimage_containers_storage.pulling.orphans import end_orphans

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["WorkFolder", "lock_folder"]

_log = structlog.get_logger(__name__)

_PREFIX = "criimage-work-"
_ATTEMPTS = 10


class WorkFolder:
    """A folder that only we can read, with one for each pull in it.

    The folder itself is locked as long as we live: another server's sweep goes by that, and so does systemd-tmpfiles
    (14). Whoever takes it away all the same does no lasting harm: it is made again.

    Args:
        parent: an existing folder; what servers that live no more have left there is deleted first.
        layout: the store.

    Raises:
        OSError: `parent` is not there or not writable.
    """

    def __init__(self, parent: Path, layout: Layout) -> None:
        self._making = threading.Lock()
        unseen = _sweep(parent, layout)
        for _ in range(_ATTEMPTS):
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            lock = lock_folder(self.path)
            if lock is not None:
                self._lock = lock
                if unseen:
                    _log.warning("what an earlier server left cannot be looked at", error=unseen)
                return
        raise BlockingIOError(f"somebody takes every new folder in {parent}")

    def close(self) -> None:
        """Delete it with all that is in it. Blocks."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    @contextlib.asynccontextmanager
    async def for_one_pull(self) -> AsyncIterator[Path]:
        """Yield a new folder in ours, gone afterwards with all that is in it.

        Raises:
            OSError: no space, or nothing can be made there any more.
        """
        made = asyncio.create_task(anyio.to_thread.run_sync(self._make))
        # Cancelled in the middle, the thread would make the folder all the same and nobody would know its name.
        cancelled = await settled(made)
        path = made.result()
        try:
            if cancelled:
                raise asyncio.CancelledError
            yield path
        finally:
            await finish(anyio.to_thread.run_sync(_remove, path))

    def _make(self) -> Path:
        try:
            return Path(tempfile.mkdtemp(prefix="pull-", dir=self.path))
        except FileNotFoundError:
            with self._making:
                self._make_again()
            return Path(tempfile.mkdtemp(prefix="pull-", dir=self.path))

    def _make_again(self) -> None:
        try:
            self.path.mkdir(0o700, parents=True)
        except FileExistsError:
            return
        lock = lock_folder(self.path)
        if lock is not None:
            os.close(self._lock)
            self._lock = lock


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _sweep(parent: Path, layout: Layout) -> str:
    """Delete what dead servers have left, and return why that cannot be looked at; empty if it can."""
    try:
        folders = entries_of(parent, _PREFIX)
    except UnreadableFile as error:
        return error.text
    for folder in folders:
        with contextlib.suppress(OSError):
            # The parent may be open to everyone: only what is our own is touched, and rmtree follows no link.
            if folder.lstat().st_uid != os.geteuid() or (lock := lock_folder(folder)) is None:
                continue
            try:
                end_orphans(folder, layout)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
    return ""


def lock_folder(folder: Path) -> int | None:
    """Lock a folder for as long as the returned descriptor is open; None if somebody has it, or it is gone. Blocks."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between its making and its locking another server's sweep may have had it.
        if folder.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None

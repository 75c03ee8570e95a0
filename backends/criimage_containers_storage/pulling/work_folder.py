"""A folder of our own for downloads, and the sweep of those that a killed server left behind (cri-o T14)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from criimage_containers_storage.finishing import finish, settled
from criimage_containers_storage.pulling.journal import copied_blobs, copied_file, left_behind
from criimage_containers_storage.pulling.orphans import end_orphans

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

__all__ = ["for_one_pull", "work_folder"]

_PREFIX = "criimage-work-"
_LOCK = "lock"


@contextlib.contextmanager
def work_folder(parent: Path, left: dict[str, float] | None = None) -> Iterator[Path]:
    """Yield a new folder below `parent` that only we can read; it is gone afterwards. Blocks.

    A lock file in it is held as long as we live, so that another server's sweep knows. Folders whose owner is gone are
    deleted first.

    Args:
        parent: an existing folder.
        left: takes what those folders tell, see `copied.left_behind`.

    Raises:
        OSError: `parent` is not there or not writable.
    """
    _sweep(parent, left)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        with (folder / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path, left: dict[str, float] | None) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            # The parent may be open to everyone: only what is our own is touched, and rmtree follows no link.
            if folder.lstat().st_uid == os.geteuid() and not folder.is_symlink() and _abandoned(folder / _LOCK):
                end_orphans(folder)
                if left is not None:
                    left |= left_behind(folder)
                shutil.rmtree(folder, ignore_errors=True)


def _abandoned(lock: Path) -> bool:
    # Without a lock file it is about to be made, by somebody who lives.
    descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextlib.asynccontextmanager
async def for_one_pull(folder: Path, failed: Callable[[set[str]], None]) -> AsyncIterator[Path]:
    """Yield a new folder in ours, gone afterwards with all that is in it.

    Args:
        folder: ours.
        failed: told, in a thread, which layers a pull has touched that raised.

    Raises:
        OSError: no space, or our folder was taken away.
    """
    made = asyncio.create_task(anyio.to_thread.run_sync(_make, folder))
    # Cancelled in the middle, the thread would make the folder all the same and nobody would know its name.
    cancelled = await settled(made)
    path = made.result()
    complete = False
    try:
        if cancelled:
            raise asyncio.CancelledError
        yield path
        complete = True
    finally:
        await finish(anyio.to_thread.run_sync(_remove, path, None if complete else failed))


def _make(folder: Path) -> Path:
    path = Path(tempfile.mkdtemp(prefix="pull-", dir=folder))
    try:
        copied_file(path).touch()
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def _remove(path: Path, failed: Callable[[set[str]], None] | None) -> None:
    blobs = copied_blobs(path) if failed is not None else set()
    if failed is not None and blobs:
        failed(blobs)
    shutil.rmtree(path, ignore_errors=True)

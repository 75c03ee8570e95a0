"""A file system with little space."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from parts.missing import need_root
from parts.store import unmount_below

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system in memory with little space."""
    need_root()
    folder = Path(tempfile.mkdtemp(prefix="criimage-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        unmount_below(folder)
        folder.rmdir()


def fill(folder: Path) -> None:
    """Leaves no space on it for as much as an empty folder; `enlarge` with `files` makes some."""
    # One for the root of the file system itself.
    used = sum(1 for _ in folder.rglob("*")) + 1
    subprocess.run(["mount", "-o", f"remount,nr_inodes={used}", str(folder)], check=True)


def enlarge(folder: Path, megabytes: int, *, files: int = 10_000) -> None:
    """Makes space on it."""
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m,nr_inodes={files}", str(folder)], check=True)

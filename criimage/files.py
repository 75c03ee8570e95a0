"""One way to ask for a file: it is there, it is not, or nobody can tell, and the last is never taken for the second.

`Path.exists()` answers False for a file in a folder that may not be searched, on Python 3.14 whatever the reason; a
policy or a settings file that cannot be read would then count as one that was never written.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from criimage.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "SIZE_LIMIT",
    "UnreadableFile",
    "entries_of",
    "files_in",
    "is_folder",
    "is_link",
    "is_there",
    "read",
    "read_if_there",
    "unfit_place",
]

SIZE_LIMIT = 16 * 1024 * 1024
"""Bytes of a file that is read whole."""

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
_KERNELS_OWN = frozenset(
    (
        *("proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "selinuxfs", "pstore", "bpf"),
        *("configfs", "efivarfs", "fusectl", "mqueue", "devpts", "binfmt_misc", "nsfs", "rpc_pipefs", "nfsd"),
    )
)
"""Types of file system that show what the kernel has: nobody can put a file or a socket there."""
_PIECE = 1024 * 1024


class UnreadableFile(ConfigurationError):
    """There is something at a path, or may be, and it cannot be read as a file.

    Attributes:
        path: of the file or folder.
        absent: there is nothing at all: only told by calls that need the file.
    """

    def __init__(self, path: Path, reason: str, *, absent: bool = False) -> None:
        super().__init__(f"cannot read {path}: {reason}")
        self.path = path
        self.absent = absent


def is_there(path: Path) -> bool:
    """Tell whether there is something at `path`; a link without a target is nothing. Blocks.

    Raises:
        UnreadableFile: it cannot be told.
    """
    return _mode(path) is not None


def is_folder(path: Path) -> bool:
    """Tell whether there is a folder at `path`, or a link to one. Blocks.

    Raises:
        UnreadableFile: it cannot be told.
    """
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_link(path: Path) -> bool:
    """Tell whether there is a symbolic link at `path`, wherever it leads. Blocks.

    Raises:
        UnreadableFile: it cannot be told.
    """
    mode = _mode(path, follow=False)
    return mode is not None and stat.S_ISLNK(mode)


def read(path: Path, *, limit: int = SIZE_LIMIT, pipe: bool = False) -> bytes:
    """Return the content of a file that must be there. Blocks.

    Args:
        path: of a regular file or a device.
        limit: bytes it may have.
        pipe: whether a pipe is waited for, as a user names one by `<(...)`.

    Raises:
        UnreadableFile: it is not there (`absent`), cannot be read, is larger, or is a folder, a socket or a pipe.
    """
    try:
        # Nobody may be at the other end of a pipe: opening one must not wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if pipe else os.O_NONBLOCK))
        try:
            _refuse_other_kinds(path, os.fstat(descriptor).st_mode, pipe=pipe)
            content = bytearray()
            while piece := os.read(descriptor, min(_PIECE, limit + 1 - len(content))):
                content += piece
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > limit:
        raise UnreadableFile(path, f"it is larger than {limit} bytes")
    return bytes(content)


def read_if_there(path: Path, *, limit: int = SIZE_LIMIT) -> bytes | None:
    """Return the content of a file, or None if there is none. Blocks.

    Raises:
        UnreadableFile: as `read`, but for a file that is not there.
    """
    try:
        return read(path, limit=limit)
    except UnreadableFile as error:
        if error.absent:
            return None
        raise


def entries_of(folder: Path, prefix: str = "") -> tuple[Path, ...]:
    """Return all that is in a folder, in the order of the names; none if there is no folder. Blocks.

    Args:
        folder: a folder, or a link to one.
        prefix: which names are wanted: those that begin so.

    Raises:
        UnreadableFile: it cannot be looked at.
    """
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - see _mode
    except OSError as error:
        if error.errno in _ABSENT:
            return ()
        raise _unreadable(folder, error) from error
    return tuple(folder / name for name in names if name.startswith(prefix))


def files_in(folder: Path, suffix: str) -> tuple[Path, ...]:
    """Return the files of a folder whose names end so, in the order of their names; none if there is no folder. Blocks.

    Links count as what they lead to; one that leads nowhere is left out.

    Raises:
        UnreadableFile: the folder or one of these files cannot be looked at.
    """
    return tuple(_files_in(folder, suffix))


def unfit_place(path: Path) -> str:
    """Return why nobody can make a file at `path`, whoever asks; the empty text if somebody may. Blocks for moments.

    Nothing is made to find out. It goes by the file system of the deepest folder on the way that is there.
    """
    for place in (path, *path.parents):
        try:
            device = os.stat(place).st_dev  # noqa: PTH116 - see _mode
            if os.statvfs(place).f_flag & os.ST_RDONLY:
                return f"{place} is on a file system that is mounted read-only"
        except OSError as error:
            if error.errno in _ABSENT:
                continue
            return ""
        kind = _file_system(device)
        return f"{place} is on the file system {kind}, which is the kernel's own" if kind in _KERNELS_OWN else ""
    return ""


def _file_system(device: int) -> str:
    """Return the type of the file system with this number, as `proc`; empty if it cannot be told."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:  # noqa: PTH123
            for line in mounts:
                before, _, after = line.partition(" - ")
                if before.split()[2:3] == [f"{os.major(device)}:{os.minor(device)}"]:
                    return after.split()[0]
    except (OSError, IndexError):
        pass
    return ""


def _files_in(folder: Path, suffix: str) -> Iterator[Path]:
    for path in entries_of(folder):
        if path.name.endswith(suffix) and (mode := _mode(path)) is not None and not stat.S_ISDIR(mode):
            yield path


def _mode(path: Path, *, follow: bool = True) -> int | None:
    """Return the mode of what is at `path`, None if nothing is."""
    try:
        # The Path method may swallow what went wrong one day, as exists() does.
        return os.stat(path, follow_symlinks=follow).st_mode  # noqa: PTH116
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise _unreadable(path, error) from error


def _refuse_other_kinds(path: Path, mode: int, *, pipe: bool) -> None:
    if stat.S_ISDIR(mode):
        raise UnreadableFile(path, "it is a folder")
    if stat.S_ISFIFO(mode) and not pipe:
        raise UnreadableFile(path, "it is a pipe")


def _unreadable(path: Path, error: OSError) -> UnreadableFile:
    return UnreadableFile(path, error.strerror or type(error).__name__, absent=error.errno in _ABSENT)

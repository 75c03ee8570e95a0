"""Whether other tools are at work on a store now (cri-o 14).

A tool that copies counts on layers and writes a record before its name without telling anybody: what it counts on can
be seen in no file. So it is looked for among the processes: who has or waits for one of the store's locks, and who was
started to work on it. CRI-O copies in its own process; it is seen by the file that it downloads into. What cannot be
told from a tool on another store counts as one on this.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["LockUse", "lock_use", "other_tools"]

_PROC = Path("/proc")
_TOOLS = frozenset({"skopeo", "podman", "buildah", "containers-storage", "containers-stor"})
_DAEMONS = frozenset({"crio"})
_DOWNLOAD = re.compile(r"/(?:container_images_)?storage\d+/\d+$")
_ROOT_FLAGS = ("--root", "-g", "--graph")


class LockUse:
    """Who has a store's locks for writing, and who waits for one, by process; 0 or less is one that cannot be seen.

    Attributes:
        writers: have one.
        waiting: wait for one.
    """

    def __init__(self) -> None:
        self.writers: set[int] = set()
        self.waiting: set[int] = set()


def lock_use(layout: Layout) -> LockUse:
    """Return who has the store's locks or waits for them, as the kernel tells (L5). Blocks on some small files."""
    files: dict[str, set[int]] = {}
    kinds = ("images", "layers", "containers")
    for root, kind in itertools.product(layout.writable_roots, kinds):
        with contextlib.suppress(OSError):
            found = (root / f"{layout.driver}-{kind}" / f"{kind}.lock").stat()
            files.setdefault(str(found.st_ino), set()).add(found.st_dev)
    use = LockUse()
    with contextlib.suppress(OSError):
        for line in (_PROC / "locks").read_text("ascii", "replace").splitlines():
            waits = " -> " in line
            fields = line.replace("-> ", "").split()
            if len(fields) > 5 and _is_among(fields[5], files):
                if waits:
                    use.waiting.add(int(fields[4]))
                elif fields[3] == "WRITE":
                    use.writers.add(int(fields[4]))
    return use


def _is_among(shown: str, files: Mapping[str, Collection[int]]) -> bool:
    """Tell whether a file as /proc/locks shows it is one of these: devices by inode.

    A file system that is on no device of its own may have a number there and another one in each of its parts (btrfs):
    then the inode alone tells.
    """
    device, _, inode = shown.rpartition(":")
    if inode not in files:
        return False
    major, _, minor = device.partition(":")
    number = os.makedev(int(major, 16), int(minor, 16))
    return any(one == number or os.major(one) == os.major(number) == 0 for one in files[inode])


def other_tools(layout: Layout, ours: Collection[int]) -> list[str]:
    """Return the other tools that are or may be at work on this store now. Blocks on many small files.

    Args:
        layout: the store.
        ours: groups of processes that are not meant.
    """
    groups = dict(_groups())
    use = lock_use(layout)
    holders = {one for one in use.writers | use.waiting if groups.get(one) not in ours}
    found = [f"process {one}" for one in holders]
    for process, group in groups.items():
        if process in holders or group in ours:
            continue
        with contextlib.suppress(OSError):
            name = (_PROC / str(process) / "comm").read_text("utf-8", "replace").strip()
            if (name in _TOOLS and _may_use(process, layout)) or (name in _DAEMONS and _downloads(process)):
                found.append(f"{name} {process}")
    return found


def _groups() -> Iterator[tuple[int, int]]:
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = (folder / "stat").read_text("ascii", "replace")
            state, _, group = stat.rpartition(")")[2].split()[:3]
            if state != "Z":
                yield int(folder.name), int(group)


def _may_use(process: int, layout: Layout) -> bool:
    arguments = os.fsdecode((_PROC / str(process) / "cmdline").read_bytes()).split("\0")
    if Path(arguments[0]).name == "skopeo" and not any("containers-storage:" in one for one in arguments):
        return False
    for number, argument in enumerate(arguments):
        root = ""
        if "containers-storage:[" in argument:
            root = argument.partition("[")[2].partition("]")[0].partition("@")[2].partition("+")[0]
        elif argument in _ROOT_FLAGS:
            root = arguments[number + 1] if number + 1 < len(arguments) else ""
        elif argument.startswith("--root="):
            root = argument.partition("=")[2]
        if root:
            return _is_root(root, process, layout)
    return True  # it has its store from a file


def _is_root(root: str, process: int, layout: Layout) -> bool:
    """Tell whether a process means this store by a path: by what is there, which links and mounts call otherwise."""
    there = _PROC / str(process) / ("root" if root.startswith("/") else "cwd") / root.lstrip("/")
    try:
        found = there.stat()
        return any((one.st_dev, one.st_ino) == (found.st_dev, found.st_ino) for one in _roots(layout))
    except OSError:
        # It is not ours to look at, or there is nothing yet.
        return os.path.realpath(root) in {os.path.realpath(one) for one in layout.writable_roots}


def _roots(layout: Layout) -> Iterator[os.stat_result]:
    for root in layout.writable_roots:
        yield root.stat()


def _downloads(process: int) -> bool:
    for entry in (_PROC / str(process) / "fd").iterdir():
        with contextlib.suppress(OSError):
            if _DOWNLOAD.search(str(entry.readlink())):
                return True
    return False

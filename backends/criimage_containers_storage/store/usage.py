"""True disk usage of the images, known at once (cri-o F1-F3).

What a complete layer takes does not change, so each is measured once; a later round looks at new layers and at the
small files only.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from criimage.backend import FilesystemUsage
from criimage.disk_usage import Stopped, measure_folder
from criimage.errors import OperationFailed
from criimage.files import UnreadableFile, is_folder
from criimage_containers_storage.finishing import settled
from criimage_containers_storage.store.in_use import container_files, layer_files, read_strictly
from criimage_containers_storage.store.records import read_layers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from criimage_containers_storage.store.reader import Store
    from criimage_containers_storage.store.snapshot import Snapshot
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["UsageMeter"]

_log = structlog.get_logger(__name__)

_PATIENCE = 0.03
_FRESH_SECONDS = 1.0
_PART, _LONGEST = 20, 30.0
"""An unchanged store is measured again after so many times what measuring takes, but after so many seconds."""

_SHARING = frozenset({"btrfs", "zfs"})
"""Drivers whose layers are snapshots, each a file system of its own to whoever looks, and share what they have with the
ones below: what they take on disk no walk can tell."""

Amount = tuple[int, int]
"""Bytes on disk and number of files."""


@dataclass(frozen=True, slots=True)
class _Measured:
    bytes: int
    files: int | None
    at: int


class UsageMeter:
    """Measures one writable store in the background and answers from what it knows.

    The answer counts the blocks of the driver's folder and of the layer and image records, without the containers' own
    layers. While the first round of a large store is not finished, and for drivers whose layers are snapshots, it is
    the sum of the sizes in the records, with no number of files.
    """

    def __init__(self, layout: Layout, store: Store) -> None:
        self._layout = layout
        self._store = store
        self._known: dict[tuple[str, int], Amount] = {}
        self._measured: _Measured | None = None
        self._started = 0.0
        self._seen: Snapshot | None = None
        self._mounted: tuple[Snapshot | None, str] = (None, "")
        self._round: asyncio.Task[None] | None = None
        self._took = 0.0
        self._stop = threading.Event()

    async def usage(self) -> FilesystemUsage:
        """Return the figures; waits some milliseconds at most for new ones, and only if they can be there by then."""
        snapshot = await self._store.snapshot()
        fresh = min(max(_FRESH_SECONDS, _PART * self._took), _LONGEST)
        stale = snapshot is not self._seen or time.monotonic() - self._started > fresh
        if self._round is None and stale:
            self._started = time.monotonic()
            self._seen = snapshot
            self._round = asyncio.create_task(self._measure())
        if self._round is not None and self._took <= _PATIENCE:
            await asyncio.wait({self._round}, timeout=_PATIENCE)
        if snapshot is not self._mounted[0]:
            # Clients look at the mount point; a new store has none yet, and looking makes none.
            mountpoint = _there(self._layout.images_folder)
            # A folder that has images stays as long as the files in it are as they were.
            stays = bool(snapshot.images) and mountpoint == str(self._layout.images_folder)
            self._mounted = (snapshot if stays else None), mountpoint
        mountpoint = self._mounted[1]
        if self._measured is None:
            return FilesystemUsage(mountpoint, snapshot.data_size, None, time.time_ns())
        return FilesystemUsage(mountpoint, self._measured.bytes, self._measured.files, self._measured.at)

    async def containers(self) -> FilesystemUsage | None:
        """Return what the containers' folder of a split store takes, as CRI-O measures it (F1); None: not split.

        Raises:
            OperationFailed: it cannot be measured now.
        """
        if self._layout.image_store is None:
            return None
        folder = self._layout.root / f"{self._layout.driver}-containers"
        try:
            total, files = await anyio.to_thread.run_sync(measure_folder, folder, self._stop)
        except OSError as error:
            raise OperationFailed(f"the disk usage cannot be measured now: {error.strerror}") from error
        return FilesystemUsage(_there(folder), total, files, time.time_ns())

    async def close(self) -> None:
        """Stop a round that is running."""
        self._stop.set()
        if self._round is not None:
            await settled(self._round)

    async def _measure(self) -> None:
        began = time.monotonic()
        try:
            self._measured = await anyio.to_thread.run_sync(self._walk)
            self._took = time.monotonic() - began
        except Stopped:
            pass
        except (OperationFailed, OSError) as error:
            # The figures stay as they were: a layer that is taken for an empty one now would be one for good.
            _log.warning("the disk usage cannot be measured now", error=str(error))
        finally:
            self._round = None

    def _walk(self) -> _Measured:
        at = time.time_ns()
        driver = self._layout.driver
        complete, containers = _complete_and_containers(self._layout)
        known: dict[tuple[str, int], Amount] = {}
        total, files = 0, 0
        for root in self._layout.writable_roots:
            layer_folder = root / driver / "dir" if driver == "vfs" else root / driver
            for folder in (root / f"{driver}-layers", root / f"{driver}-images"):
                total, files = _plus((total, files), measure_folder(folder, self._stop))
            if driver in _SHARING:
                continue
            for name, inode in _entries(layer_folder):
                # Newer tools move what they delete into folders of that name first.
                if name in containers or name.startswith("temp-dir-") or name == "tempdirs":
                    continue
                amount = self._known.get((name, inode)) or measure_folder(layer_folder / name, self._stop)
                if name in complete:
                    known[name, inode] = amount
                total, files = _plus((total, files), amount)
        self._known = known
        if driver in _SHARING:
            return _Measured(total + _recorded(self._layout), None, at)
        return _Measured(total, files, at)


def _there(folder: Path) -> str:
    """Return the folder, or the nearest above it; one that cannot be looked at is not taken for missing."""
    for one in (folder, *folder.parents):
        try:
            if is_folder(one):
                return str(one)
        except UnreadableFile:
            return str(one)
    raise AssertionError


def _complete_and_containers(layout: Layout) -> tuple[set[str], set[str]]:
    """Return the layers that are complete, and those that belong to a container of whichever tool (14).

    Raises:
        OperationFailed: a file cannot be read; the figures stay as they were.
    """
    lasting, *volatile = layer_files(layout)
    complete = {
        name
        for name, layer in read_layers(read_strictly(lasting)).items()
        # A layer without a digest may be a writable one.
        if layer.diff_digest and not layer.incomplete
    }
    own = set().union(*(read_layers(read_strictly(file)) for file in volatile))
    for file in container_files(layout):
        own.update(str(entry.get("layer")) for entry in read_strictly(file))
    return complete, own


def _recorded(layout: Layout) -> int:
    """Return the sizes of all complete layers, as the records have them."""
    layers = read_layers(read_strictly(layer_files(layout)[0])).values()
    return sum(layer.size or 0 for layer in layers if not layer.incomplete)


def _plus(one: Amount, other: Amount) -> Amount:
    return one[0] + other[0], one[1] + other[1]


def _entries(folder: Path) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.name, entry.inode()
    except FileNotFoundError:
        return

"""What the images take on disk (F1-F6)."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from criimage.backend import FilesystemUsage, Usage
from criimage.errors import BackendUnavailable, CriimageError, OperationFailed
from criimage_docker.engine.answers import Refusal
from criimage_docker.engine.words import refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage_docker.engine.api import Engine
    from criimage_docker.view.snapshot import Snapshot
    from criimage_docker.view.view import View

__all__ = ["UsageMeter", "image_bytes"]

_FRESH_SECONDS = 5.0
_PATIENCE = 0.05
_FIRST_PATIENCE = 2.0
# The engine's account takes it a second or more on a large machine: it may work on it a tenth of the time.
_SHARE = 10.0


@dataclass(frozen=True, slots=True)
class _Measured:
    usage: FilesystemUsage
    snapshot: Snapshot
    until: float


class UsageMeter:
    """Asks the engine for its account in the background, one question at a time, and answers from the last one.

    Args:
        engine: keeps the account.
        view: tells when images have changed.
        mountpoint: what to name instead of the engine's own folder, or empty.
    """

    def __init__(self, engine: Engine, view: View, mountpoint: str) -> None:
        self._engine = engine
        self._view = view
        self._mountpoint = mountpoint
        self._last: _Measured | None = None
        self._round: asyncio.Task[_Measured] | None = None

    async def usage(self) -> Usage:
        """Return the figures; waits for new ones only a moment, unless there are none yet.

        Raises:
            BackendUnavailable: the engine does not answer.
            OperationFailed: the engine cannot tell, and never could.
        """
        snapshot = await self._view.snapshot()
        last = self._last
        if last is not None and last.snapshot is snapshot and time.monotonic() < last.until:
            return _both(last.usage)
        if self._round is None:
            self._round = asyncio.get_running_loop().create_task(self._measure(snapshot), name="ask for disk usage")
        current = self._round
        await asyncio.wait({current}, timeout=_FIRST_PATIENCE if last is None else _PATIENCE)
        if current.done():
            # Whoever comes first takes it over; another round may be under way when the others get here.
            first = self._round is current
            if first:
                self._round = None
            try:
                last = current.result()
            except CriimageError as error:
                if last is None:
                    raise error.for_another_waiter() from error
            else:
                self._last = last if first else self._last
        if last is None:
            # Too much rather than too little: images may share layers.
            root = await self._root()
            total = sum(image.size for image in snapshot.images)
            return _both(FilesystemUsage(root, total, None, time.time_ns()))
        return _both(last.usage)

    async def close(self) -> None:
        """Stop asking."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait({self._round})

    async def _measure(self, snapshot: Snapshot) -> _Measured:
        began = time.monotonic()
        root = await self._root()
        at = time.time_ns()
        try:
            account = await self._engine.disk_usage()
        except Refusal as refusal:
            # Somebody else is asking, and before API 1.42 only one may (F5).
            if self._last is None:
                raise refused(refusal, "tell its disk usage") from refusal
            return replace(self._last, until=time.monotonic() + _FRESH_SECONDS)
        took = time.monotonic() - began
        used = image_bytes(account)
        inodes = await anyio.to_thread.run_sync(_inodes, root) if self._engine.address.local else None
        usage = FilesystemUsage(root, used, inodes, at)
        return _Measured(usage, snapshot, time.monotonic() + max(_FRESH_SECONDS, _SHARE * took))

    async def _root(self) -> str:
        if self._mountpoint:
            return self._mountpoint
        try:
            root = (await self._engine.info()).get("DockerRootDir")
        except Refusal as refusal:
            raise refused(refusal, "describe itself") from refusal
        if not isinstance(root, str) or not root.startswith("/"):
            raise OperationFailed("the Docker engine does not tell where it keeps its data")
        return root


def image_bytes(account: Mapping[str, Any]) -> int:
    """Return the bytes of all layers, each counted once, from the engine's account of its disk (F5, F6).

    Raises:
        BackendUnavailable: the account has no such figure.
    """
    # API 1.53 has the second in place of the first (docs).
    images = account.get("ImagesUsage")
    newer = images.get("TotalSize") if isinstance(images, dict) else None
    for found in (newer, account.get("LayersSize")):
        if isinstance(found, int) and found >= 0:
            return found
    raise BackendUnavailable("the Docker engine does not tell its disk usage")


def _inodes(root: str) -> int | None:
    """Return the inodes in use on the whole file system, as cri-dockerd does (F2). Blocks."""
    try:
        found = os.statvfs(root)
    except OSError:
        return None
    return found.f_files - found.f_ffree if found.f_files else None


def _both(usage: FilesystemUsage) -> Usage:
    # A kubelet stops collecting garbage where the list for containers is empty (F4).
    return Usage((usage,), (usage,))

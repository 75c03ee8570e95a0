"""How far a copy is, from the files it writes and the work it does (cri-o T13)."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import structlog

from criimage.backend import Phase, PullProgress
from criimage.errors import CriimageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from criimage.backend import ProgressReporter

__all__ = ["Watch"]

_log = structlog.get_logger(__name__)

_SECONDS = 0.25
_WORTH_ASKING_SECONDS = 1.5


class Watch:
    """Watches one pull, through several runs of skopeo if need be, and tells what it sees."""

    def __init__(self, report: ProgressReporter) -> None:
        self._report = report
        self._last = PullProgress()
        self._process = 0
        self._sizes: list[int] | None = None

    def started(self, process: int) -> None:
        """Take notice of skopeo's process ID."""
        self._process = process

    def tell(self, phase: Phase) -> None:
        """Report a phase; the numbers stay."""
        self._last = replace(self._last, phase=phase)
        self._report(self._last)

    async def run(self, folder: Path, ask_sizes: Callable[[], Awaitable[list[int] | None]]) -> None:
        """Look and report until cancelled.

        Args:
            folder: skopeo's own folder for downloads: each layer becomes a file `storage*/N` as it arrives.
            ask_sizes: returns the compressed sizes of the layers to fetch; asked once, if the pull takes a while.
        """
        began = time.monotonic()
        asking: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(_SECONDS)
                if asking is None and self._sizes is None and time.monotonic() - began > _WORTH_ASKING_SECONDS:
                    asking = asyncio.create_task(self._ask(ask_sizes))
                arrived, written = await anyio.to_thread.run_sync(_look, folder, self._process)
                self._see(arrived, written)
        finally:
            if asking is not None:
                asking.cancel()
                await asyncio.wait({asking})

    async def _ask(self, ask_sizes: Callable[[], Awaitable[list[int] | None]]) -> None:
        try:
            self._sizes = await ask_sizes()
        except (CriimageError, OSError) as error:
            _log.debug("the size of a pull is not known", error=str(error))

    def _see(self, arrived: list[int], written: int) -> None:
        last = self._last
        total = sum(arrived)
        # What is unpacked is written too, but arrives nowhere.
        unpacks = written > last.activity and total <= last.bytes_done and total > 0
        done = max(last.bytes_done, total)
        seen = replace(
            last,
            phase=Phase.UNPACKING if unpacks else Phase.DOWNLOADING,
            bytes_done=done,
            activity=max(last.activity, written),
        )
        if self._sizes is not None:
            # A layer that is complete has its promised size.
            complete = (collections.Counter(arrived) & collections.Counter(self._sizes)).total()
            seen = replace(
                seen,
                bytes_total=max(done, sum(self._sizes)),
                layers_done=max(last.layers_done, complete),
                layers_total=len(self._sizes),
            )
        self._last = seen
        self._report(seen)


def _look(folder: Path, process: int) -> tuple[list[int], int]:
    return [_size(file) for file in folder.glob("*/*")], sum(map(_written, _family(process)))


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:
        return 0


def _family(process: int) -> Iterable[int]:
    # The unpacking itself is done by a child on some drivers.
    if not process:
        return []
    found = [process]
    with contextlib.suppress(OSError, ValueError):
        for task in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (task / "children").read_text("ascii").split())
    return found


def _written(process: int) -> int:
    # Bytes given to write(): a file system in memory counts as well, unlike with write_bytes. While skopeo waits for a
    # registry the number stands still.
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{process}/io").read_text("ascii").splitlines():
            if line.startswith("wchar:"):
                return int(line.split()[1])
    return 0

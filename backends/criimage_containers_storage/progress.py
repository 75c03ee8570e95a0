"""How far a copy is, from the files it writes and the work it does (cri-o T13)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from criimage.backend import Phase, PullProgress

if TYPE_CHECKING:
    from criimage.backend import ProgressReporter

__all__ = ["Watch"]

_SECONDS = 0.25


@dataclass(slots=True)
class Watch:
    """Watches one running skopeo.

    Attributes:
        folder: skopeo's own folder for downloads: each layer becomes a file `storage*/N` as it arrives.
        report: told what is seen.
        process: skopeo's process ID once it runs.
    """

    folder: Path
    report: ProgressReporter
    process: int = 0
    _bytes: int = 0
    _activity: int = 0

    async def run(self) -> None:
        """Look and report until cancelled."""
        while True:
            await anyio.sleep(_SECONDS)
            arrived, written = await anyio.to_thread.run_sync(self._look)
            # What is unpacked is written too, but arrives nowhere.
            grows, works = arrived > self._bytes, written > self._activity
            phase = Phase.UNPACKING if works and not grows and arrived else Phase.DOWNLOADING
            self._bytes, self._activity = max(self._bytes, arrived), max(self._activity, written)
            self.report(PullProgress(phase, self._bytes, activity=self._activity))

    def _look(self) -> tuple[int, int]:
        return sum(map(_size, self.folder.glob("*/*"))), sum(map(_written, _family(self.process)))


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:
        return 0


def _family(process: int) -> list[int]:
    # The unpacking itself is done by a child on some drivers.
    if not process:
        return []
    found = [process]
    with contextlib.suppress(OSError, ValueError):
        for task in Path(f"/proc/{process}/task").iterdir():
            children = (task / "children").read_text("ascii")
            found += map(int, children.split())
    return found


def _written(process: int) -> int:
    # Bytes given to write(): a file system in memory counts as well, unlike with write_bytes.
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{process}/io").read_text("ascii").splitlines():
            if line.startswith("wchar:"):
                return int(line.split()[1])
    return 0

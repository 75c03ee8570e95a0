"""How far a copy is, from the files it writes and the work it does (cri-o T13)."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import structlog

from criimage.backend import Phase, PullProgress
from criimage.errors import CriimageError
from criimage_containers_storage.pulling.rate_limits import seconds_to_wait, waits
from criimage_containers_storage.store.busy import lock_use

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from criimage.backend import ProgressReporter
    from criimage_containers_storage.pulling.manifests import LayersToFetch
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Watch"]

_log = structlog.get_logger(__name__)

_PROC = Path("/proc")
_SECONDS = 0.25
_WORTH_ASKING_SECONDS = 1.5
_BLOCK = 65536


@dataclass(frozen=True, slots=True)
class _Seen:
    """What can be seen of a copy at one moment.

    Attributes:
        arrived: sizes of the layers, complete or not.
        written: blocks that its processes have written.
        arrives: a layer is still coming in.
        waits: it waits for a lock of the store, or for a disk.
        writes: it has a lock of the store for writing: it unpacks or commits.
    """

    arrived: list[int]
    written: int
    arrives: bool
    waits: bool
    writes: bool


class Watch:
    """Watches one pull, through several runs of skopeo if need be, and tells what it sees.

    Args:
        report: told.
        layout: the store that skopeo writes to.
    """

    def __init__(self, report: ProgressReporter, layout: Layout) -> None:
        self._report = report
        self._layout = layout
        self._last = PullProgress()
        self._process = 0
        self._layers: LayersToFetch | None = None
        self._waited = False

    def started(self, process: int) -> None:
        """Take notice of skopeo's process ID."""
        self._process = process

    def tell(self, phase: Phase) -> None:
        """Report a phase; the numbers stay."""
        self._last = replace(self._last, phase=phase)
        self._report(self._last)

    def goes_on(self) -> None:
        """Report that the store is waited for no longer."""
        if self._last.phase is Phase.WAITING_FOR_STORE:
            self.tell(Phase.DOWNLOADING if self._last.bytes_done else Phase.RESOLVING)

    def use(self, credential_source: str) -> None:
        """Report where the credentials come from with everything from now on."""
        self._last = replace(self._last, credential_source=credential_source)

    def hear(self, said: str) -> None:
        """Take notice of what skopeo says on standard error; reports that the registry asks to wait, and its end."""
        asked = seconds_to_wait(said) if waits(said) else None
        if asked != self._last.retry_after:
            self._last = replace(self._last, retry_after=asked)
            self._report(self._last)

    def unchanged(self, layers: LayersToFetch | None) -> None:
        """Take notice that nothing was fetched."""
        self._last = replace(self._last, unchanged=True)
        self.complete(layers)

    def complete(self, layers: LayersToFetch | None) -> None:
        """Take notice that everything has come; the next report says so."""
        if layers is None:
            return
        done = max(self._last.bytes_done, sum(layers.sizes))
        count = len(layers.sizes)
        self._last = replace(
            self._last,
            bytes_done=done,
            bytes_total=done,
            layers_done=count,
            layers_total=count,
            layers_reused=layers.reused,
        )

    async def run(self, folder: Path, ask_layers: Callable[[], Awaitable[LayersToFetch | None]]) -> None:
        """Look and report until cancelled.

        Args:
            folder: skopeo's own folder for downloads: each layer becomes a file `storage*/N` as it arrives.
            ask_layers: returns what there is to fetch; asked once, if bytes still arrive after a while. Where it is the
                store that takes its time, the answer would tell nobody anything.
        """
        began = time.monotonic()
        asking: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(_SECONDS)
                worth = asking is None and self._layers is None and time.monotonic() - began > _WORTH_ASKING_SECONDS
                seen = await anyio.to_thread.run_sync(_look, self._layout, folder, self._process, worth)
                if worth and seen.arrives:
                    asking = asyncio.create_task(self._ask(ask_layers))
                self._see(seen)
        finally:
            if asking is not None:
                asking.cancel()
                await asyncio.wait({asking})

    async def _ask(self, ask_layers: Callable[[], Awaitable[LayersToFetch | None]]) -> None:
        try:
            self._layers = await ask_layers()
        except (CriimageError, OSError) as error:
            _log.debug("the size of a pull is not known", error=str(error))

    def _see(self, now: _Seen) -> None:
        last, arrived, written = self._last, now.arrived, now.written
        total = sum(arrived)
        # What is unpacked is written too, but arrives nowhere.
        stands = total <= last.bytes_done
        unpacks = stands and (now.writes or (written > last.activity and total > 0))
        # Everybody waits for a moment now and then.
        waits, self._waited = stands and now.waits and self._waited, now.waits
        done = max(last.bytes_done, total)
        seen = replace(
            last,
            phase=_phase(last.phase, came=bool(arrived or done), unpacks=unpacks, waits=waits),
            bytes_done=done,
            activity=max(last.activity, written),
        )
        if self._layers is not None:
            # A layer that is complete has its promised size.
            sizes = self._layers.sizes
            complete = (collections.Counter(arrived) & collections.Counter(sizes)).total()
            seen = replace(
                seen,
                bytes_total=max(done, sum(sizes)),
                layers_done=max(last.layers_done, complete),
                layers_total=len(sizes),
                layers_reused=self._layers.reused,
            )
        self._last = seen
        self._report(seen)


def _phase(last: Phase, *, came: bool, unpacks: bool, waits: bool) -> Phase:
    if waits:
        return Phase.WAITING_FOR_STORE
    if unpacks:
        return Phase.UNPACKING
    # Before the first layer there is nothing to tell a token from a manifest or a blob's redirection, whether or not a
    # glance fell on a lock of the store that skopeo had for a moment.
    return Phase.DOWNLOADING if came or last is Phase.DOWNLOADING else Phase.RESOLVING


def _look(layout: Layout, folder: Path, process: int, ask: bool) -> _Seen:
    """Return what can be seen of a copy; whether a layer is still arriving only if asked for."""
    files = list(folder.glob("*/*"))
    layers = [_layer_size(file) for file in files]
    family = list(_family(process))
    arrives = ask and any(layers) and any(_receives(one, files) for one in family)
    use = lock_use(layout)
    waits = process in use.waiting or any(map(_waits_for_disk, family))
    return _Seen(layers, sum(map(_written, family)), arrives, waits, process in use.writers)


def _waits_for_disk(process: int) -> bool:
    # Networks are waited for interruptibly.
    with contextlib.suppress(OSError, IndexError):
        for task in (_PROC / str(process) / "task").iterdir():
            with contextlib.suppress(OSError):
                if (task / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] == "D":
                    return True
    return False


def _receives(process: int, files: Iterable[Path]) -> bool:
    """Tell whether a process has one of these files open for writing, as skopeo has as long as a layer comes in."""
    with contextlib.suppress(OSError):
        # By what they are: a process in another mount namespace has other paths.
        wanted = {found for file in files if (found := _file_number(file)) is not None}
        for entry in (_PROC / str(process) / "fd").iterdir():
            with contextlib.suppress(OSError):  # it is closed by now
                if entry.lstat().st_mode & stat.S_IWUSR and _file_number(entry) in wanted:
                    return True
    return False


def _file_number(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _layer_size(file: Path) -> int:
    try:
        with file.open("rb") as opened:
            # The config comes into a file as well, and is JSON; it counts for nothing.
            return 0 if opened.read(1) == b"{" else os.fstat(opened.fileno()).st_size
    except OSError:
        return 0


def _family(process: int) -> Iterable[int]:
    # The unpacking itself is done by a child on some drivers.
    if not process:
        return []
    found = [process]
    with contextlib.suppress(OSError, ValueError):
        for task in (_PROC / str(process) / "task").iterdir():
            found += map(int, (task / "children").read_text("ascii").split())
    return found


def _written(process: int) -> int:
    # Given to write(): a file system in memory counts as well, unlike with write_bytes. In blocks, because Go's runtime
    # wakes itself with writes of a byte now and then, also while skopeo waits for a registry that hangs.
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_PROC / str(process) / "io").read_text("ascii").splitlines():
            if line.startswith("wchar:"):
                return int(line.split()[1]) // _BLOCK
    return 0

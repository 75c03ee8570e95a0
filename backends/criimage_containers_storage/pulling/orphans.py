"""Ends the tools that a killed server has left running: they would go on pulling for nobody (cri-o T14)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from criimage_containers_storage.store.busy import lock_use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["end_orphans"]

_GONE_SECONDS = 2.0
_LAYER_SECONDS = 10.0


def end_orphans(work: Path, layout: Layout) -> None:
    """End every copy whose downloads are in this folder, with its children, and wait for its end. Blocks.

    Args:
        work: of a server that lives no more; its name is like no other's.
        layout: the store that they write to, as far as is known.
    """
    found = list(_copies(work))
    # While one writes a layer, others may wait for the same one, see `Skopeo.copy`.
    end = time.monotonic() + _LAYER_SECONDS
    while set(found) & lock_use(layout).writers and time.monotonic() < end:
        time.sleep(0.01)
    for process in found:
        # Each copy leads a group of its own.
        with contextlib.suppress(OSError):
            os.killpg(process, signal.SIGKILL)
    end = time.monotonic() + _GONE_SECONDS
    while found and time.monotonic() < end:
        time.sleep(0.01)
        found = [process for process in found if process in set(_copies(work))]


def _copies(work: Path) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            process = int(folder.name)
            arguments = os.fsdecode((folder / "cmdline").read_bytes()).split("\0")
            place = arguments[arguments.index("--tmpdir") + 1]
            own = folder.stat().st_uid == os.geteuid() and os.getpgid(process) == process
            if own and Path(place).is_relative_to(work):
                yield process

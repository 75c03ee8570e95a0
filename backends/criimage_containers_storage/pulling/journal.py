"""Which layers a pull has touched, as skopeo names them, and what of it is remembered until they are sure to be used.

skopeo writes a line for each layer as it begins with it, before the layer is in the store. These lines go to a file in
the pull's own folder, so they are known even if everything was killed in the middle (cri-o T14).
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from typing import TYPE_CHECKING

from criimage.foreign_json import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["Journal", "copied_blobs", "copied_file", "left_behind"]

_LINE = re.compile(r"^Copying blob (sha256:[0-9a-f]{64})", re.MULTILINE)
_COPIED = "copied"
# The file whose lock tells that its server lives: always there, so that nothing is left over that was not there before.
_JOURNAL = "lock"


def copied_file(folder: Path) -> Path:
    """Return the file for skopeo's lines in a pull's folder; it is there from the beginning."""
    return folder / _COPIED


def copied_blobs(folder: Path) -> set[str]:
    """Return the digests of the compressed layers that this pull has touched. Blocks."""
    try:
        return set(_LINE.findall(copied_file(folder).read_text("ascii", "replace")))
    except OSError:
        return set()


def left_behind(work: Path) -> dict[str, float]:
    """Return what a killed server's folder tells: digests of layers, and when they were touched. Blocks."""
    found: dict[str, float] = {}
    try:
        written = parse((work / _JOURNAL).read_bytes())
        found |= {str(digest): float(when) for digest, when in written.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        pass  # nothing had failed there, or not even this could be written
    for folder in work.glob("pull-*"):
        try:
            when = copied_file(folder).stat().st_mtime
        except OSError:
            continue
        found |= dict.fromkeys(copied_blobs(folder), when)
    return found


class Journal:
    """Layers of pulls that came to nothing: nothing may ever use them. May be used by threads.

    It is written to the work folder at every change, for the server that comes after a killed one.
    """

    def __init__(self, work: Path, known: Mapping[str, float]) -> None:
        self._file = work / _JOURNAL
        self._lock = threading.Lock()
        self._layers = dict(known)
        self._write()

    def add(self, digests: Iterable[str]) -> None:
        """Remember layers. Blocks."""
        with self._lock:
            self._layers |= dict.fromkeys(digests, time.time())
            self._write()

    def due(self, seconds: float) -> set[str]:
        """Return the layers that have been here for so long."""
        with self._lock:
            return {digest for digest, when in self._layers.items() if abs(time.time() - when) >= seconds}

    def forget(self, digests: Iterable[str]) -> None:
        """Forget layers. Blocks."""
        with self._lock:
            for digest in digests:
                self._layers.pop(digest, None)
            self._write()

    def _write(self) -> None:
        # On a full disk it is known in memory still.
        with contextlib.suppress(OSError):
            self._file.write_text(json.dumps(self._layers))

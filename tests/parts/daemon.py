"""A daemon in a folder of its own, run as the only child of what made its namespaces, and started again at will."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from parts.child import Child, frozen

if TYPE_CHECKING:
    import contextlib
    from contextlib import AbstractContextManager

_SECONDS = 60.0


class Daemon:
    """What can be done to the process of a running one; whoever derives from it starts it.

    Attributes:
        folder: everything it writes, its `log` too.
    """

    __slots__ = ()

    folder: Path
    _process: Child | None
    _running: contextlib.ExitStack

    @property
    def pid(self) -> int:
        """Its process ID as this process sees it."""
        assert self._process is not None
        return first_child(self._process.pid)

    def kill(self) -> None:
        """Ends it by SIGKILL; what is in its process namespace alone ends with it."""
        os.kill(self.pid, signal.SIGKILL)
        self._gone()

    def stop(self) -> None:
        """Ends it by SIGTERM and waits until it is gone."""
        os.kill(self.pid, signal.SIGTERM)
        self._gone()

    def _gone(self) -> None:
        assert self._process is not None
        self._process.process.wait(_SECONDS)
        self._running.close()

    def frozen(self) -> AbstractContextManager[None]:
        """Stops it by SIGSTOP while the block runs: it keeps its connections and answers nothing."""
        return frozen(self.pid)

    def log_text(self) -> str:
        """Everything it has logged so far."""
        return (self.folder / "log").read_text(errors="replace")


def first_child(process: int) -> int:
    """The process ID of the first child of a process, which must come to have one."""
    end = time.monotonic() + _SECONDS
    while not (children := Path(f"/proc/{process}/task/{process}/children").read_text().split()):
        assert time.monotonic() < end, f"process {process} has no child"
        time.sleep(0.001)
    return int(children[0])

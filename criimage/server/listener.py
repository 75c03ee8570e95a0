"""Accepts connections, as many as there may be, and goes on when the machine has no descriptor for one.

asyncio's own accepting logs a traceback for each place in the backlog when descriptors run out, 33 MB in 10 s, and the
clients that are connected starve meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame, SettingsFrame

from criimage.logs import SparingLog
from criimage.peer import current_peer, peer_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["Listener", "connection_limit"]

_log = SparingLog(__name__)

PAUSE_SECONDS = 1.0
ACCEPTED_AT_ONCE = 64
RESERVED_DESCRIPTORS = 256
"""Kept for the backend: its files, tools and connections."""
FEWEST_CONNECTIONS = 8


def connection_limit(wanted: int) -> int:
    """Return how many connections there may be, with the descriptors that the process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(FEWEST_CONNECTIONS, soft - RESERVED_DESCRIPTORS))


class Listener:
    """Accepts from one listening socket until closed.

    Args:
        listening: non-blocking; stays the caller's to close.
        admit: whether there is room for one more connection; may make some.
        protocol: makes the protocol of each connection that is admitted.
    """

    def __init__(
        self, listening: socket.socket, admit: Callable[[], bool], protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._admit = admit
        self._protocol = protocol
        self._beginning: set[asyncio.Task[object]] = set()
        self._resuming: asyncio.TimerHandle | None = None
        self._resume()

    def close(self) -> None:
        """Accept no more; connections stay."""
        if self._resuming is not None:
            self._resuming.cancel()
        self._loop.remove_reader(self._listening)

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connected, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Whatever it lacks, asking again at once would only cost those who are connected.
                _log.warning("no connection can be accepted now", error=error.strerror)
                self._loop.remove_reader(self._listening)
                self._resuming = self._loop.call_later(PAUSE_SECONDS, self._resume)
                return
            self._begin(connected)

    def _begin(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        if not self._admit():
            _log.warning("a connection was refused: there are too many")
            _refuse(connected)
            return
        task = self._loop.create_task(self._connect(connected))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _connect(self, connected: socket.socket) -> None:
        # Here, so that all that this connection brings about has it in its context.
        current_peer.set(peer_of(connected))
        try:
            await self._loop.connect_accepted_socket(self._protocol, connected)
        except OSError:
            connected.close()  # the client has gone already


def _refuse(connected: socket.socket) -> None:
    frames = SettingsFrame(0), GoAwayFrame(0, 0, ErrorCodes.ENHANCE_YOUR_CALM, b"too many connections")
    with contextlib.suppress(OSError):
        connected.send(b"".join(frame.serialize() for frame in frames))
    connected.close()

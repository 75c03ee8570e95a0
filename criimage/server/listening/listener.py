"""Accepts connections, as many as there may be, and goes on when the machine has no descriptor for one.

asyncio's own accepting logs a traceback for each place in the backlog when descriptors run out, 33 MB in 10 s, and the
clients that are connected starve meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from functools import partial
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame, SettingsFrame

from criimage.logs import SparingLog
from criimage.peer import current_peer, peer_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Listener", "connection_limit"]

_log = SparingLog(__name__)

PAUSE_SECONDS = 1.0
ACCEPTED_AT_ONCE = 64
RESERVED_DESCRIPTORS = 256
"""Kept for the backend: its files, tools and connections."""
FEWEST_CONNECTIONS = 8
FAREWELLS = 64
"""Refused connections that are left open for their clients to read why."""
FAREWELL_SECONDS = 1.0
_READ_AT_ONCE = 2**16
SEND_BUFFER = 2**21
"""Bytes that the kernel takes of what a client has not read yet; Linux doubles it, for what it needs itself."""
_SO_SNDBUFFORCE = 32
"""Where options have the usual numbers; Python does not name it."""
_USUAL_SO_RCVBUF = 8
_TOO_MANY = b"".join(
    frame.serialize()
    for frame in (SettingsFrame(0), GoAwayFrame(0, 0, ErrorCodes.ENHANCE_YOUR_CALM, b"too many connections"))
)


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
        admit: whether there is room for one more connection, beside so many that have been admitted and are about to
            begin; may make some.
        protocol: makes the protocol of each connection that is admitted, which calls what it gets when it begins.
    """

    def __init__(
        self,
        listening: socket.socket,
        admit: Callable[[int], bool],
        protocol: Callable[[Callable[[], None]], asyncio.Protocol],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._admit = admit
        self._protocol = protocol
        self._farewells = _Farewells(self._loop)
        self._beginning: set[asyncio.Task[object]] = set()
        # A burst is accepted in one go, before any of it is a connection.
        self._coming: set[socket.socket] = set()
        self._resuming: asyncio.TimerHandle | None = None
        self._resume()

    def close(self) -> None:
        """Accept no more; connections stay."""
        if self._resuming is not None:
            self._resuming.cancel()
        self._loop.remove_reader(self._listening)
        self._farewells.close()

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
        if not self._admit(len(self._coming)):
            _log.warning("a connection was refused: there are too many")
            self._farewells.begin(connected, _TOO_MANY)
            return
        _make_room(connected)
        self._coming.add(connected)
        task = self._loop.create_task(self._connect(connected))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _connect(self, connected: socket.socket) -> None:
        # Here, so that all that this connection brings about has it in its context.
        current_peer.set(peer_of(connected))
        begun = partial(self._coming.discard, connected)
        try:
            await self._loop.connect_accepted_socket(lambda: self._protocol(begun), connected)
        except OSError:
            connected.close()  # the client has gone already
        finally:
            begun()


class _Farewells:
    """Refused connections until their clients have read why.

    Whoever closes a socket with something unread resets it, and then a client may see that instead of the reason. So
    what comes is read and thrown away until the client hangs up too, for a moment, and of a few connections at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._leaving: dict[socket.socket, asyncio.TimerHandle] = {}

    def begin(self, connected: socket.socket, frames: bytes) -> None:
        """Send the last frames, and close the socket when they have been read or nobody cares to."""
        if len(self._leaving) >= FAREWELLS:
            self._end(next(iter(self._leaving)))
        self._leaving[connected] = self._loop.call_later(FAREWELL_SECONDS, self._end, connected)
        try:
            connected.send(frames)
            connected.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(connected)
            return
        self._loop.add_reader(connected, self._read, connected)

    def close(self) -> None:
        """End all of them now."""
        for connected in list(self._leaving):
            self._end(connected)

    def _read(self, connected: socket.socket) -> None:
        try:
            ended = not connected.recv(_READ_AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            ended = True
        if ended:
            self._end(connected)

    def _end(self, connected: socket.socket) -> None:
        self._leaving.pop(connected).cancel()
        self._loop.remove_reader(connected)
        connected.close()


def _make_room(connected: socket.socket) -> None:
    """Have the kernel take a list of ten thousand images at once, which is 2 MB.

    What it does not take is copied here first, and goes out in as many turns of the loop as there are pieces: that
    takes three times as long. Without the right to it there is what the machine allows to everybody.
    """
    if socket.SO_RCVBUF == _USUAL_SO_RCVBUF:
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER)
            return
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

"""The connections to one socket: made when a call needs one, again after a loss, and more where one is full."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING

from criimage.channel.events import CANCEL
from criimage.channel.frames import ProtocolFault
from criimage.channel.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from criimage.channel.header_blocks import Headers
    from criimage.channel.link import Listener

__all__ = ["HANDSHAKE_SECONDS", "Exchange", "Links"]

HANDSHAKE_SECONDS = 5.0
"""How long a peer may take to accept a connection and finish the HTTP/2 handshake."""

LINKS_LIMIT = 16
"""Connections at once, for peers that take few calls on each; beyond that calls wait for their turn."""

CROWDED_SECONDS = 5.0
"""How long calls may wait for their turn until that is told."""

LOOK_SECONDS = 5.0
"""How often it is looked whether another server's socket has taken the place of the one that calls go to."""

_QUEUE_SECONDS = 0.05


class Exchange:
    """One call, under way or waiting for a connection."""

    __slots__ = ("_early", "_ended", "_headers", "_link", "_links", "_stream", "listener")

    def __init__(self, links: Links, headers: Headers, listener: Listener, *, ended: bool) -> None:
        self.listener = listener
        self._links = links
        self._headers = headers
        self._ended = ended
        self._early: list[tuple[bytes, bool]] = []
        self._link: Link | None = None
        self._stream = 0

    def send(self, data: bytes, *, ended: bool = False) -> None:
        """Send a piece of the request; its listener is told once it has gone out."""
        if self._link is None:
            self._early.append((data, ended))
        else:
            self._link.send(self._stream, data, ended=ended)

    def acknowledge(self, size: int) -> None:
        """Give back so many bytes of the answer's window."""
        if self._link is not None:
            self._link.acknowledge(self._stream, size)

    def reset(self, code: int = CANCEL) -> None:
        """End the call; its listener hears nothing more."""
        if self._link is None:
            self._links.forget(self)
        else:
            self._link.reset(self._stream, code)

    def begin(self, link: Link) -> None:
        """Go out on this connection."""
        self._link = link
        self._stream = link.begin(self._headers, self.listener, ended=self._ended)
        early, self._early = self._early, []
        for data, ended in early:
            link.send(self._stream, data, ended=ended)


class Links:
    """The connections; to be closed after use.

    Args:
        path: of the socket.
        told: is called with what is wrong now, or with None if it works: once that is known, and when it changes.

    Attributes:
        generation: grows with every connection that is made or lost: the next one may be another server's.
    """

    def __init__(self, path: Path, told: Callable[[str | None], None] | None = None) -> None:
        self._path = path
        self._told = told
        self._links: list[Link] = []
        self._waiting: deque[Exchange] = deque()
        self._dialling: asyncio.Task[Link | None] | None = None
        self._closed = False
        self._problem: str | None = None
        self._known = False
        self._lost = asyncio.Event()
        self._crowded: asyncio.TimerHandle | None = None
        self._full = f"{path} takes no more calls: some wait for their turn"
        self.generation = 0

    @property
    def problem(self) -> str | None:
        """What is wrong now, as far as is known; None for nothing."""
        return self._problem

    def start(self, headers: Headers, listener: Listener, *, ended: bool = False) -> Exchange:
        """Begin a call, at once or as soon as there is a connection with room; the listener learns what becomes of it.

        Raises:
            RuntimeError: after `close`.
        """
        if self._closed:
            raise RuntimeError("the channel is not open")
        exchange = Exchange(self, headers, listener, ended=ended)
        if not self._waiting:
            for link in self._links:
                if link.has_room:
                    exchange.begin(link)
                    return exchange
        self._waiting.append(exchange)
        if self._crowded is None:
            self._crowded = asyncio.get_running_loop().call_later(CROWDED_SECONDS, self._look_at_waiting)
        self._dial()
        return exchange

    def forget(self, exchange: Exchange) -> None:
        """Let a call that waits for a connection go."""
        if exchange in self._waiting:
            self._waiting.remove(exchange)

    async def keep(self) -> None:
        """Connect, and again after every loss, until cancelled: what is wrong is known before a call needs it.

        A socket that has taken the place of the one connected to is another server's: new calls go there, those under
        way go on where they are.
        """
        pause = 0.1
        while True:
            self._lost.clear()
            if await self._is_current():
                pause = 0.1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._lost.wait()
                continue
            self._dial()
            if self._dialling is not None:
                await asyncio.wait([self._dialling])
            if not await self._is_current():
                await asyncio.sleep(pause)
                pause = min(pause * 2, 3.0)

    async def _is_current(self) -> bool:
        """Whether there is a connection to the socket that is there now, or to one that is there no more."""
        place = await asyncio.to_thread(_place, self._path)
        return any(self._is_used(link) and place in {None, link.place} for link in self._links)

    @staticmethod
    def _is_used(link: Link) -> bool:
        return link.is_open and not link.connection.going

    def _is_connected(self) -> bool:
        return any(self._is_used(link) for link in self._links)

    def close(self) -> None:
        """Hang up; every call under way is told that its connection is lost."""
        self._closed = True
        if self._crowded is not None:
            self._crowded.cancel()
        if self._dialling is not None:
            self._dialling.cancel()
        for link in list(self._links):
            link.close()
        self._fail("the channel was closed")

    def _dial(self) -> None:
        if self._dialling is None and len(self._links) < LINKS_LIMIT:
            self._dialling = asyncio.get_running_loop().create_task(self._connect(), name=f"connect to {self._path}")
            self._dialling.add_done_callback(self._dialled)

    async def _connect(self) -> Link | None:
        """Return a connection that is ready, or None if there is none and that has been told."""
        link: Link | None = None
        late = "its queue of connections is full"
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                made = Link(str(self._path), self._changed, self._silence)
                made.place = await asyncio.to_thread(_place, self._path)
                sock = await _connected(self._path)
                late = f"no handshake within {HANDSHAKE_SECONDS:g} s"
                _, link = await asyncio.get_running_loop().create_unix_connection(lambda: made, sock=sock)
                await link.ready
                if link.lost:
                    raise ConnectionResetError(link.lost)  # noqa: TRY301 - as the handshake's own end
        except (OSError, ProtocolFault) as error:
            if link is not None:
                link.close()
            # TimeoutError is an OSError without a text.
            reason = getattr(error, "strerror", None) or str(error) or late
            self._tell(f"cannot reach {self._path}: {reason}")
            return None
        except BaseException:
            if link is not None:
                link.close()
            raise
        if self._closed:
            link.close()
            return None
        for other in [other for other in self._links if other.place != link.place]:
            other.retire()
        self._links.append(link)
        self.generation += 1
        self._tell(None)
        return link

    def _dialled(self, task: asyncio.Task[Link | None]) -> None:
        self._dialling = None
        made = None if task.cancelled() or task.exception() is not None else task.result()
        if made is None:
            self._fail(self._problem or f"cannot reach {self._path}")
        elif made.is_open:
            self._start_waiting()
        else:
            # Lost before a call could begin: who waits is told, or a peer that does so would be called without end.
            self._tell(f"lost the connection to {self._path}: {made.lost}")
            self._fail(f"lost the connection to {self._path}: {made.lost}")

    def _start_waiting(self) -> None:
        while self._waiting:
            link = next((one for one in self._links if one.has_room), None)
            if link is None:
                self._dial()
                return
            self._waiting.popleft().begin(link)
        if self._problem == self._full:
            self._tell(None)

    def _look_at_waiting(self) -> None:
        self._crowded = None
        if self._waiting:
            if self._is_connected() and self._problem is None:
                self._tell(self._full)
            self._crowded = asyncio.get_running_loop().call_later(CROWDED_SECONDS, self._look_at_waiting)

    def _fail(self, text: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for exchange in waiting:
            exchange.listener.was_lost(text)

    def _changed(self, link: Link) -> None:
        if link in self._links and not link.is_open:
            self._links.remove(link)
            self.generation += 1
            self._lost.set()
        elif link.connection.going:
            self._lost.set()
        if not self._closed:
            self._start_waiting()

    def _silence(self, link: Link, began: bool) -> None:
        if began:
            self._tell(f"{self._path} does not answer: a PING has had no reply")
        elif link in self._links and not any(one.silent for one in self._links):
            self._tell(None)

    def _tell(self, problem: str | None) -> None:
        if problem != self._problem or not self._known:
            self._problem, self._known = problem, True
            if self._told is not None and not self._closed:
                self._told(problem)


def _place(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def _connected(path: Path) -> socket.socket:
    """Return a connected socket, as soon as the queue of the one that listens has a place.

    Not by asyncio, which takes a socket for connected that found no place there.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(str(path))
            except BlockingIOError:
                await asyncio.sleep(_QUEUE_SECONDS)
            else:
                return sock
    except BaseException:
        sock.close()
        raise

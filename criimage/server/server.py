"""Accepts connections and ends them well; knows methods, not what they do."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from criimage.logs import SparingLog
from criimage.peer import current_peer
from criimage.server.calls.connection_calls import CallsElsewhere, ConnectionCalls, Observer
from criimage.server.http2.hardening import HardenedProtocol
from criimage.server.http2.hot.first_step import FirstSteps
from criimage.server.http2.hot.reads import Reads
from criimage.server.http2.limits import SharedLimits
from criimage.server.listening.access import EVERYBODY
from criimage.server.listening.listener import Listener, connection_limit

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from criimage.server.calls.method import Method
    from criimage.server.listening.access import Access
    from criimage.settings import LimitSettings

__all__ = ["Server"]

_log = structlog.get_logger(__name__)
_denied = SparingLog(__name__)

CANCEL_SECONDS = 1.0
"""How long a call that was cancelled may take to end."""

IDLE_SECONDS = 10.0
"""A connection without a call for so long gives way to a new one where there may be no more."""


class _Connection(HardenedProtocol):
    def __init__(self, server: Server, begun: Callable[[], None] | None = None) -> None:
        elsewhere = None if server.elsewhere is None else server.elsewhere()
        settings, steps = server.limits.settings, server.first_steps()
        self.calls = ConnectionCalls(server.methods, server.observer, settings, elsewhere, steps)
        super().__init__(self.calls, server.limits)
        self.calls.limits = self.limits
        self._server = server
        self._begun = begun
        self.peer = current_peer.get()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.reads = Reads(self.connection, self.calls, self.limits, self.the_long_way, self.window_opened)
        if self._begun is not None:
            self._begun()
        self._server.welcome(self)
        if self._server.stopping:
            self.calls.refuse_new()
            self.say_goodbye()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.connections.discard(self)
        super().connection_lost(exc)


class Server:
    """A gRPC server on one listening socket.

    Args:
        methods: what it serves; no two with one path.
        observer: is told about every call.
        limits: what clients may do.
        elsewhere: makes, for each connection, what may take its calls before they are looked at here.
    """

    def __init__(
        self,
        methods: Iterable[Method],
        observer: Observer,
        limits: LimitSettings,
        elsewhere: Callable[[], CallsElsewhere] | None = None,
    ) -> None:
        self.elsewhere = elsewhere
        self.methods = {method.path: method for method in methods}
        self.observer = observer
        self.limits = SharedLimits(limits)
        self.connections: set[_Connection] = set()
        self.stopping = False
        self.denied = 0
        self._access = EVERYBODY
        self._listener: Listener | None = None
        self._first_steps: FirstSteps | None = None

    def first_steps(self) -> FirstSteps:
        """Return what makes the first steps of calls, made when the first connection comes."""
        if self._first_steps is None:
            self._first_steps = FirstSteps()
        return self._first_steps

    def start(self, listening: socket.socket) -> None:
        """Serve from now on; the socket stays the caller's to close, and its file the caller's to remove.

        Called again, it accepts from another socket instead; connections stay.
        """
        if self._listener is not None:
            self._listener.close()
        self._listener = Listener(listening, self._admit, lambda begun: _Connection(self, begun))

    def let_in(self, access: Access) -> None:
        """Answer the calls of these users from now on; whoever is connected stays, and so do the calls under way."""
        self._access = access
        for connection in self.connections:
            connection.calls.refusal = access.refusal(connection.peer)

    def welcome(self, connection: _Connection) -> None:
        """Take a connection that has just been made."""
        self.connections.add(connection)
        peer = connection.peer
        who = {} if peer is None else peer._asdict()
        connection.calls.refusal = refusal = self._access.refusal(peer)
        if refusal:
            self.denied += 1
            _denied.warning("a user who is not among the allowed ones connected", **who)
        else:
            _log.debug("connected", **who)

    def _admit(self, coming: int) -> bool:
        limit = connection_limit(self.limits.settings.connections)
        if len(self.connections) + coming < limit:
            return True
        # Whoever may make no calls gives way, and else whoever holds a connection and asks nothing: its client connects
        # again when it needs one.
        before = time.monotonic() - IDLE_SECONDS
        denied = [each for each in self.connections if each.calls.refusal]
        idle = denied or [each for each in self.connections if not each.calls.count and each.limits.last_read < before]
        if not idle:
            return False
        longest = min(idle, key=lambda each: each.limits.last_read)
        longest.say_goodbye()
        longest.hang_up()
        self.connections.discard(longest)
        return True

    def stop_accepting(self) -> None:
        """Take no new connections and no new calls; clients with a connection are told so by GOAWAY."""
        self.stopping = True
        if self._listener is not None:
            self._listener.close()
        for connection in self.connections:
            connection.calls.refuse_new()
            connection.say_goodbye()

    async def finish(self, grace: float) -> None:
        """Wait up to `grace` seconds for the calls under way, then cut every connection and cancel what is left."""
        tasks = [task for connection in self.connections for task in connection.calls.tasks]
        calls = [call for connection in self.connections for call in connection.calls.under_way]
        if calls:
            await asyncio.wait(calls, timeout=grace)
        tasks = [task for task in tasks if not task.done()]
        for connection in self.connections:
            connection.calls.stop_elsewhere()
        await asyncio.sleep(0)  # what they are told goes out before the connections are cut
        for connection in list(self.connections):
            connection.hang_up()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        if self._first_steps is not None:
            self._first_steps.close()

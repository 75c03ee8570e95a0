"""Accepts connections and ends them well; knows methods, not what they do."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from criimage.server.calls import ConnectionCalls, Method, Observer
from criimage.server.hardening import HardenedProtocol
from criimage.server.socket import BACKLOG

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

__all__ = ["Server"]

CANCEL_SECONDS = 1.0
"""How long a call that was cancelled may take to end."""


class _Connection(HardenedProtocol):
    def __init__(self, server: Server) -> None:
        self.calls = ConnectionCalls(server.methods, server.observer)
        super().__init__(self.calls)
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.connections.add(self)
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
    """

    def __init__(self, methods: Iterable[Method], observer: Observer) -> None:
        self.methods = {method.path: method for method in methods}
        self.observer = observer
        self.connections: set[_Connection] = set()
        self.stopping = False
        self._listener: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Serve from now on; the socket stays the caller's to close, and its file the caller's to remove."""
        loop = asyncio.get_running_loop()
        # From 3.13 on asyncio removes the file itself otherwise: it may be systemd's, or by then another server's.
        options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._listener = await loop.create_unix_server(
            lambda: _Connection(self), sock=listening, backlog=BACKLOG, **options
        )

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
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        tasks = [task for task in tasks if not task.done()]
        for connection in list(self.connections):
            connection.hang_up()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS)

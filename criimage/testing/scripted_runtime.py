"""A CRI server that does on demand what a real runtime does not: a relay's and a backend's hard cases.

Every method is a script, or a coroutine that has the call in its hands. What is not scripted is UNIMPLEMENTED, in the
words of grpc-go. The server records what came, byte for byte.

    async with ScriptedRuntime(path) as runtime:
        runtime.on("/runtime.v1.RuntimeService/Status", Script(messages=(b"...",), status=0))
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from criimage.testing.scripted_connection import Connection, Metadata, Recorded, ServedCall

if TYPE_CHECKING:
    from pathlib import Path

    from h2.settings import SettingCodes

__all__ = ["Recorded", "Script", "ScriptedRuntime", "ServedCall"]

UNIMPLEMENTED = 12
_VERSIONS = ("v1", "v1alpha2")


@dataclass(frozen=True, slots=True)
class Script:
    """What a method answers.

    Attributes:
        messages: sent one after the other.
        headers: metadata before them.
        trailers: metadata after them.
        status: gRPC's; None for trailers without any.
        text: the status's message.
        details: bytes of `grpc-status-details-bin`.
        stall_after: after so many messages nothing more is sent until `ScriptedRuntime.release`; None for never.
        endless: begins again after the last message, for ever.
        echo: every message of the request is sent back as it comes, before `messages`.
        reset: ends with a reset of this code instead of trailers.
        hang_up: ends with the connection closed instead.
        headers_first: sends headers before anything else, also where there is no message.
    """

    messages: tuple[bytes, ...] = ()
    headers: Metadata = ()
    trailers: Metadata = ()
    status: int | None = 0
    text: str = ""
    details: bytes = b""
    stall_after: int | None = None
    endless: bool = False
    echo: bool = False
    reset: int | None = None
    hang_up: bool = False
    headers_first: bool = False

    async def __call__(self, call: ServedCall) -> None:
        """Play the script."""
        if self.headers_first or self.headers:
            await call.send_headers(self.headers)
        if self.echo:
            while (message := await call.receive()) is not None:
                await call.send(message)
        await self._send_all(call)
        if self.hang_up:
            call.hang_up()
        elif self.reset is not None:
            call.reset(self.reset)
        else:
            await call.finish(self.status, self.text, self.details, self.trailers)

    async def _send_all(self, call: ServedCall) -> None:
        sent, more = 0, True
        while more:
            for message in self.messages:
                if sent == self.stall_after:
                    await call.runtime.released.wait()
                await call.send(message)
                sent += 1
            more = self.endless
        if sent == self.stall_after:
            await call.runtime.released.wait()


Handler = Callable[[ServedCall], Awaitable[None]]


_VERSION = b"\x0a\x050.1.0\x12\x08scripted\x1a\x031.0\x22\x02v1"


class ScriptedRuntime:
    """A server on a unix socket; an async context manager.

    Args:
        path: of the socket.
        versions: which versions of the API it has; the services of others are unknown.
        settings: of HTTP/2, instead of 1000 calls at once on a connection and a window of 1 MiB for each.

    Attributes:
        calls: what came, in order.
        connections: how many were accepted.
        released: stalled scripts go on when it is set.
        open: the connections that there are.
        deaf: whether it reads and sends nothing.
        settings: what new connections are told.
    """

    def __init__(
        self,
        path: Path,
        *,
        versions: tuple[str, ...] = _VERSIONS,
        settings: dict[SettingCodes | int, int] | None = None,
    ) -> None:
        self.calls: list[Recorded] = []
        self.connections = 0
        self.released = asyncio.Event()
        self._path = path
        self._versions = versions
        self.settings: dict[SettingCodes | int, int] = settings or {}
        self._handlers: dict[str, Handler] = {}
        self._server: asyncio.Server | None = None
        self.open: set[Connection] = set()
        self.deaf = False
        for version in versions:
            self.on(f"/runtime.{version}.RuntimeService/Version", Script(messages=(_VERSION,)))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def on(self, path: str, handler: Handler) -> None:
        """Let a method do this from now on."""
        self._handlers[path] = handler

    def release(self) -> None:
        """Let stalled scripts go on."""
        self.released.set()

    async def start(self) -> None:
        """Listen, after `stop` again."""
        self._path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self), str(self._path))

    async def stop(self) -> None:
        """Cut every connection without a word, as a killed process does, and listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.open):
            connection.cut()
        self._path.unlink(missing_ok=True)
        await asyncio.sleep(0)

    async def restart(self, versions: tuple[str, ...] | None = None) -> None:
        """End as if killed and listen again; with other versions of the API if they are given."""
        await self.stop()
        self._versions = self._versions if versions is None else versions
        for version in self._versions:
            self._handlers.setdefault(f"/runtime.{version}.RuntimeService/Version", Script(messages=(_VERSION,)))
        await self.start()

    def go_deaf(self) -> None:
        """Read and send nothing more, on new connections too, as a stopped process does."""
        self.deaf = True
        for connection in self.open:
            connection.listen(hears=False)

    def hear_again(self) -> None:
        """End what `go_deaf` began."""
        self.deaf = False
        for connection in self.open:
            connection.listen(hears=True)

    def tell(self, settings: dict[SettingCodes | int, int]) -> None:
        """Send other settings on every connection, and on those to come."""
        self.settings = {**self.settings, **settings}
        for connection in self.open:
            connection.tell(settings)

    def say_goodbye(self, looked_at: int | None = None) -> None:
        """Send GOAWAY on every connection.

        Args:
            looked_at: calls up to the one on this stream are still answered, those above have never been looked at;
                None for all under way.
        """
        for connection in self.open:
            connection.say_goodbye(looked_at)

    def called(self, method: str) -> list[Recorded]:
        """The calls of a method by its bare name."""
        return [call for call in self.calls if call.path.rpartition("/")[2] == method]

    def handler(self, path: str) -> Handler:
        """What a call of this path gets."""
        service, _, method = path.strip("/").rpartition("/")
        found = self._handlers.get(path)
        known = any(service.startswith(f"runtime.{version}.") for version in self._versions)
        if found is not None and known:
            return found
        text = f"unknown method {method} for service {service}" if known else f"unknown service {service}"
        return Script(status=UNIMPLEMENTED, text=text)

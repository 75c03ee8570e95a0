"""A CRI server that does on demand what a real runtime does not: a relay's and a backend's hard cases.

Every method is a script, or a coroutine that has the call in its hands. What is not scripted is UNIMPLEMENTED, in the
words of grpc-go. The server records what came, byte for byte.

    async with ScriptedRuntime(path) as runtime:
        runtime.on("/runtime.v1.RuntimeService/Status", Script(messages=(b"...",), status=0))
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import quote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from h2.events import Event

__all__ = ["Recorded", "Script", "ScriptedRuntime", "ServedCall"]

UNIMPLEMENTED = 12
_WINDOW = 2**20
_VERSIONS = ("v1", "v1alpha2")

Metadata = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Recorded:
    """A call as it came.

    Attributes:
        path: `/package.Service/Method`.
        headers: all of them, in their order.
        body: the request's bytes, gRPC's five before each message included.
        complete: whether the client has ended its side.
        cancelled: whether the client has reset the call, or hung up.
    """

    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    cancelled: bool = False

    @property
    def messages(self) -> list[bytes]:
        """The request's messages."""
        found, data = [], bytes(self.body)
        while len(data) >= 5:
            (length,) = struct.unpack_from(">I", data, 1)
            found.append(data[5 : 5 + length])
            data = data[5 + length :]
        return found


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


Handler = Callable[["ServedCall"], Awaitable[None]]


class ScriptedRuntime:
    """A server on a unix socket; an async context manager.

    Args:
        path: of the socket.
        versions: which versions of the API it has; the services of others are unknown.
        max_streams: how many calls it takes at once on one connection.

    Attributes:
        calls: what came, in order.
        connections: how many were accepted.
        released: stalled scripts go on when it is set.
    """

    def __init__(self, path: Path, *, versions: tuple[str, ...] = _VERSIONS, max_streams: int = 1000) -> None:
        self.calls: list[Recorded] = []
        self.connections = 0
        self.released = asyncio.Event()
        self._path = path
        self._versions = versions
        self._max_streams = max_streams
        self._handlers: dict[str, Handler] = {}
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()
        self._deaf = False
        for version in versions:
            self.on(f"/runtime.{version}.RuntimeService/Version", Script(messages=(_VERSION,)))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
        self._server = await loop.create_unix_server(lambda: _Connection(self), str(self._path))

    async def stop(self) -> None:
        """Cut every connection without a word, as a killed process does, and listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._open):
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
        self._deaf = True
        for connection in self._open:
            connection.listen(hears=False)

    def hear_again(self) -> None:
        """End what `go_deaf` began."""
        self._deaf = False
        for connection in self._open:
            connection.listen(hears=True)

    def say_goodbye(self) -> None:
        """Send GOAWAY on every connection; calls under way are still answered."""
        for connection in self._open:
            connection.say_goodbye()

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


_VERSION = b"\x0a\x050.1.0\x12\x08scripted\x1a\x031.0\x22\x02v1"


class ServedCall:
    """A call under way, for its handler.

    Attributes:
        runtime: whose it is.
        recorded: what came of it until now.
    """

    def __init__(self, connection: _Connection, stream: int, recorded: Recorded) -> None:
        self.runtime = connection.runtime
        self.recorded = recorded
        self.news = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self._stream = stream
        self._headers_sent = False
        self._read = 0

    async def receive(self) -> bytes | None:
        """Return the request's next message, or None at its end."""
        while True:
            body, start = self.recorded.body, self._read + 5
            if len(body) >= start:
                (length,) = struct.unpack_from(">I", body, self._read + 1)
                if len(body) >= start + length:
                    self._read = start + length
                    return bytes(body[start : self._read])
            if self.recorded.complete:
                return None
            self.news.clear()
            await self.news.wait()

    async def send_headers(self, metadata: Metadata = ()) -> None:
        """Send the answer's headers."""
        self._headers_sent = True
        await self._connection.send_headers(self._stream, [*_HEADERS, *metadata], end=False)

    async def send(self, message: bytes) -> None:
        """Send a message as fast as the client takes it."""
        await self.send_bytes(struct.pack(">BI", 0, len(message)) + message)

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes of the answer as they are, whatever they mean."""
        if not self._headers_sent:
            await self.send_headers()
        await self._connection.send_data(self._stream, data)

    async def finish(
        self, status: int | None = 0, text: str = "", details: bytes = b"", trailers: Metadata = ()
    ) -> None:
        """End the call."""
        found = [] if status is None else [(b"grpc-status", str(status).encode())]
        if text:
            found.append((b"grpc-message", quote(text, safe=_PRINTABLE).encode()))
        if details:
            found.append((b"grpc-status-details-bin", base64.b64encode(details).rstrip(b"=")))
        headers = [*found, *trailers]
        await self._connection.send_headers(
            self._stream, headers if self._headers_sent else [*_HEADERS, *headers], end=True
        )

    def reset(self, code: int) -> None:
        """End the call by a reset."""
        self._connection.reset(self._stream, code)

    def hang_up(self) -> None:
        """Cut the connection."""
        self._connection.cut()


_HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if code != 0x25)


class _Connection(asyncio.Protocol):
    def __init__(self, runtime: ScriptedRuntime) -> None:
        self.runtime = runtime
        self._h2 = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._calls: dict[int, ServedCall] = {}
        self._unheard: deque[bytes] = deque()
        self._hears = True
        self._windows = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.runtime.connections += 1
        self.runtime._open.add(self)  # noqa: SLF001 - one of its parts
        self._h2.initiate_connection()
        self._h2.update_settings(
            {
                SettingCodes.MAX_CONCURRENT_STREAMS: self.runtime._max_streams,  # noqa: SLF001
                SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
            }
        )
        self._h2.increment_flow_control_window(16 * _WINDOW)
        self.listen(hears=not self.runtime._deaf)  # noqa: SLF001
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.runtime._open.discard(self)  # noqa: SLF001
        self._transport = None
        for stream in list(self._calls):
            self._leave(stream)

    def listen(self, *, hears: bool) -> None:
        self._hears = hears
        if hears:
            self._flush()
            while self._unheard and self._hears:
                self.data_received(self._unheard.popleft())

    def data_received(self, data: bytes) -> None:
        if not self._hears:
            self._unheard.append(data)
            return
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self.cut()
            return
        for event in events:
            self._take(event)
        self._windows.set()
        self._flush()

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event.stream_id or 0, [(bytes(name), bytes(value)) for name, value in event.headers or ()])
            return
        stream = getattr(event, "stream_id", None)
        call = self._calls.get(stream or 0)
        if isinstance(event, DataReceived) and event.flow_controlled_length:
            with contextlib.suppress(ProtocolError):
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
        if call is None:
            return
        if isinstance(event, DataReceived):
            call.recorded.body += event.data or b""
        elif isinstance(event, StreamEnded):
            call.recorded.complete = True
        elif isinstance(event, StreamReset):
            self._leave(event.stream_id or 0)
        call.news.set()

    def _begin(self, stream: int, headers: list[tuple[bytes, bytes]]) -> None:
        path = dict(headers).get(b":path", b"").decode("latin-1")
        recorded = Recorded(path, headers)
        self.runtime.calls.append(recorded)
        call = ServedCall(self, stream, recorded)
        self._calls[stream] = call
        call.task = asyncio.get_running_loop().create_task(self._play(call, stream))

    async def _play(self, call: ServedCall, stream: int) -> None:
        handler = self.runtime.handler(call.recorded.path)
        try:
            await handler(call)
        except ProtocolError:
            call.recorded.cancelled = True
        finally:
            self._calls.pop(stream, None)

    def _leave(self, stream: int) -> None:
        call = self._calls.pop(stream, None)
        if call is not None and call.task is not None:
            call.recorded.cancelled = True
            call.task.cancel()

    async def send_headers(self, stream: int, headers: list[tuple[bytes, bytes]], *, end: bool) -> None:
        self._h2.send_headers(stream, headers, end_stream=end)
        self._flush()

    async def send_data(self, stream: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if room <= 0:
                self._windows.clear()
                await self._windows.wait()
                continue
            self._h2.send_data(stream, bytes(view[:room]))
            view = view[room:]
            self._flush()
        # An endless script must let others run.
        await asyncio.sleep(0)

    def reset(self, stream: int, code: int) -> None:
        self._h2.reset_stream(stream, code)
        self._flush()

    def say_goodbye(self) -> None:
        last = self._h2.highest_inbound_stream_id
        frame = struct.pack(">HBBBIII", 0, 8, 7, 0, 0, last, 0)
        if self._transport is not None:
            self._transport.write(frame)

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self._hears and self._transport is not None:
            data: Any = self._h2.data_to_send()
            if data:
                self._transport.write(data)

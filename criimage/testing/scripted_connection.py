"""The wire of a scripted runtime: a client's connection, and the calls on it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from h2.events import Event

__all__ = ["Connection", "Metadata", "Recorded", "Runtime", "ServedCall"]

_WINDOW = 2**20

Metadata = tuple[tuple[bytes, bytes], ...]


class Runtime(Protocol):
    """What a connection belongs to."""

    calls: list[Recorded]
    connections: int
    released: asyncio.Event
    open: set[Connection]
    deaf: bool
    settings: dict[SettingCodes | int, int]

    def handler(self, path: str) -> Callable[[ServedCall], Awaitable[None]]:
        """What a call of this path gets."""


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


class ServedCall:
    """A call under way, for its handler.

    Attributes:
        runtime: whose it is.
        recorded: what came of it until now.
        stream: its number on its connection.
    """

    def __init__(self, connection: Connection, stream: int, recorded: Recorded) -> None:
        self.runtime = connection.runtime
        self.recorded = recorded
        self.stream = stream
        self.news = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
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
        await self._connection.send_headers(self.stream, [*_HEADERS, *metadata], end=False)

    async def send(self, message: bytes) -> None:
        """Send a message as fast as the client takes it."""
        await self.send_bytes(struct.pack(">BI", 0, len(message)) + message)

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes of the answer as they are, whatever they mean."""
        if not self._headers_sent:
            await self.send_headers()
        await self._connection.send_data(self.stream, data)

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
            self.stream, headers if self._headers_sent else [*_HEADERS, *headers], end=True
        )

    def open_window(self, size: int) -> None:
        """Take so many bytes of the request more than `SettingCodes.INITIAL_WINDOW_SIZE` says."""
        self._connection.open_window(self.stream, size)

    def reset(self, code: int) -> None:
        """End the call by a reset."""
        self._connection.reset(self.stream, code)

    def hang_up(self) -> None:
        """Cut the connection."""
        self._connection.cut()


_HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if code != 0x25)


class Connection(asyncio.Protocol):
    """A client's connection to a scripted runtime."""

    def __init__(self, runtime: Runtime) -> None:
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
        """Tell the settings."""
        self._transport = cast("asyncio.Transport", transport)
        self.runtime.connections += 1
        self.runtime.open.add(self)
        self._h2.initiate_connection()
        self._h2.update_settings(
            {
                SettingCodes.MAX_CONCURRENT_STREAMS: 1000,
                SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
                **self.runtime.settings,
            }
        )
        self._h2.increment_flow_control_window(16 * _WINDOW)
        self.listen(hears=not self.runtime.deaf)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the handlers of all calls."""
        self.runtime.open.discard(self)
        self._transport = None
        for stream in list(self._calls):
            self._leave(stream)

    def listen(self, *, hears: bool) -> None:
        """Hear again what was kept, or hear nothing more."""
        self._hears = hears
        if hears:
            self._flush()
            while self._unheard and self._hears:
                self.data_received(self._unheard.popleft())

    def data_received(self, data: bytes) -> None:
        """Take bytes, or keep them while nothing is heard."""
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
        """Send headers of a call."""
        self._h2.send_headers(stream, headers, end_stream=end)
        self._flush()

    async def send_data(self, stream: int, data: bytes) -> None:
        """Send data of a call as its client takes it."""
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
        """Reset a call."""
        self._h2.reset_stream(stream, code)
        self._flush()

    def tell(self, settings: dict[SettingCodes | int, int]) -> None:
        """Send other settings."""
        self._h2.update_settings(settings)
        self._flush()

    def open_window(self, stream: int, size: int) -> None:
        """Take more of a request."""
        self._h2.increment_flow_control_window(size, stream)
        self._flush()

    def say_goodbye(self, looked_at: int | None) -> None:
        """Send GOAWAY; see `ScriptedRuntime.say_goodbye`."""
        # By hand: h2 would send nothing more after its own.
        last = self._h2.highest_inbound_stream_id if looked_at is None else looked_at
        frame = struct.pack(">HBBBIII", 0, 8, 7, 0, 0, last, 0)
        if self._transport is not None:
            self._transport.write(frame)
        for stream in [one for one in self._calls if one > last]:
            self._leave(stream)

    def cut(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self._hears and self._transport is not None:
            data: Any = self._h2.data_to_send()
            if data:
                self._transport.write(data)

"""A gRPC client made by hand from HTTP/2 frames, that checks nothing it sends: for requests no real client makes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from parts.frames import Frames
from parts.serving import PATIENCE

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from h2.events import Event

_WINDOW = 2**30
_GOAWAY = 7

Headers = Iterable[tuple[str | bytes, str | bytes]]


def framed(message: bytes, *, compressed: int = 0, announced: int | None = None) -> bytes:
    """A message with gRPC's five bytes before it, which may lie."""
    return struct.pack(">BI", compressed, len(message) if announced is None else announced) + message


def grpc_headers(path: str, changes: Mapping[str, str | bytes | None] | None = None) -> list[tuple[str, str | bytes]]:
    """A call's headers as grpc-go sends them, with some changed, added, or (None) left out."""
    headers: dict[str, str | bytes | None] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    headers.update(changes or {})
    return [(name, value) for name, value in headers.items() if value is not None]


def path_of(headers: Headers) -> str:
    """The path that a request's headers name, or nothing."""
    found = next((value for name, value in headers if name in {":path", b":path"}), "")
    return found.decode("latin-1") if isinstance(found, bytes) else found


@dataclass(slots=True)
class Answer:
    """What came back on a stream.

    Attributes:
        stream: its number.
        headers: the first ones.
        trailers: the last ones.
        data: everything between.
        reset: the code of a reset, or None.
        done: set when nothing more comes.
    """

    stream: int
    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    reset: int | None = None
    ended: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def http(self) -> str | None:
        """The HTTP status, or None if there was no answer."""
        return self.headers.get(":status")

    @property
    def status(self) -> int | None:
        """The gRPC status, or None if there is none."""
        text = self.trailers.get("grpc-status", self.headers.get("grpc-status"))
        return int(text) if text is not None else None

    @property
    def raw_message(self) -> str:
        """The status message as it stands in the header."""
        return self.trailers.get("grpc-message", self.headers.get("grpc-message", ""))

    @property
    def message(self) -> str:
        """The status message."""
        return unquote(self.raw_message)

    @property
    def messages(self) -> list[bytes]:
        """The answer's messages."""
        found, data = [], bytes(self.data)
        while data:
            compressed, length = struct.unpack_from(">BI", data)
            assert not compressed
            assert len(data) >= 5 + length
            found.append(data[5 : 5 + length])
            data = data[5 + length :]
        return found

    async def finished(self) -> Answer:
        """Waits until nothing more comes, and returns itself."""
        async with asyncio.timeout(PATIENCE):
            await self.done.wait()
        return self


class RawClient:
    """One connection.

    Attributes:
        h2: its state.
        goaway: the last stream that the server says it will serve, and its code; or None.
        closed: set when the server has closed the connection.
        frames: what went over it, for a test that fails.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, window: int = _WINDOW) -> None:
        self._reader, self._writer, self._window = reader, writer, window
        self.h2 = H2Connection(
            H2Configuration(
                header_encoding="latin-1",
                validate_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        # What a server may send is this test's to judge, not h2's.
        self.h2.local_settings.max_header_list_size = 2**20
        self.goaway: tuple[int, int] | None = None
        self.closed = asyncio.Event()
        self.frames = Frames()
        self.answers: dict[int, Answer] = {}

    async def start(self) -> None:
        """Sends the preface and waits for the server's settings."""
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: self._window})
        self.h2.increment_flow_control_window(_WINDOW)
        await self.flush()

    async def flush(self) -> None:
        """Sends what has been prepared, in one write."""
        await self.write(self.h2.data_to_send())

    async def write(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.frames.sent(data)
        self._writer.write(data)
        with suppress(ConnectionError):
            await self._writer.drain()

    def prepare(self, headers: Headers, body: bytes = b"", *, end: bool = True) -> Answer:
        """Prepares a request's frames, without sending them, and returns where its answer will be."""
        stream = self.h2.get_next_available_stream_id()
        headers = list(headers)
        self.h2.send_headers(stream, headers, end_stream=end and not body)
        self.frames.headers("->", stream, headers)
        self.frames.message("->", stream, path_of(headers), body)
        while body:
            part, body = body[:16_384], body[16_384:]
            self.h2.send_data(stream, part, end_stream=end and not body)
        self.answers[stream] = answer = Answer(stream)
        return answer

    async def send(self, headers: Headers, body: bytes = b"", *, end: bool = True) -> Answer:
        """Sends a request and returns where its answer will be; a long body goes out as the windows allow."""
        headers = list(headers)
        answer = self.prepare(headers, end=end and not body)
        self.frames.message("->", answer.stream, path_of(headers), body)
        while body and not self.closed.is_set() and not answer.done.is_set():
            size = min(self.h2.local_flow_control_window(answer.stream), 16_384)
            if size > 0:
                part, body = body[:size], body[size:]
                self.h2.send_data(answer.stream, part, end_stream=end and not body)
                await self.flush()
            await asyncio.sleep(0)
        await self.flush()
        return answer

    async def call(
        self,
        path: str,
        request: bytes = b"",
        changes: Mapping[str, str | bytes | None] | None = None,
    ) -> Answer:
        """Makes a whole call and returns its answer."""
        answer = await self.send(grpc_headers(path, changes), framed(request))
        return await answer.finished()

    def cancel(self, answer: Answer) -> None:
        """Prepares the reset of a stream."""
        self.h2.reset_stream(answer.stream, 8)
        answer.done.set()

    async def run(self) -> None:
        """Reads until the connection ends."""
        rest = b""
        try:
            while data := await self._reader.read(2**16):
                rest += data
                while len(rest) >= 9 and len(rest) >= (end := 9 + int.from_bytes(rest[:3], "big")):
                    self._take_frame(rest[:end])
                    rest = rest[end:]
                await self.flush()
        except ConnectionError:
            pass
        finally:
            self.closed.set()
            for answer in self.answers.values():
                answer.done.set()

    def _take_frame(self, frame: bytes) -> None:
        self.frames.got(frame)
        if frame[3] == _GOAWAY:
            # h2 would take no frame after it, but calls under way are still answered.
            self.goaway = (int.from_bytes(frame[9:13], "big"), int.from_bytes(frame[13:17], "big"))
            return
        for event in self.h2.receive_data(frame):
            self._take(event)

    def _take(self, event: Event) -> None:
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if answer is None:
            return
        match event:
            case ResponseReceived():
                answer.headers = dict(event.headers)  # type: ignore[arg-type]
                self.frames.headers("<-", answer.stream, event.headers)
            case TrailersReceived():
                answer.trailers = dict(event.headers)  # type: ignore[arg-type]
                self.frames.headers("<-", answer.stream, event.headers)
            case DataReceived():
                answer.data += event.data
                self.frames.answer(answer.stream, event.data)
                if event.flow_controlled_length and self._window == _WINDOW:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, answer.stream)
            case StreamEnded():
                answer.ended = True
                answer.done.set()
            case StreamReset():
                answer.reset = int(event.error_code)
                answer.done.set()

    async def hang_up(self) -> None:
        """Closes the connection."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def raw_client(
    path: Path, *, window: int = _WINDOW, connected: socket.socket | None = None
) -> AsyncIterator[RawClient]:
    """Connects until the block is left.

    Args:
        path: of the server's socket.
        window: how much of an answer the server may send unasked; given, the client never asks for more.
        connected: a connection that is there already.

    Yields:
        the client, after its preface.
    """
    if connected is not None:
        connected.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connected)
    else:
        reader, writer = await asyncio.open_unix_connection(str(path))
    client = RawClient(reader, writer, window=window)
    reading = asyncio.create_task(client.run())
    try:
        await client.start()
        yield client
    finally:
        await client.hang_up()
        await reading

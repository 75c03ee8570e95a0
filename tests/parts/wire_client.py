"""A client of bytes and frames alone, which keeps no state of HTTP/2 but the table of headers: it cannot be surprised.

For what parts.raw_client cannot send, or would take for a fault of the server: its streams are known to its h2.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from hpack import Decoder

from parts.frames import Frames
from parts.raw_client import Answer
from parts.serving import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["ACK", "END_HEADERS", "END_STREAM", "PREFACE", "WireClient", "frame", "literal", "wire_client"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame, whatever it says."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str, first: int = 0x00) -> bytes:
    """A header as HPACK's literal with a literal name.

    Args:
        name: fewer than 127 bytes, as `value`.
        value: as it is.
        first: 0x00 is not put into the table, 0x40 is, 0x10 may never be.
    """
    parts = (text.encode("latin-1") for text in (name, value))
    return bytes((first,)) + b"".join(bytes((len(part),)) + part for part in parts)


class WireClient:
    """One connection.

    Attributes:
        answers: by stream, of every one that the server has said anything about.
        goaway: the last stream that the server says it will serve, its code, and what else it says; or None.
        frames: how many of each kind have come.
        begun: set when the server has taken our settings.
        closed: set when the server has closed the connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = Decoder()
        self._decoder.max_header_list_size = 2**20
        self.answers: dict[int, Answer] = {}
        self.goaway: tuple[int, int, str] | None = None
        self.frames: dict[int, int] = {}
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()
        self.shown = Frames()

    async def write(self, data: bytes) -> None:
        """Send bytes as they are; into a connection that has been closed, in vain."""
        self.shown.sent(data)
        self._writer.write(data)
        with suppress(ConnectionError):
            await self._writer.drain()

    def answer(self, stream: int) -> Answer:
        """Return what has come on a stream, and will."""
        return self.answers.setdefault(stream, Answer(stream))

    async def run(self) -> None:
        """Read until the connection ends."""
        rest = b""
        try:
            while data := await self._reader.read(2**16):
                rest += data
                while len(rest) >= 9 and len(rest) >= (end := 9 + int.from_bytes(rest[:3], "big")):
                    self._take(rest[:end])
                    rest = rest[end:]
        except ConnectionError:
            pass
        finally:
            self.closed.set()
            self.begun.set()
            for answer in self.answers.values():
                answer.done.set()

    def _take(self, data: bytes) -> None:
        self.shown.got(data)
        kind, flags, stream, payload = data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:]
        self.frames[kind] = self.frames.get(kind, 0) + 1
        if kind == GOAWAY:
            last, code = (int.from_bytes(payload[start : start + 4], "big") for start in (0, 4))
            self.goaway = last, code, payload[8:].decode("latin-1")
        elif kind == SETTINGS and flags & ACK:
            self.begun.set()
        elif kind == SETTINGS:
            self._writer.write(frame(SETTINGS, ACK, 0))
        if not stream:
            return
        answer = self.answer(stream)
        if kind == HEADERS:
            found = self._decoder.decode(payload, raw=True)
            fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in found}
            answer.headers, answer.trailers = (answer.headers, fields) if answer.headers else (fields, {})
        elif kind == DATA:
            answer.data += payload
        elif kind == RST_STREAM:
            answer.reset = int.from_bytes(payload, "big")
        if kind == RST_STREAM or (kind in {DATA, HEADERS} and flags & END_STREAM):
            answer.ended = kind != RST_STREAM
            answer.done.set()


@asynccontextmanager
async def wire_client(path: Path, first: bytes = PREFACE + frame(SETTINGS, 0, 0)) -> AsyncIterator[WireClient]:
    """Connect until the block is left.

    Args:
        path: of the server's socket.
        first: what is sent at once, with settings.

    Yields:
        the client, when the server has taken the settings.
    """
    reader, writer = await asyncio.open_unix_connection(str(path))
    client = WireClient(reader, writer)
    reading = asyncio.create_task(client.run())
    try:
        await client.write(first)
        async with asyncio.timeout(PATIENCE):
            await client.begun.wait()
        yield client
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        await reading

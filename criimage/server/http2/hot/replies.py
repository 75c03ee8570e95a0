"""A whole answer, headers to trailers, as bytes in one piece, with h2's state kept as if it had written the frames."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from h2.stream import StreamClosedBy, StreamState

from criimage.server.http2.hot.header_blocks import OK_TRAILERS, REPLY_HEADERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from grpclib.protocol import Connection
    from h2.connection import H2Connection

__all__ = ["MESSAGE_HEAD", "fits", "flush_open", "write_reply", "write_reply_of"]

_DATA, _HEADERS = 0, 1
_END_STREAM, _END_HEADERS = 0x1, 0x4
_HEAD = struct.Struct(">HBBBI")
_MESSAGE = struct.Struct(">HBBBIBI")
MESSAGE_HEAD = 5
"""Bytes before a message: whether it is compressed, and its length in four."""
_PIECE = 2**17
"""Bytes that are written at once of a long answer; about what a socket takes."""


def _head(size: int, kind: int, flags: int) -> bytes:
    return struct.pack(">HBBB", size >> 8, size & 0xFF, kind, flags)


_BEGIN = _head(len(REPLY_HEADERS), _HEADERS, _END_HEADERS)
_END = _head(len(OK_TRAILERS), _HEADERS, _END_HEADERS | _END_STREAM)


def fits(h2: H2Connection, size: int, window: int) -> bool:
    """Tell whether a message of `size` bytes can be sent now.

    Args:
        h2: the connection.
        size: of the message.
        window: what the stream may still take.
    """
    if h2.encoder.table_size_changes:
        return False  # the next block must tell of it
    # A window may be below zero.
    return size + MESSAGE_HEAD <= min(h2.outbound_flow_control_window, window)


def flush_open(connection: Connection) -> None:
    """Send what is prepared, unless the socket has gone meanwhile: asyncio would log each try."""
    if not connection.is_closing():
        connection.flush()


def write_reply(h2: H2Connection, stream: int, message: bytes, flush: Callable[[], None]) -> None:
    """Prepare the answer to a stream that h2 does not know: one message that `fits`, and OK.

    Args:
        h2: the connection.
        stream: its number.
        message: of the answer.
        flush: sends what is prepared. It is called in between where the answer is long: each copy of megabytes takes
            longer than all else, for the kernel gives their memory page by page.
    """
    out, number = h2._data_to_send, stream.to_bytes(4, "big")
    size = len(message) + MESSAGE_HEAD
    if size <= min(h2.max_outbound_frame_size, _PIECE):
        data = _MESSAGE.pack(size >> 8, size & 0xFF, _DATA, 0, stream, 0, len(message)) + message
        out += b"".join((_BEGIN, number, REPLY_HEADERS, data, _END, number, OK_TRAILERS))
    else:
        out += b"".join((_BEGIN, number, REPLY_HEADERS))
        for part in _long_data(stream, message, h2.max_outbound_frame_size):
            # h2 has another buffer after each flush.
            h2._data_to_send += part
            if len(h2._data_to_send) >= _PIECE:
                flush()
        h2._data_to_send += b"".join((_END, number, OK_TRAILERS))
    h2.outbound_flow_control_window -= size


def _long_data(stream: int, message: bytes, limit: int) -> Iterator[bytes | memoryview]:
    """Yield DATA frames of at most `limit` bytes, in pieces."""
    left = memoryview(message)
    begin = struct.pack(">BI", 0, len(message))
    while begin or left:
        size = min(limit, len(begin) + len(left))
        yield _HEAD.pack(size >> 8, size & 0xFF, _DATA, 0, stream) + begin
        size -= len(begin)
        begin = b""
        for start in range(0, size, _PIECE):
            yield left[start : min(start + _PIECE, size)]
        left = left[size:]


def write_reply_of(h2: H2Connection, stream: int, message: bytes, flush: Callable[[], None]) -> bool:
    """Prepare the answer to a stream that h2 has, if its request has ended and nothing has been sent on it.

    Takes what `write_reply` does.

    Returns:
        False if it cannot be sent so; then nothing was.
    """
    known = h2.streams.get(stream)
    if known is None:
        return False
    machine = known.state_machine
    if machine.state is not StreamState.HALF_CLOSED_REMOTE or machine.headers_sent:
        return False
    if not fits(h2, len(message), known.outbound_flow_control_window):
        return False
    write_reply(h2, stream, message, flush)
    known.outbound_flow_control_window -= len(message) + MESSAGE_HEAD
    machine.headers_sent = machine.trailers_sent = True
    machine.state = StreamState.CLOSED
    machine.stream_closed_by = StreamClosedBy.SEND_END_STREAM
    return True

"""A whole answer, headers to trailers, as bytes in one piece, with h2's state kept as if it had written the frames."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from h2.stream import StreamClosedBy, StreamState

from criimage.server.hot.header_blocks import OK_TRAILERS, REPLY_HEADERS

if TYPE_CHECKING:
    from h2.connection import H2Connection

__all__ = ["MESSAGE_HEAD", "fits", "write_reply", "write_reply_of"]

_DATA, _HEADERS = 0, 1
_END_STREAM, _END_HEADERS = 0x1, 0x4
_HEAD = struct.Struct(">HBBBI")
_MESSAGE = struct.Struct(">HBBBIBI")
MESSAGE_HEAD = 5
"""Bytes before a message: whether it is compressed, and its length in four."""


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


def write_reply(h2: H2Connection, stream: int, message: bytes) -> None:
    """Prepare the answer to a stream that h2 does not know: one message that `fits`, and OK."""
    out, number, limit = h2._data_to_send, stream.to_bytes(4, "big"), h2.max_outbound_frame_size
    size = len(message) + MESSAGE_HEAD
    if size <= limit:
        data = _MESSAGE.pack(size >> 8, size & 0xFF, _DATA, 0, stream, 0, len(message)) + message
    else:
        data = b"".join(_data_frames(stream, struct.pack(">BI", 0, len(message)) + message, limit))
    out += b"".join((_BEGIN, number, REPLY_HEADERS, data, _END, number, OK_TRAILERS))
    h2.outbound_flow_control_window -= size


def write_reply_of(h2: H2Connection, stream: int, message: bytes) -> bool:
    """Prepare the answer to a stream that h2 has, if its request has ended and nothing has been sent on it.

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
    write_reply(h2, stream, message)
    known.outbound_flow_control_window -= len(message) + MESSAGE_HEAD
    machine.headers_sent = machine.trailers_sent = True
    machine.state = StreamState.CLOSED
    machine.stream_closed_by = StreamClosedBy.SEND_END_STREAM
    return True


def _data_frames(stream: int, data: bytes, limit: int) -> list[bytes]:
    parts = [data[start : start + limit] for start in range(0, len(data), limit)]
    return [_HEAD.pack(len(part) >> 8, len(part) & 0xFF, _DATA, 0, stream) + part for part in parts]

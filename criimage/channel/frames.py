"""HTTP/2 frames as bytes (RFC 9113, sections 4 and 6): taken apart and put together, not understood."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from criimage.channel.events import Event

__all__ = [
    "FRAME_SIZE",
    "FrameReader",
    "ProtocolFault",
    "frame",
    "header_frames",
    "settings_payload",
    "without_padding",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_SIZE = 16_384
"""Largest payload of a frame that comes in: HTTP/2's default, which we never raise."""

HEADER_SIZE = 9

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

_PRIORITY_SIZE = 5
_HEAD = struct.Struct(">HBBBI")


class ProtocolFault(Exception):
    """What the peer sent is no HTTP/2, or not what HTTP/2 allows here: the connection is of no use any more.

    Attributes:
        events: what the peer told before that in the same bytes.
    """

    events: Sequence[Event] = ()


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """Return a frame's bytes; the payload is no longer than the peer allows."""
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def header_frames(stream: int, block: bytes, *, ended: bool, limit: int) -> bytes:
    """Return a header block as one HEADERS frame, and as many CONTINUATION frames as `limit` makes necessary."""
    flags = END_STREAM if ended else 0
    if len(block) <= limit:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    parts = [block[start : start + limit] for start in range(0, len(block), limit)]
    frames = [frame(HEADERS, flags, stream, parts[0])]
    frames += [frame(CONTINUATION, 0, stream, part) for part in parts[1:-1]]
    return b"".join([*frames, frame(CONTINUATION, END_HEADERS, stream, parts[-1])])


def settings_payload(values: dict[int, int]) -> bytes:
    """Return the payload of a SETTINGS frame."""
    return b"".join(struct.pack(">HI", key, value) for key, value in values.items())


def without_padding(flags: int, payload: bytes) -> bytes:
    """Return the payload of a DATA or HEADERS frame without its padding and without HEADERS' priority.

    Raises:
        ProtocolFault: there is more padding than payload.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ProtocolFault("a padded frame is empty")
        start, end = 1, end - payload[0]
    if flags & HAS_PRIORITY:
        start += _PRIORITY_SIZE
    if start > end:
        raise ProtocolFault("a frame has more padding than payload")
    return payload[start:end]


class FrameReader:
    """Cuts a connection's bytes into frames; holds no more than one frame that is not complete."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield (kind, flags, stream, payload) of every frame that is complete now.

        Raises:
            ProtocolFault: a frame is larger than FRAME_SIZE.
        """
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        while end - position >= HEADER_SIZE:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, position)
            size = high << 8 | low
            if size > FRAME_SIZE:
                raise ProtocolFault(f"a frame of {size} bytes, or no HTTP/2 at all")
            start = position + HEADER_SIZE
            if end - start < size:
                break
            position = start + size
            yield kind, flags, stream & 0x7FFF_FFFF, data[start:position]
        self._rest = data[position:]

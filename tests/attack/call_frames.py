"""Frames of calls behind an ordinary one."""

from __future__ import annotations

from parts.raw_client import framed
from parts.wire_client import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    literal,
)

BEGUN = 2
"""A connection is open for HTTP/2 from its first call on, and only then the short way is taken."""
VERSION = "/runtime.v1.RuntimeService/Version"


def block(path: str = VERSION, *more: bytes, first: int = 0x00) -> bytes:
    """Headers of a call; `first` as in `literal`."""
    return b"".join(
        (
            literal(":method", "POST", first),
            literal(":scheme", "http", first),
            literal(":path", path, first),
            literal(":authority", "localhost", first),
            literal("content-type", "application/grpc", first),
            literal("te", "trailers", first),
            *more,
        )
    )


BLOCK, EMPTY = block(), framed(b"")


def on(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame on the stream of that number beyond the first, on which a call is made before."""
    return frame(kind, flags, stream + BEGUN if stream else 0, payload)


def headers(stream: int, fields: bytes = BLOCK, flags: int = END_HEADERS) -> bytes:
    """A HEADERS frame."""
    return on(HEADERS, flags, stream, fields)


def data(stream: int, message: bytes = EMPTY, flags: int = END_STREAM) -> bytes:
    """A DATA frame."""
    return on(DATA, flags, stream, message)


def call(stream: int, path: str = VERSION) -> bytes:
    """An ordinary call, as the short way takes it."""
    return headers(stream, block(path)) + data(stream)


def setting(number: int, value: int) -> bytes:
    """A SETTINGS frame with one of them."""
    return on(SETTINGS, 0, 0, number.to_bytes(2, "big") + value.to_bytes(4, "big"))


def window(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return on(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def reset(stream: int, code: int = 8) -> bytes:
    """A RST_STREAM frame."""
    return on(RST_STREAM, 0, stream, code.to_bytes(4, "big"))

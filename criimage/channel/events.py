"""What a client's HTTP/2 connection tells of, one value each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from criimage.channel.header_blocks import Headers

__all__ = [
    "CANCEL",
    "ENHANCE_YOUR_CALM",
    "FLOW_CONTROL_ERROR",
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "REFUSED_STREAM",
    "DataCame",
    "Event",
    "Goodbye",
    "HeadersCame",
    "PingCame",
    "Ready",
    "Taken",
    "WasReset",
]

NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 3, 7, 8, 11
"""Codes of resets (RFC 9113 7)."""


class Ready(NamedTuple):
    """The peer has said what it allows: the handshake is over."""


class HeadersCame(NamedTuple):
    """The answer's headers, or its trailers."""

    stream: int
    headers: Headers
    ended: bool


class DataCame(NamedTuple):
    """A piece of the answer; `size` is to be given back by `acknowledge` when it has been taken."""

    stream: int
    data: bytes
    size: int
    ended: bool


class Taken(NamedTuple):
    """So many bytes of a request have gone out."""

    stream: int
    size: int


class WasReset(NamedTuple):
    """The peer, or we for its fault, ended a stream before its time."""

    stream: int
    code: int
    text: str


class Goodbye(NamedTuple):
    """No more calls can be made; those up to `last` go on, the others were not looked at."""

    last: int
    code: int
    text: str


class PingCame(NamedTuple):
    """A PING of ours was answered."""


Event = Ready | HeadersCame | DataCame | Taken | WasReset | Goodbye | PingCame

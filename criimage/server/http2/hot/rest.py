"""Where in a read the rest of a request is: only looked at, nothing is taken and nothing changes."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DATA", "END_HEADERS", "END_STREAM", "HEAD", "HEADERS", "PING", "WINDOW_UPDATE", "Rest", "rest_of"]

HEAD = 9
"""Bytes of a frame's head: the length of its body in three, its kind, its flags, its stream in four."""
DATA, HEADERS, PING, WINDOW_UPDATE = 0, 1, 6, 8
END_STREAM, END_HEADERS = 0x1, 0x4
_INCREMENT_SIZE, _PING_SIZE = 4, 8
_FRAMES_AHEAD = 32
"""So many frames are looked at for each request: many headers in one read that have no data cost no more."""


class Rest(NamedTuple):
    """What follows the headers of a request in the same read.

    Attributes:
        data: where the frame begins that has the message and ends the request.
        end: where that ends.
        opened: by how much the client has opened the stream's window before.
        updates: where the frames begin and end that say so.
        together: whether nothing else is between the headers and the end.
    """

    data: int
    end: int
    opened: int
    updates: tuple[tuple[int, int], ...]
    together: bool


def rest_of(read: bytes, stream: bytes, place: int, end: int) -> Rest | None:
    """Find the one DATA frame of a request.

    Between its headers and its data there may be updates of windows, which grpcio sends with each call, and frames of
    other requests, as clients send them that have several in flight. Anything else might concern this request too.

    Args:
        read: what came; its frames follow one another from `place` on, and the last one may be cut.
        stream: the request's, as the four bytes of its headers.
        place: where the headers end.
        end: of the read.

    Returns:
        None if the request is not complete in this read, or not in one frame.
    """
    opened, together = 0, True
    updates: tuple[tuple[int, int], ...] = ()
    for _ in range(_FRAMES_AHEAD):
        body = place + HEAD
        if body > end:
            return None
        size, kind = read[place] << 16 | read[place + 1] << 8 | read[place + 2], read[place + 3]
        after = body + size
        if after > end:
            return None
        if read[place + 5 : body] == stream:
            if kind == DATA:
                return Rest(place, after, opened, updates, together) if read[place + 4] == END_STREAM else None
            increment = int.from_bytes(read[body:after], "big") & 0x7FFF_FFFF
            if kind != WINDOW_UPDATE or size != _INCREMENT_SIZE or not increment:
                return None
            opened += increment
            updates += ((place, after),)
        elif _of_others(kind, size, read[place + 4]):
            together = False
        else:
            return None
        place = after
    return None


def _of_others(kind: int, size: int, flags: int) -> bool:
    if kind == HEADERS:
        return flags == END_HEADERS
    return kind == DATA or (kind == WINDOW_UPDATE and size == _INCREMENT_SIZE) or (kind == PING and size == _PING_SIZE)

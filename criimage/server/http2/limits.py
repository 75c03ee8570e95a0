"""What a client may keep open, keep waiting and keep us busy with (settings `[limits]`).

Only bytes and frames are counted here, before anything else sees them; which HTTP/2 implementation answers does not
matter. The bounds concern requests that are not complete and frames that do nothing. What is being answered is not
limited: a client may watch pulls for days and read slowly.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from criimage.settings import LimitSettings

__all__ = ["ConnectionLimits", "LimitReached", "SharedLimits"]

FRAME_OVERHEAD = 512
"""Bytes that a DATA frame takes in memory beside its content, measured at 429 and rounded up."""
TINY_DATA = 64
"""A DATA frame of fewer bytes that does not end its request counts as one that does nothing."""
PADDED_DATA = 256 + TINY_DATA
EARNED_BY_ANSWER = 8
"""Free frames for each message that is answered (window updates and pings go with it), and one more for each KiB."""
EARNED_LIMIT = 2**20
REFILL_PART = 5
"""A fifth of a burst comes back each second."""

_PREFACE = 24
_HEADER = 9
_DATA, _HEADERS, _RST_STREAM, _GOAWAY = 0, 1, 3, 7
_END_STREAM, _PADDED = 0x1, 0x8


class LimitReached(Exception):
    """A connection went beyond what a client may do, and must be closed.

    Args:
        text: says which limit, for the client and the log.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class SharedLimits:
    """What all connections together may hold of requests that are not complete.

    Args:
        settings: the numbers.
    """

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self.requests = 0
        self.bytes = 0
        self._connections: set[ConnectionLimits] = set()

    def connection(self, cut: Callable[[str], None]) -> ConnectionLimits:
        """Begin counting a connection; `cut` closes it if it is the one that must give way to others."""
        made = ConnectionLimits(self, cut)
        self._connections.add(made)
        return made

    def forget(self, connection: ConnectionLimits) -> None:
        """The connection is closed."""
        self._connections.discard(connection)

    def make_room(self) -> None:
        """Cut the connections that hold the most, until the rest is within bounds."""
        while self._connections and self.requests > self.settings.incomplete_requests:
            self._cut(max(self._connections, key=lambda each: each.requests), "too many incomplete requests")
        while self._connections and self.bytes > self.settings.buffered_bytes:
            self._cut(max(self._connections, key=lambda each: each.bytes), "too many bytes of incomplete requests")

    def _cut(self, connection: ConnectionLimits, text: str) -> None:
        connection.close()
        connection.cut(text)


class ConnectionLimits:
    """Counts one connection; made by `SharedLimits.connection`.

    Attributes:
        cut: closes the connection.
        requests: how many are not complete.
        bytes: what those hold, the overhead of frames included.
        last_read: when bytes came last, by the monotonic clock.
    """

    def __init__(self, shared: SharedLimits, cut: Callable[[str], None]) -> None:
        settings = shared.settings
        self.cut = cut
        self._shared = shared
        self.requests = self.bytes = 0
        self._held: dict[int, int] = {}
        self._open: set[int] = set()
        self._highest = 0
        self._open_limit = 2 * settings.streams
        self._bytes_limit = settings.buffered_bytes_per_connection
        self._cheap: float = settings.frames
        self._cheap_burst = settings.frames
        self._resets: float = settings.resets
        self._resets_burst = settings.resets
        self._earned = 0
        self.last_read = time.monotonic()
        self._skip = _PREFACE
        self._rest = b""

    def received(self, data: bytes) -> None:
        """Count the bytes that have been read, before they are processed.

        Raises:
            LimitReached: they must not be processed, and the connection must be closed.
        """
        self._refill()
        size, position = len(data), 0
        if self._skip >= size:
            self._skip -= size
            return
        if self._rest:
            missing = _HEADER - len(self._rest)
            head = self._rest + data[:missing]
            if len(head) < _HEADER:
                self._rest = head
                return
            self._rest = b""
            position = missing + self._count(head, 0)
        else:
            position = self._skip
        while position + _HEADER <= size:
            position += _HEADER + self._count(data, position)
        if position < size:
            self._rest = data[position:]
            position = size
        self._skip = position - size
        if self._shared.bytes > self._shared.settings.buffered_bytes:
            self._shared.make_room()

    def _count(self, data: bytes, position: int) -> int:
        length = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
        stream = int.from_bytes(data[position + 5 : position + 9], "big") & 0x7FFF_FFFF
        self.frame(data[position + 3], data[position + 4], stream, length)
        return length

    def frame(self, kind: int, flags: int, stream: int, length: int) -> None:
        """Count one frame by its header.

        Raises:
            LimitReached: see `received`.
        """
        if kind == _DATA:
            self._data(flags, stream, length)
        elif kind == _HEADERS and stream > self._highest:
            self._begin(flags, stream)
        elif kind == _RST_STREAM:
            self._resets -= 1
            if self._resets < 0:
                raise LimitReached("too many resets")
            self._complete(stream)
        elif kind == _HEADERS and flags & _END_STREAM:
            self._complete(stream)
        elif kind != _GOAWAY:
            self._nothing()

    def answered(self, size: int) -> None:
        """Count a message of so many bytes that is being sent: what a client says to that is not held against it."""
        self._earned = min(EARNED_LIMIT, self._earned + EARNED_BY_ANSWER + (size >> 10))

    def ended(self, stream: int) -> None:
        """The call of a stream is over on our side."""
        self._open.discard(stream)
        self._complete(stream)

    def passed_on(self, stream: int) -> None:
        """Count the bytes of this request no more: they are not kept here."""
        self._complete(stream)

    def close(self) -> None:
        """Give back what the connection holds; it counts no more."""
        for stream in list(self._held):
            self._complete(stream)
        self._shared.forget(self)

    def _begin(self, flags: int, stream: int) -> None:
        self._highest = stream
        self._open.add(stream)
        if len(self._open) > self._open_limit:
            raise LimitReached("too many streams")
        if not flags & _END_STREAM:
            self._held[stream] = 0
            self.requests += 1
            self._shared.requests += 1
            if self._shared.requests > self._shared.settings.incomplete_requests:
                self._shared.make_room()

    def _data(self, flags: int, stream: int, length: int) -> None:
        if flags & _END_STREAM:
            self._complete(stream)
            return
        if length < TINY_DATA or (flags & _PADDED and length < PADDED_DATA):
            self._nothing()
        held = self._held.get(stream)
        if held is None:
            return  # of a request that has ended: flow control bounds what HTTP/2 still takes of it
        weight = length + FRAME_OVERHEAD
        self._held[stream] = held + weight
        self.bytes += weight
        self._shared.bytes += weight
        if self.bytes > self._bytes_limit:
            raise LimitReached("too many bytes of incomplete requests")

    def _complete(self, stream: int) -> None:
        held = self._held.pop(stream, None)
        if held is not None:
            self.requests -= 1
            self._shared.requests -= 1
            self.bytes -= held
            self._shared.bytes -= held

    def _nothing(self) -> None:
        if self._earned:
            self._earned -= 1
            return
        self._cheap -= 1
        if self._cheap < 0:
            raise LimitReached("too many frames that do nothing")

    def _refill(self) -> None:
        now = time.monotonic()
        part = (now - self.last_read) / REFILL_PART
        self.last_read = now
        if self._cheap < self._cheap_burst:
            self._cheap = min(self._cheap_burst, self._cheap + part * self._cheap_burst)
        if self._resets < self._resets_burst:
            self._resets = min(self._resets_burst, self._resets + part * self._resets_burst)

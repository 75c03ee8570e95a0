"""Requests on their way out: what the peer's windows, the size of its frames and the socket let go (RFC 9113 5.2)."""

from __future__ import annotations

from collections import deque

from criimage.channel import frames
from criimage.channel.events import Taken
from criimage.channel.frames import FRAME_SIZE, ProtocolFault, frame

__all__ = ["DEFAULT_WINDOW", "WINDOW_LIMIT", "Request", "Sender"]

DEFAULT_WINDOW = 65_535
WINDOW_LIMIT = 2**31 - 1


class Request:
    """What is still to be sent of one request.

    Attributes:
        window: how many bytes of it the peer takes now; below zero after the peer has taken room back.
        ending: whether nothing is to be added.
        sent_end: whether the peer has been told so.
    """

    __slots__ = ("ending", "pending", "sent_end", "window")

    def __init__(self, window: int, *, ended: bool) -> None:
        self.window = window
        self.ending = self.sent_end = ended
        self.pending: deque[bytes | memoryview] = deque()


class Sender:
    """The requests of one connection.

    Args:
        out: frames that go out are added to it.

    Attributes:
        frame_limit: largest frame that the peer takes.
    """

    def __init__(self, out: list[bytes]) -> None:
        self.frame_limit = FRAME_SIZE
        self._out = out
        self._window = self._first_window = DEFAULT_WINDOW
        self._may_write = True
        self._open: dict[int, Request] = {}
        self._waiting: dict[int, None] = {}

    def begin(self, stream_id: int, *, ended: bool) -> None:
        """Take a request on, whose headers have gone out."""
        self._open[stream_id] = Request(self._first_window, ended=ended)

    def end(self, stream_id: int) -> bool:
        """Let a request go; return whether all of it has gone out."""
        self._waiting.pop(stream_id, None)
        return self._open.pop(stream_id).sent_end

    def send(self, stream_id: int, data: bytes, *, ended: bool) -> int:
        """Send a piece, or keep it until it may go; return how many bytes went out. One that has ended takes none."""
        request = self._open.get(stream_id)
        if request is None or request.ending:
            return 0
        request.ending = ended
        if data:
            # A view, so that cutting a large message into frames copies each byte once.
            request.pending.append(data if len(data) <= self.frame_limit else memoryview(data))
        return self._push(stream_id, request)

    def let_write(self, may: bool) -> list[Taken]:
        """Hold back data while the socket takes none."""
        self._may_write = may
        return self.push_all() if may else []

    # -- what the peer allows -----------------------------------------------------------------------------------------

    def set_first_window(self, size: int) -> None:
        """Change the window that a request begins with, and by as much those of requests under way.

        Raises:
            ProtocolFault: a window would be larger than HTTP/2 has them.
        """
        if size > WINDOW_LIMIT:
            raise ProtocolFault("a window that is too large")
        for request in self._open.values():
            request.window += size - self._first_window
            if request.window > WINDOW_LIMIT:
                raise ProtocolFault("a stream's window goes wrong")
        self._first_window = size

    def open_connection(self, size: int) -> list[Taken]:
        """Take so many bytes more of all requests together.

        Raises:
            ProtocolFault: nothing, or more than HTTP/2 has.
        """
        self._window += size
        if not size or self._window > WINDOW_LIMIT:
            raise ProtocolFault("the connection's window goes wrong")
        return self.push_all()

    def open_stream(self, stream_id: int, size: int) -> int | None:
        """Take so many bytes more of a request; return how many went out, or None if HTTP/2 has no such window."""
        request = self._open[stream_id]
        request.window += size
        if not size or request.window > WINDOW_LIMIT:
            return None
        return self._push(stream_id, request)

    # -- sending ------------------------------------------------------------------------------------------------------

    def push_all(self) -> list[Taken]:
        """Send what may go now, in the order in which it began to wait; what still waits then goes to the end."""
        taken: list[Taken] = []
        for stream_id in list(self._waiting):
            sent = self._push(stream_id, self._open[stream_id])
            if sent:
                taken.append(Taken(stream_id, sent))
        return taken

    def _push(self, stream_id: int, request: Request) -> int:
        sent, pending = 0, request.pending
        self._waiting.pop(stream_id, None)
        while pending and self._may_write:
            room = min(request.window, self._window, self.frame_limit)
            if room <= 0:
                break
            data = pending[0]
            if len(data) > room:
                pending[0] = data[room:]
                data = data[:room]
            else:
                pending.popleft()
            size = len(data)
            request.window -= size
            self._window -= size
            sent += size
            request.sent_end = request.ending and not pending
            self._out.append(frame(frames.DATA, frames.END_STREAM if request.sent_end else 0, stream_id, data))
        if pending:
            self._waiting[stream_id] = None
        elif request.ending and not request.sent_end:
            request.sent_end = True
            self._out.append(frame(frames.DATA, frames.END_STREAM, stream_id))
        return sent

"""The client's side of a relayed call, on the server's HTTP/2: no task and no queue of messages."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from criimage.server.http2.stream_taker import StreamTaker
from criimage.server.relay.call import RelayedCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpclib.const import Status
    from grpclib.protocol import Stream

    from criimage.channel.header_blocks import Headers
    from criimage.server.http2.limits import ConnectionLimits

__all__ = ["Caller", "HeldRequests"]

HELD_LIMIT = 64 * 2**20
"""Bytes of all requests together that may wait for the runtime before whole connections are slowed down."""


class HeldRequests:
    """Counts the bytes of requests that the runtime has not taken."""

    def __init__(self) -> None:
        self.size = 0


class Caller(StreamTaker):
    """One call's stream.

    Args:
        stream: of the server.
        limits: of its connection.
        release: lets the stream go when nothing more is to be done with it.
        held: of the relay.
        ended: is called once, with the call's status, when its last byte has gone out or its client has gone.

    Attributes:
        call: what the stream is relayed by.
    """

    def __init__(
        self,
        stream: Stream,
        limits: ConnectionLimits,
        release: Callable[[], None],
        held: HeldRequests,
        ended: Callable[[Caller, Status], None],
    ) -> None:
        super().__init__(stream)
        self.call = RelayedCall(self, self._call_ended)
        self._limits = limits
        self._release = release
        self._held = held
        self._held_here = self._owed = self._slack = 0
        self._ended = ended
        self._status: Status | None = None
        self._out: deque[tuple[Headers | bytes, int, bool]] = deque()
        self._reset_code: int | None = None
        self._pumping = False
        self._over = False
        self._loop = asyncio.get_running_loop()
        self.take_over()
        limits.passed_on(stream.id or 0)

    # -- from the client ----------------------------------------------------------------------------------------------

    def data_came(self, data: bytes, size: int) -> None:
        """Take a piece of the request.

        The connection's window opens at once, so that a request which the runtime does not take holds up no other call;
        unless so much waits already that this would fill our memory.
        """
        if self.call.status is not None:
            self.open_connection_window(size)
            return
        self._held.size += size
        self._held_here += size
        if self._held.size <= HELD_LIMIT:
            self.open_connection_window(size)
        else:
            self._owed += size
        self._slack += size - len(data)
        self.call.request_came(data, ended=False)

    def request_ended(self) -> None:
        """Take the end of the request."""
        self.call.request_came(b"", ended=True)

    def may_send(self) -> None:
        """Learn that a window has opened, or that the socket takes bytes again."""
        if self._out or self._reset_code is not None:
            self._pump_soon()

    def left(self) -> None:
        """Learn that the client has reset the stream, or that its connection is gone."""
        self._out.clear()
        self.call.caller_left()
        self._finish()

    # -- from the call ------------------------------------------------------------------------------------------------

    def send_headers(self, headers: Headers, *, ended: bool) -> None:
        """Send them, after what waits."""
        self._out.append((headers, 0, ended))
        self._pump_soon()

    def send_data(self, data: bytes, size: int, *, ended: bool) -> None:
        """Send it, after what waits."""
        self._out.append((data, size, ended))
        self._pump_soon()

    def reset(self, code: int) -> None:
        """End the stream, after what waits."""
        self._reset_code = code
        self._pump_soon()

    def give_back(self, size: int) -> None:
        """Let the client send as much again."""
        size += self._slack
        self._slack = 0
        self._forget_held(size)
        self.open_stream_window(size)

    # -- sending ------------------------------------------------------------------------------------------------------

    def _pump_soon(self) -> None:
        # After everything that has come at once: an answer of three frames goes out in one write.
        if not self._pumping and not self._over:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        if self._over:
            return
        if not self.usable:
            self.left()
            return
        taken, over = self._write_out()
        if self._reset_code is not None and not self._out:
            self.write_reset(self._reset_code)
            over = True
        elif over:
            self.write_reset(0)  # if the client has not ended its side: nothing more of it is read
        self.flush()
        if over:
            self._finish()
        elif taken:
            self.call.answer_taken(taken)

    def _write_out(self) -> tuple[int, bool]:
        """Write what the client takes now; return what that took of the runtime's window, and whether all is out."""
        taken = 0
        while self._out and self.socket_takes:
            piece, size, ended = self._out.popleft()
            if isinstance(piece, list):
                self.write_headers(piece, ended=ended)
            else:
                sent = self.write_data(piece, ended=ended)
                if sent < len(piece):
                    self._out.appendleft((piece[sent:], size - sent, ended))
                    size, ended = sent, False
                taken += size
                self._limits.answered(size)
                if not size and piece:
                    break
            if ended:
                return taken, True
        return taken, False

    # -- the end ------------------------------------------------------------------------------------------------------

    def _call_ended(self, status: Status) -> None:
        self._status = status

    def _forget_held(self, size: int) -> None:
        size = min(size, self._held_here)
        self._held.size -= size
        self._held_here -= size
        owed = min(size, self._owed)
        if owed:
            self._owed -= owed
            self.open_connection_window(owed)

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self._forget_held(self._held_here)
        self._release()
        if self._status is not None:
            self._ended(self, self._status)

"""Takes complete, ordinary calls out of what a client has sent, and answers those at once that can be.

A read of the socket is cut into frames only as far as that goes without knowing anything; whatever is not HEADERS with
the DATA frame that ends the request, or a ping or an update of the connection's window, goes to h2 as it came, in its
order, and so does every call about which anything is out of the ordinary. h2 sees a client that has sent a little less,
and a stream that has been opened and closed.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from h2.connection import ConnectionState
from h2.stream import StreamClosedBy
from hyperframe.frame import WindowUpdateFrame

from criimage.server.http2.hot.header_blocks import BlockDecoder
from criimage.server.http2.hot.replies import MESSAGE_HEAD, fits, flush_open, write_reply
from criimage.server.http2.hot.rest import END_HEADERS, HEAD, HEADERS, PING, WINDOW_UPDATE, rest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpclib.protocol import Connection

    from criimage.server.calls.connection_calls import ConnectionCalls
    from criimage.server.calls.method import Method
    from criimage.server.http2.hot.header_blocks import Fields
    from criimage.server.http2.hot.rest import Rest
    from criimage.server.http2.limits import ConnectionLimits

__all__ = ["Reads"]

LARGEST_WINDOW = 2**31 - 1
"""What HTTP/2 allows."""

_OF_CONNECTION = bytes(5)
"""No flags, and the stream 0."""
_OF_CONNECTION_SIZE = len(_OF_CONNECTION)
_INCREMENT_SIZE, _PING_SIZE = 4, 8
_PING_ANSWER = bytes((0, 0, _PING_SIZE, PING, 0x1, 0, 0, 0, 0))
_TOGETHER = 2**16
"""Bytes of answers that are collected before they are written: afterwards the socket says whether it takes more."""

_CONTENT_TYPES = frozenset({b"application/grpc", b"application/grpc+proto"})
_TIMEOUT = re.compile(rb"0*[1-9][0-9]*[HMSmun]")
# What the long way looks at beside these: a body's length, compression, an answer instead of a request.
_ODD = frozenset({b"content-length", b"grpc-encoding", b":status"})


class Reads:
    """What comes on one connection.

    Args:
        connection: grpclib's.
        calls: of this connection.
        limits: of this connection; they have counted what is taken here.
        long_way: feeds bytes to grpclib and h2.
        window_opened: tells the streams under way that the connection's window has become larger.
    """

    def __init__(
        self,
        connection: Connection,
        calls: ConnectionCalls,
        limits: ConnectionLimits,
        long_way: Callable[[bytes], None],
        window_opened: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._h2 = connection._connection
        self._calls = calls
        self._limits = limits
        self._long_way = long_way
        self._window_opened = window_opened
        self._usual = False
        self._known: dict[bytes, Method] = {}
        self._changes = -1
        self._window: int | None = None
        self._odd = _ODD | calls.reads_headers
        self._flush = partial(flush_open, connection)

    def take(self, data: bytes) -> None:  # noqa: C901 - frame by frame: few calls in between
        """Take what has been read from the socket."""
        if not self._is_usual():
            self._leave(data)
            return
        self._usual = True
        left = place = 0
        end = len(data)
        taken: dict[int, int] = {}
        while end - place >= HEAD and self._usual:
            body = place + HEAD + (data[place] << 16 | data[place + 1] << 8 | data[place + 2])
            kind = data[place + 3]
            if kind == HEADERS:
                rest = None
                if data[place + 4] == END_HEADERS:
                    rest = rest_of(data, data[place + 5 : place + HEAD], body, end)
                if rest is not None and self._left(data[left:place]):
                    self._call(data, place, body, rest)
                    left = body
                    if rest.together:
                        left = body = rest.end
                    else:
                        taken |= {rest.data: rest.end, **dict(rest.updates)}
            elif place in taken:
                # Of a request that has been answered, or left, already.
                self._left(data[left:place])
                left = body
            elif left == place and body <= end and self._of_connection(kind, data[place + 4 : body]):
                left = body
            place = body
        for begin in sorted(taken):
            if begin >= left:
                self._leave(data[left:begin])
                left = taken[begin]
        if left < end:
            self._leave(data[left:])
        else:
            self._flush()

    def _is_usual(self) -> bool:
        """Whether the next byte begins a frame that may mean what it says."""
        buffer = self._h2.incoming_buffer
        if buffer._data or buffer._headers_buffer or self._connection.is_closing():
            return False
        return self._h2.state_machine.state is ConnectionState.SERVER_OPEN

    def _leave(self, data: bytes) -> None:
        if self._connection.is_closing():
            return
        if self._h2._data_to_send:
            # It may end the connection: what is answered goes out before.
            self._connection.flush()
        self._long_way(data)
        # It may have changed any setting.
        self._window = None
        self._usual = self._is_usual()

    def _left(self, data: bytes) -> bool:
        """Leave what comes before, if anything does; False if nothing may be taken after that."""
        if data:
            self._leave(data)
        return self._usual

    def _of_connection(self, kind: int, frame: bytes) -> bool:
        """Take a frame that concerns the connection only, from its flags on; False if it is to be left."""
        h2 = self._h2
        if frame[:_OF_CONNECTION_SIZE] != _OF_CONNECTION:
            return False
        body = frame[_OF_CONNECTION_SIZE:]
        if kind == PING and len(body) == _PING_SIZE:
            h2._data_to_send += _PING_ANSWER + body
            return True
        increment = int.from_bytes(body, "big") & LARGEST_WINDOW
        window = h2.outbound_flow_control_window + increment
        if kind != WINDOW_UPDATE or len(body) != _INCREMENT_SIZE or not increment or window > LARGEST_WINDOW:
            return False
        h2.outbound_flow_control_window = window
        self._window_opened()
        return True

    def _call(self, data: bytes, place: int, body: int, rest: Rest) -> None:  # noqa: C901 - the hottest of all: one way through, few calls in between
        """Answer a complete call, or leave it to h2."""
        h2 = self._h2
        stream = int.from_bytes(data[place + 5 : place + HEAD], "big")
        block, message = data[place + HEAD : body], data[rest.data + HEAD + MESSAGE_HEAD : rest.end]
        prefix = data[rest.data + HEAD : rest.data + HEAD + MESSAGE_HEAD]
        size = len(message) + MESSAGE_HEAD
        decoder = h2.decoder
        if self._window is None:
            self._window = h2.remote_settings.initial_window_size
        window = self._window + rest.opened
        if (
            stream <= h2.highest_inbound_stream_id
            or not stream & 1
            or stream > h2.HIGHEST_ALLOWED_STREAM_ID
            or len(prefix) < MESSAGE_HEAD
            or prefix[0]
            or int.from_bytes(prefix[1:], "big") != len(message)
            or max(len(block), size) > h2.max_inbound_frame_size
            or size > h2._inbound_flow_control_window_manager.current_window_size
            or window > LARGEST_WINDOW
            or not self._connection.write_ready.is_set()
            or not isinstance(decoder, BlockDecoder)
        ):
            self._leave(_frames(data, place, body, rest))
            return
        fields: Fields | None = None
        method = self._known.get(block) if decoder.changes == self._changes else None
        if method is None:
            try:
                fields = decoder.read(block)
            except Exception as error:  # noqa: BLE001 - it is h2's to judge
                decoder.read_again(error)
                self._leave(_frames(data, place, body, rest))
                return
            method = self._method(fields)
            if decoder.changes != self._changes:
                self._known.clear()
                self._changes = decoder.changes
            if method is not None and decoder.keeps(block):
                # Kept blocks are few, and change nothing when they come again.
                self._known[block] = method
        begun = None if method is None else self._calls.begin(method, message)
        if begun is None or method is None:
            if fields is not None:
                decoder.read_again(fields)
            self._leave(_frames(data, place, body, rest))
            return
        reply = begun.result
        if not begun.ended or reply is None or not fits(h2, len(reply), window):
            if fields is not None:
                decoder.read_again(fields)
            self._calls.go_on(begun, lambda: self._leave(_frames(data, place, body, rest)))
            return
        self._open_and_close(stream, size)
        self._limits.answered(len(reply))
        write_reply(h2, stream, reply, self._flush)
        if len(h2._data_to_send) > _TOGETHER:
            self._connection.flush()
        self._limits.ended(stream)
        self._calls.answered(method, begun)

    def _method(self, fields: Fields) -> Method | None:
        """Return the method that an ordinary request asks for."""
        headers = dict(fields)
        method = self._calls.at_once.get(headers.get(b":path", b""))
        if method is None or headers.get(b":method") != b"POST" or headers.get(b"content-type") not in _CONTENT_TYPES:
            return None
        if not self._odd.isdisjoint(headers) or any(name.endswith(b"-bin") for name in headers):
            return None
        timeout = headers.get(b"grpc-timeout")
        if timeout is not None and (_TIMEOUT.fullmatch(timeout) is None or len(timeout) > 9):
            return None
        return method

    def _open_and_close(self, stream: int, size: int) -> None:
        """Leave h2 as after a stream whose request had `size` bytes, and whose answer has been sent."""
        h2 = self._h2
        h2.highest_inbound_stream_id = stream
        h2._closed_streams[stream] = StreamClosedBy.SEND_END_STREAM
        window = h2._inbound_flow_control_window_manager
        window.window_consumed(size)
        increment = window.process_bytes(size)
        if increment:
            h2._prepare_for_sending([WindowUpdateFrame(0, window_increment=increment)])


def _frames(data: bytes, place: int, body: int, rest: Rest) -> bytes:
    """Return all frames of one request."""
    if rest.together:
        return data[place : rest.end]
    updates = [data[begin:end] for begin, end in rest.updates]
    return b"".join((data[place:body], *updates, data[rest.data : rest.end]))

"""Takes complete, ordinary calls out of what a client has sent, and answers those at once that can be.

A read of the socket is cut into frames only as far as that goes without knowing anything; whatever is not HEADERS and
the DATA frame that ends the request goes to h2 as it came, in its order, and so does every call about which anything is
out of the ordinary. h2 sees a client that has sent a little less, and a stream that has been opened and closed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from h2.connection import ConnectionState
from h2.stream import StreamClosedBy
from hyperframe.frame import WindowUpdateFrame

from criimage.server.hot.header_blocks import BlockDecoder
from criimage.server.hot.replies import fits, write_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpclib.protocol import Connection

    from criimage.server.calls import ConnectionCalls, Method
    from criimage.server.hot.header_blocks import Fields
    from criimage.server.limits import ConnectionLimits

__all__ = ["Reads"]

_HEAD = 9
_DATA, _HEADERS = 0, 1
_END_STREAM, _END_HEADERS = 0x1, 0x4
_MESSAGE_HEAD = 5
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
    """

    def __init__(
        self,
        connection: Connection,
        calls: ConnectionCalls,
        limits: ConnectionLimits,
        long_way: Callable[[bytes], None],
    ) -> None:
        self._connection = connection
        self._h2 = connection._connection
        self._calls = calls
        self._limits = limits
        self._long_way = long_way
        self._known: dict[bytes, Method] = {}
        self._changes = -1
        self._window: int | None = None

    def take(self, data: bytes) -> None:
        """Take what has been read from the socket."""
        buffer = self._h2.incoming_buffer
        if buffer._data or buffer._headers_buffer or self._h2.state_machine.state is not ConnectionState.SERVER_OPEN:
            # In the midst of a frame, of headers, or of the connection's beginning or end.
            self._leave(data)
            return
        start = position = 0
        end = len(data)
        while end - position >= _HEAD:
            body = position + _HEAD + (data[position] << 16 | data[position + 1] << 8 | data[position + 2])
            call_end = self._end_of_call(data, position, body, end)
            if not call_end:
                position = body
                continue
            if start < position:
                self._leave(data[start:position])
                if self._connection.is_closing():
                    return
            self._call(data[position:call_end], body - position)
            if self._connection.is_closing():
                return
            start = position = call_end
        if start < end:
            self._leave(data[start:])
        else:
            self._connection.flush()

    @staticmethod
    def _end_of_call(data: bytes, position: int, body: int, end: int) -> int:
        """Return where the call ends whose HEADERS frame begins at `position`; 0 if they are not two whole frames."""
        if data[position + 3] != _HEADERS or data[position + 4] != _END_HEADERS or end - body < _HEAD:
            return 0
        if data[body + 3] != _DATA or data[body + 4] != _END_STREAM:
            return 0
        if data[position + 5 : position + _HEAD] != data[body + 5 : body + _HEAD]:
            return 0
        call_end = body + _HEAD + (data[body] << 16 | data[body + 1] << 8 | data[body + 2])
        return call_end if call_end <= end else 0

    def _leave(self, data: bytes) -> None:
        # It may change any setting.
        self._window = None
        self._long_way(data)

    def _call(self, frames: bytes, body: int) -> None:  # noqa: C901 - the hottest of all: one way through, no calls in between
        """Answer a call of two whole frames, or leave it to h2."""
        h2 = self._h2
        stream = int.from_bytes(frames[5:_HEAD], "big")
        block, message = frames[_HEAD:body], frames[body + _HEAD + _MESSAGE_HEAD :]
        prefix = frames[body + _HEAD : body + _HEAD + _MESSAGE_HEAD]
        size = len(message) + _MESSAGE_HEAD
        if (
            stream <= h2.highest_inbound_stream_id
            or not stream & 1
            or stream > h2.HIGHEST_ALLOWED_STREAM_ID
            or len(prefix) < _MESSAGE_HEAD
            or prefix[0]
            or int.from_bytes(prefix[1:], "big") != len(message)
            or max(len(block), size) > h2.max_inbound_frame_size
            or size > h2._inbound_flow_control_window_manager.current_window_size
            or not self._connection.write_ready.is_set()
        ):
            self._leave(frames)
            return
        decoder = h2.decoder
        if not isinstance(decoder, BlockDecoder):
            self._leave(frames)
            return
        fields: Fields | None = None
        method = self._known.get(block) if decoder.changes == self._changes else None
        if method is None:
            fields = decoder.read(block)
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
            self._leave(frames)
            return
        if self._window is None:
            self._window = h2.remote_settings.initial_window_size
        reply = begun.result
        if not begun.ended or reply is None or not fits(h2, len(reply), self._window):
            if fields is not None:
                decoder.read_again(fields)
            self._calls.go_on(begun, lambda: self._leave(frames))
            return
        self._open_and_close(stream, size)
        self._limits.answered(len(reply))
        write_reply(h2, stream, reply)
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
        if not _ODD.isdisjoint(headers) or any(name.endswith(b"-bin") for name in headers):
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

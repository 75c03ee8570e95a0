"""A client's HTTP/2 connection without a socket: bytes and calls in, events and bytes out (RFC 9113).

Written for gRPC over one unix socket and nothing else: no push, no priorities, no table of headers. It is this small,
and not h2, because a relayed call goes through it and through h2 as well: with h2 on both sides it cost more than twice
as much. Streams share one rule of flow control: the connection's window is given back as soon as bytes come, a
stream's own only when its reader has taken them, so that a stream that stalls holds up nobody else and holds no more
than its window.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from criimage.channel import frames
from criimage.channel.events import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    DataCame,
    Goodbye,
    HeadersCame,
    PingCame,
    Ready,
    Taken,
    WasReset,
)
from criimage.channel.frames import FRAME_SIZE, FrameReader, ProtocolFault, frame, without_padding
from criimage.channel.header_blocks import BLOCK_LIMIT, NO_TABLE, BlockDecoder, Headers, TooManyHeaders, encode_block
from criimage.channel.sending import DEFAULT_WINDOW, WINDOW_LIMIT, Sender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from criimage.channel.events import Event

__all__ = ["STREAM_WINDOW", "ClientConnection"]

STREAM_WINDOW = 2**16
"""How many bytes of one answer may be on their way or unread here."""

_CONNECTION_WINDOW = 2**24
_LAST_STREAM = 2**31 - 1
_FRAME_SIZES = range(FRAME_SIZE, 2**24)

_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MAX_STREAMS, _INITIAL_WINDOW, _MAX_FRAME, _MAX_HEADERS = range(1, 7)

PING_SIZE = 8


class _Answer:
    """What has come of one call's answer."""

    __slots__ = ("headed", "unacknowledged", "window")

    def __init__(self) -> None:
        self.window = STREAM_WINDOW
        self.unacknowledged = 0
        self.headed = False


class ClientConnection:
    """The state of one connection.

    Attributes:
        ready: whether the handshake is over.
        going: whether the peer has said goodbye, or no stream numbers are left.
        max_streams: how many calls the peer takes at once.
    """

    def __init__(self) -> None:
        self.ready = False
        self.going = False
        self.max_streams = _LAST_STREAM
        self._out: list[bytes] = []
        self._reader = FrameReader()
        self._decoder = BlockDecoder()
        self._sender = Sender(self._out)
        self._answers: dict[int, _Answer] = {}
        self._next = 1
        self._unacknowledged = 0
        self._block: tuple[int, int, list[bytes], int] | None = None
        self._act = {
            frames.DATA: self._data,
            frames.HEADERS: self._headers,
            frames.RST_STREAM: self._reset,
            frames.SETTINGS: self._settings,
            frames.PUSH_PROMISE: self._push,
            frames.PING: self._ping,
            frames.GOAWAY: self._goaway,
            frames.WINDOW_UPDATE: self._window_update,
            frames.CONTINUATION: self._continuation,
        }
        settings = frames.settings_payload(
            {
                _HEADER_TABLE_SIZE: 0,
                _ENABLE_PUSH: 0,
                _INITIAL_WINDOW: STREAM_WINDOW,
                _MAX_HEADERS: BLOCK_LIMIT,
            }
        )
        self._out += [frames.PREFACE, frame(frames.SETTINGS, 0, 0, settings)]
        self._give_window(0, _CONNECTION_WINDOW - DEFAULT_WINDOW)

    # -- what is asked of it ------------------------------------------------------------------------------------------

    @property
    def open_streams(self) -> int:
        """How many calls are under way."""
        return len(self._answers)

    @property
    def has_room(self) -> bool:
        """Whether a call can begin now."""
        return self.ready and not self.going and len(self._answers) < self.max_streams

    def to_send(self) -> bytes:
        """Return the bytes that are to go out now, once."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def begin(self, headers: Headers, *, ended: bool = False) -> int:
        """Begin a call and return its stream; only while there is room."""
        stream_id = self._next
        self._next += 2
        if self._next > _LAST_STREAM:
            self.going = True
        self._answers[stream_id] = _Answer()
        block = encode_block(headers)
        if stream_id == 1:
            # Once and for all: a peer that allows a smaller table than usual wants that confirmed (RFC 7541 4.2).
            block = NO_TABLE + block
        self._out.append(frames.header_frames(stream_id, block, ended=ended, limit=self._sender.frame_limit))
        self._sender.begin(stream_id, ended=ended)
        return stream_id

    def send(self, stream_id: int, data: bytes, *, ended: bool) -> int:
        """Send a piece of the request, or keep it until the windows allow; return how many bytes went out at once.

        What goes out later is told by Taken. A stream that is over takes no more, without a word.
        """
        return self._sender.send(stream_id, data, ended=ended)

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Give back the window of bytes that have been taken."""
        answer = self._answers.get(stream_id)
        if answer is None:
            return
        answer.unacknowledged += size
        if answer.unacknowledged * 2 >= STREAM_WINDOW:
            answer.window += answer.unacknowledged
            self._give_window(stream_id, answer.unacknowledged)
            answer.unacknowledged = 0

    def reset(self, stream_id: int, code: int = CANCEL) -> None:
        """End a call; nothing more is told of it."""
        if self._answers.pop(stream_id, None) is not None:
            self._sender.end(stream_id)
            self._out.append(frame(frames.RST_STREAM, 0, stream_id, struct.pack(">I", code)))

    def ping(self) -> None:
        """Ask whether the peer is there."""
        self._out.append(frame(frames.PING, 0, 0, bytes(PING_SIZE)))

    def let_write(self, may: bool) -> list[Taken]:
        """Hold back data while the socket takes none."""
        return self._sender.let_write(may)

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer and return what they tell.

        Raises:
            ProtocolFault: the connection is of no use any more; what came before that is in its `events`.
        """
        events: list[Event] = []
        try:
            self._take(data, events)
        except ProtocolFault as fault:
            fault.events = events
            raise
        return events

    def _take(self, data: bytes, events: list[Event]) -> None:
        for kind, flags, stream_id, payload in self._reader.feed(data):
            if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block[0]):
                raise ProtocolFault("a header block was interrupted")
            if not self.ready and kind != frames.SETTINGS:
                raise ProtocolFault("the peer does not begin with its settings")
            act = self._act.get(kind)
            if act is not None:
                events.extend(act(flags, stream_id, payload))

    # -- what comes in ------------------------------------------------------------------------------------------------

    def _data(self, flags: int, stream_id: int, payload: bytes) -> Iterator[Event]:
        size = len(payload)
        self._unacknowledged += size
        if self._unacknowledged * 2 >= _CONNECTION_WINDOW:
            self._give_window(0, self._unacknowledged)
            self._unacknowledged = 0
        answer = self._known(stream_id)
        if answer is None:
            return
        if flags & frames.PADDED:
            payload = without_padding(flags & frames.PADDED, payload)
        answer.window -= size
        if answer.window < 0:
            yield self._fault(stream_id, FLOW_CONTROL_ERROR, "the peer sent more than its window allows")
            return
        if not answer.headed:
            yield self._fault(stream_id, PROTOCOL_ERROR, "the peer sent data before its headers")
            return
        ended = bool(flags & frames.END_STREAM)
        if ended:
            self._end(stream_id)
        elif not payload:
            # Tells nothing, and no window bounds how many of these come.
            self.acknowledge(stream_id, size)
            return
        yield DataCame(stream_id, payload, size, ended)

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> Iterator[Event]:
        self._known(stream_id)
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            payload = without_padding(flags, payload)
        if flags & frames.END_HEADERS:
            return self._block_came(stream_id, flags, payload)
        self._block = (stream_id, flags, [payload], len(payload))
        return iter(())

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> Iterator[Event]:
        if self._block is None:
            raise ProtocolFault("a header block goes on that has not begun")
        _, first, parts, size = self._block
        # Of a block that is too large only so much is kept that this can be seen.
        if payload and size <= BLOCK_LIMIT:
            parts.append(payload)
        self._block = (stream_id, first, parts, size + len(payload))
        if not flags & frames.END_HEADERS:
            return iter(())
        self._block = None
        return self._block_came(stream_id, first, b"".join(parts))

    def _block_came(self, stream_id: int, flags: int, block: bytes) -> Iterator[Event]:
        answer = self._known(stream_id)
        if answer is None:
            return
        try:
            headers = self._decoder.decode(block)
        except TooManyHeaders:
            yield self._fault(stream_id, ENHANCE_YOUR_CALM, f"the peer sent headers of more than {BLOCK_LIMIT} bytes")
            return
        ended = bool(flags & frames.END_STREAM)
        if not answer.headed and not ended and _informational(headers):
            return
        if answer.headed and not ended:
            yield self._fault(stream_id, PROTOCOL_ERROR, "the peer sent trailers and did not end")
            return
        answer.headed = True
        if ended:
            self._end(stream_id)
        yield HeadersCame(stream_id, headers, ended)

    def _reset(self, _flags: int, stream_id: int, payload: bytes) -> Iterator[Event]:
        if len(payload) != 4:
            raise ProtocolFault("a reset of a wrong size")
        if self._known(stream_id) is not None:
            self._forget(stream_id)
            yield WasReset(stream_id, int.from_bytes(payload, "big"), "")

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> Iterator[Event]:
        if flags & frames.ACK:
            return
        if stream_id or len(payload) % 6:
            raise ProtocolFault("settings of a wrong size")
        for key, value in struct.iter_unpack(">HI", payload):
            self._set(key, value)
        self._out.append(frame(frames.SETTINGS, frames.ACK, 0))
        if not self.ready:
            self.ready = True
            yield Ready()
        yield from self._sender.push_all()

    def _set(self, key: int, value: int) -> None:
        if key == _MAX_STREAMS:
            self.max_streams = value
        elif key == _INITIAL_WINDOW:
            self._sender.set_first_window(value)
        elif key == _MAX_FRAME:
            if value not in _FRAME_SIZES:
                raise ProtocolFault("a frame size that HTTP/2 does not have")
            self._sender.frame_limit = value

    def _push(self, _flags: int, _stream_id: int, _payload: bytes) -> Iterator[Event]:
        raise ProtocolFault("the peer pushes, which it was told not to do")

    def _ping(self, flags: int, _stream_id: int, payload: bytes) -> Iterator[Event]:
        if len(payload) != PING_SIZE:
            raise ProtocolFault("a PING of a wrong size")
        if flags & frames.ACK:
            yield PingCame()
        else:
            self._out.append(frame(frames.PING, frames.ACK, 0, payload))

    def _goaway(self, _flags: int, _stream_id: int, payload: bytes) -> Iterator[Event]:
        if len(payload) < PING_SIZE:
            raise ProtocolFault("a GOAWAY of a wrong size")
        last, code = struct.unpack_from(">II", payload)
        last &= _LAST_STREAM
        self.going = True
        yield Goodbye(last, code, payload[8:200].decode("utf-8", "replace"))
        for stream_id in [one for one in self._answers if one > last]:
            self._forget(stream_id)
            yield WasReset(stream_id, REFUSED_STREAM, "")

    def _window_update(self, _flags: int, stream_id: int, payload: bytes) -> Iterator[Event]:
        if len(payload) != 4:
            raise ProtocolFault("a window of a wrong size")
        size = int.from_bytes(payload, "big") & WINDOW_LIMIT
        if stream_id == 0:
            yield from self._sender.open_connection(size)
        elif self._known(stream_id) is not None:
            sent = self._sender.open_stream(stream_id, size)
            if sent is None:
                yield self._fault(stream_id, FLOW_CONTROL_ERROR, "the stream's window goes wrong")
            elif sent:
                yield Taken(stream_id, sent)

    def _known(self, stream_id: int) -> _Answer | None:
        """Return the answer of a call under way, or None for one that is over."""
        answer = self._answers.get(stream_id)
        if answer is None and (stream_id >= self._next or not stream_id & 1):
            raise ProtocolFault(f"stream {stream_id} was never opened")
        return answer

    def _fault(self, stream_id: int, code: int, text: str) -> Event:
        self.reset(stream_id, code)
        return WasReset(stream_id, code, text)

    def _end(self, stream_id: int) -> None:
        if not self._forget(stream_id):
            # The answer is complete without all of the request: the rest is not wanted.
            self._out.append(frame(frames.RST_STREAM, 0, stream_id, struct.pack(">I", NO_ERROR)))

    def _forget(self, stream_id: int) -> bool:
        """Let a call go; return whether all of its request has gone out."""
        del self._answers[stream_id]
        return self._sender.end(stream_id)

    def _give_window(self, stream_id: int, size: int) -> None:
        self._out.append(frame(frames.WINDOW_UPDATE, 0, stream_id, struct.pack(">I", size)))


def _informational(headers: Headers) -> bool:
    return any(name == b":status" and value.startswith(b"1") for name, value in headers)

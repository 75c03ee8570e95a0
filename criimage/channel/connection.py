"""A client's HTTP/2 connection without a socket: bytes and calls in, events and bytes out (RFC 9113).

Written for gRPC over one unix socket and nothing else: no push, no priorities, no table of headers. It is this small,
and not h2, because a relayed call goes through it and through h2 as well: with h2 on both sides it cost more than twice
as much. Streams share one rule of flow control: the connection's window is given back as soon as bytes come, a
stream's own only when its reader has taken them, so that a stream that stalls holds up nobody else and holds no more
than its window.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from criimage.channel import frames
from criimage.channel.frames import FRAME_SIZE, FrameReader, ProtocolFault, frame, without_padding
from criimage.channel.header_blocks import BLOCK_LIMIT, BlockDecoder, Headers, TooManyHeaders, encode_block

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CANCEL",
    "ClientConnection",
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

STREAM_WINDOW = 2**16
"""How many bytes of one answer may be on their way or unread here."""

_CONNECTION_WINDOW = 2**24
_DEFAULT_WINDOW = 65_535
_WINDOW_LIMIT = 2**31 - 1
_LAST_STREAM = 2**31 - 1
_FRAME_SIZES = range(FRAME_SIZE, 2**24)

_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MAX_STREAMS, _INITIAL_WINDOW, _MAX_FRAME, _MAX_HEADERS = range(1, 7)

PING_SIZE = 8


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


class _Stream:
    __slots__ = ("ending", "headed", "inbound", "outbound", "pending", "sent_end", "unacknowledged")

    def __init__(self, outbound: int) -> None:
        self.outbound = outbound
        self.inbound = STREAM_WINDOW
        self.unacknowledged = 0
        self.pending: deque[bytes | memoryview] = deque()
        self.ending = False
        self.sent_end = False
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
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._window = _DEFAULT_WINDOW
        self._initial_window = _DEFAULT_WINDOW
        self._frame_limit = FRAME_SIZE
        self._unacknowledged = 0
        self._block: tuple[int, int, list[bytes], int] | None = None
        self._waiting: dict[int, None] = {}
        self._may_write = True
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
        self._give_window(0, _CONNECTION_WINDOW - _DEFAULT_WINDOW)

    # -- what is asked of it ------------------------------------------------------------------------------------------

    @property
    def open_streams(self) -> int:
        """How many calls are under way."""
        return len(self._streams)

    @property
    def has_room(self) -> bool:
        """Whether a call can begin now."""
        return self.ready and not self.going and len(self._streams) < self.max_streams

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
        stream = _Stream(self._initial_window)
        stream.ending = stream.sent_end = ended
        self._streams[stream_id] = stream
        self._out.append(frames.header_frames(stream_id, encode_block(headers), ended=ended, limit=self._frame_limit))
        return stream_id

    def send(self, stream_id: int, data: bytes, *, ended: bool) -> int:
        """Send a piece of the request, or keep it until the windows allow; return how many bytes went out at once.

        What goes out later is told by Taken. A stream that is over takes no more, without a word.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.ending:
            return 0
        stream.ending = ended
        if data:
            # A view, so that cutting a large message into frames copies each byte once.
            stream.pending.append(data if len(data) <= self._frame_limit else memoryview(data))
        return self._push_out(stream_id, stream)

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Give back the window of bytes that have been taken."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.unacknowledged += size
        if stream.unacknowledged * 2 >= STREAM_WINDOW:
            stream.inbound += stream.unacknowledged
            self._give_window(stream_id, stream.unacknowledged)
            stream.unacknowledged = 0

    def reset(self, stream_id: int, code: int = CANCEL) -> None:
        """End a call; nothing more is told of it."""
        if self._streams.pop(stream_id, None) is not None:
            self._waiting.pop(stream_id, None)
            self._out.append(frame(frames.RST_STREAM, 0, stream_id, struct.pack(">I", code)))

    def ping(self) -> None:
        """Ask whether the peer is there."""
        self._out.append(frame(frames.PING, 0, 0, bytes(PING_SIZE)))

    def let_write(self, may: bool) -> list[Event]:
        """Hold back data while the socket takes none."""
        self._may_write = may
        return self._push_out_all() if may else []

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer and return what they tell.

        Raises:
            ProtocolFault: the connection is of no use any more.
        """
        events: list[Event] = []
        for kind, flags, stream_id, payload in self._reader.feed(data):
            if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block[0]):
                raise ProtocolFault("a header block was interrupted")
            if not self.ready and kind != frames.SETTINGS:
                raise ProtocolFault("the peer does not begin with its settings")
            act = self._act.get(kind)
            if act is not None:
                events.extend(act(flags, stream_id, payload))
        return events

    # -- what comes in ------------------------------------------------------------------------------------------------

    def _data(self, flags: int, stream_id: int, payload: bytes) -> Iterator[Event]:
        size = len(payload)
        self._unacknowledged += size
        if self._unacknowledged * 2 >= _CONNECTION_WINDOW:
            self._give_window(0, self._unacknowledged)
            self._unacknowledged = 0
        stream = self._known(stream_id)
        if stream is None:
            return
        if flags & frames.PADDED:
            payload = without_padding(flags & frames.PADDED, payload)
        stream.inbound -= size
        if stream.inbound < 0:
            yield self._fault(stream_id, FLOW_CONTROL_ERROR, "the peer sent more than its window allows")
            return
        if not stream.headed:
            yield self._fault(stream_id, PROTOCOL_ERROR, "the peer sent data before its headers")
            return
        ended = bool(flags & frames.END_STREAM)
        if ended:
            self._end(stream_id, stream)
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
        size += len(payload)
        # Of a block that is too large only so much is kept that this can be seen.
        if size - len(payload) <= BLOCK_LIMIT:
            parts.append(payload)
        self._block = (stream_id, first, parts, size)
        if not flags & frames.END_HEADERS:
            return iter(())
        self._block = None
        return self._block_came(stream_id, first, b"".join(parts))

    def _block_came(self, stream_id: int, flags: int, block: bytes) -> Iterator[Event]:
        stream = self._known(stream_id)
        if stream is None:
            return
        try:
            headers = self._decoder.decode(block)
        except TooManyHeaders:
            yield self._fault(stream_id, ENHANCE_YOUR_CALM, f"the peer sent headers of more than {BLOCK_LIMIT} bytes")
            return
        ended = bool(flags & frames.END_STREAM)
        if not stream.headed and not ended and _informational(headers):
            return
        if stream.headed and not ended:
            yield self._fault(stream_id, PROTOCOL_ERROR, "the peer sent trailers and did not end")
            return
        stream.headed = True
        if ended:
            self._end(stream_id, stream)
        yield HeadersCame(stream_id, headers, ended)

    def _reset(self, _flags: int, stream_id: int, payload: bytes) -> Iterator[Event]:
        if len(payload) != 4:
            raise ProtocolFault("a reset of a wrong size")
        if self._known(stream_id) is not None:
            del self._streams[stream_id]
            self._waiting.pop(stream_id, None)
            yield WasReset(stream_id, int.from_bytes(payload, "big"), "")

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> Iterator[Event]:
        if flags & frames.ACK:
            return iter(())
        if stream_id or len(payload) % 6:
            raise ProtocolFault("settings of a wrong size")
        for key, value in struct.iter_unpack(">HI", payload):
            self._set(key, value)
        self._out.append(frame(frames.SETTINGS, frames.ACK, 0))
        events = self._push_out_all()
        if not self.ready:
            self.ready = True
            events.insert(0, Ready())
        return iter(events)

    def _set(self, key: int, value: int) -> None:
        if key == _MAX_STREAMS:
            self.max_streams = value
        elif key == _INITIAL_WINDOW:
            if value > _WINDOW_LIMIT:
                raise ProtocolFault("a window that is too large")
            for stream in self._streams.values():
                stream.outbound += value - self._initial_window
            self._initial_window = value
        elif key == _MAX_FRAME:
            if value not in _FRAME_SIZES:
                raise ProtocolFault("a frame size that HTTP/2 does not have")
            self._frame_limit = value

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
        self.going = True
        yield Goodbye(last & _LAST_STREAM, code, payload[8:200].decode("utf-8", "replace"))
        for stream_id in [one for one in self._streams if one > last]:
            del self._streams[stream_id]
            self._waiting.pop(stream_id, None)
            yield WasReset(stream_id, REFUSED_STREAM, "")

    def _window_update(self, _flags: int, stream_id: int, payload: bytes) -> Iterator[Event]:
        if len(payload) != 4:
            raise ProtocolFault("a window of a wrong size")
        size = int.from_bytes(payload, "big") & _WINDOW_LIMIT
        if stream_id == 0:
            self._window += size
            if not size or self._window > _WINDOW_LIMIT:
                raise ProtocolFault("the connection's window goes wrong")
            yield from self._push_out_all()
            return
        stream = self._known(stream_id)
        if stream is None:
            return
        stream.outbound += size
        if not size or stream.outbound > _WINDOW_LIMIT:
            yield self._fault(stream_id, FLOW_CONTROL_ERROR, "the stream's window goes wrong")
            return
        sent = self._push_out(stream_id, stream)
        if sent:
            yield Taken(stream_id, sent)

    def _known(self, stream_id: int) -> _Stream | None:
        """Return a stream under way, or None for one that is over."""
        stream = self._streams.get(stream_id)
        if stream is None and (stream_id >= self._next or not stream_id & 1):
            raise ProtocolFault(f"stream {stream_id} was never opened")
        return stream

    def _fault(self, stream_id: int, code: int, text: str) -> Event:
        self.reset(stream_id, code)
        return WasReset(stream_id, code, text)

    def _end(self, stream_id: int, stream: _Stream) -> None:
        del self._streams[stream_id]
        self._waiting.pop(stream_id, None)
        if not stream.sent_end:
            # The answer is complete without all of the request: the rest is not wanted.
            self._out.append(frame(frames.RST_STREAM, 0, stream_id, struct.pack(">I", NO_ERROR)))

    # -- what goes out ------------------------------------------------------------------------------------------------

    def _give_window(self, stream_id: int, size: int) -> None:
        self._out.append(frame(frames.WINDOW_UPDATE, 0, stream_id, struct.pack(">I", size)))

    def _push_out_all(self) -> list[Event]:
        # In the order in which they began to wait; one that still waits afterwards goes to the end, so none starves.
        taken: list[Event] = []
        for stream_id in list(self._waiting):
            sent = self._push_out(stream_id, self._streams[stream_id])
            if sent:
                taken.append(Taken(stream_id, sent))
        return taken

    def _push_out(self, stream_id: int, stream: _Stream) -> int:
        sent, pending = 0, stream.pending
        self._waiting.pop(stream_id, None)
        while pending and self._may_write:
            room = min(stream.outbound, self._window, self._frame_limit)
            if room <= 0:
                break
            data = pending[0]
            if len(data) > room:
                pending[0] = data[room:]
                data = data[:room]
            else:
                pending.popleft()
            size = len(data)
            stream.outbound -= size
            self._window -= size
            sent += size
            stream.sent_end = stream.ending and not pending
            self._out.append(frame(frames.DATA, frames.END_STREAM if stream.sent_end else 0, stream_id, data))
        if pending:
            self._waiting[stream_id] = None
        elif stream.ending and not stream.sent_end:
            stream.sent_end = True
            self._out.append(frame(frames.DATA, frames.END_STREAM, stream_id))
        return sent


def _informational(headers: Headers) -> bool:
    return any(name == b":status" and value.startswith(b"1") for name, value in headers)

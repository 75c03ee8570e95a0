"""Cures for faults of grpclib 0.4.9 and h2 4.4.1 as a server.

Only this package reaches into their private parts: here for the cures, in `stream_taker` for what is passed on as it
comes, in `hot` to do what they would do in less time.

Each cure is named by what a client saw without it; tests/server has one test for each, under its number, that fails
when the cure is taken out. The versions are pinned in pyproject.toml, so an upgrade runs through those tests first.

1.  more than 100 calls at once on one connection had to wait: MAX_CONCURRENT_STREAMS is raised
2.  a reset in the same read as its headers left the stream for ever: `ConnectionCalls` in connection_calls.py releases
    every stream from a done-callback of its task, which also runs for a task that never started
3.  some 130 bytes a call stayed until the connection ended: h2 remembers fewer closed streams
4.  an unknown kind of frame ended the connection: events without a processor are passed over
5.  a header that is not ASCII ended the connection: headers are decoded as latin-1, which takes every byte
6.  a bad `-bin` header left the call unanswered, bad timeouts and messages gave UNKNOWN: call.py reads them itself
7.  a stopping server told its clients nothing: `say_goodbye` writes GOAWAY, and later calls are refused
8.  a reply took three writes: `reply_at_once` takes one, of bytes that are made in `criimage.server.http2.hot`
9.  20,000 open streams froze the server: h2 counted them all at each request; `_Connection` counts now and then
10. an empty DATA frame inside a message ended it: grpclib takes it for the end, so it is passed over
11. floods of cheap frames were taken in full: `criimage.server.http2.limits` counts bytes before h2 sees them
12. a frame that HTTP/2 forbids ended the connection without a word: `the_long_way` sends h2's GOAWAY
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, EventsProcessor, H2Protocol, Stream
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from h2.utilities import SizeLimitDict
from hpack import Encoder
from hyperframe.frame import GoAwayFrame

from criimage.logs import SparingLog
from criimage.server.http2.hot.header_blocks import BlockDecoder
from criimage.server.http2.hot.replies import flush_open, write_reply_of
from criimage.server.http2.limits import LimitReached

if TYPE_CHECKING:
    from asyncio import BaseTransport

    from h2.events import Event

    from criimage.server.http2.hot.reads import Reads
    from criimage.server.http2.limits import SharedLimits

__all__ = ["STREAM_WINDOW", "HardenedProtocol", "Headers", "has_come", "refuse", "reply_at_once"]

_log = logging.getLogger(__name__)
_cut_off = SparingLog(__name__)

CLOSED_STREAMS_REMEMBERED = 1_000
_CONNECTION_WINDOW = 64 * 2**20
STREAM_WINDOW = 4 * 2**20
"""Bytes of a request that a client may send before any of it is taken."""

Headers = list[tuple[str, str]]


class _Encoder(Encoder):
    """hpack's, which tells no change of its table's size if the same size is set once more before it could (4.2.0).

    The client would go on with a table that is not ours, and read one header for another (RFC 7541, 4.2).
    """

    @property
    def header_table_size(self) -> int:
        """Bytes that the table may have."""
        return int(self.header_table.maxsize)

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        if value != self.header_table.maxsize:
            self.table_size_changes.append(value)
        self.header_table.maxsize = value
        self.header_table.resized = bool(self.table_size_changes)


class _Connection(H2Connection):
    """h2's, with an estimate from above where it would look at every stream it has."""

    _count_at = 8

    @property
    def open_inbound_streams(self) -> int:
        """How many streams of the client are open, at most."""
        if len(self.streams) < self._count_at:
            return len(self.streams)
        count = super().open_inbound_streams  # deletes those that are closed
        # Never beyond the limit: there the true number is what decides.
        limit = int(self.local_settings.max_concurrent_streams)
        self._count_at = max(8, min(2 * len(self.streams), limit))
        return count


class _Events(EventsProcessor):
    def process(self, event: Event) -> None:
        if isinstance(event, DataReceived) and not event.data and event.stream_ended is None:
            # Padding has a size for flow control without being data.
            if event.flow_controlled_length:
                self.connection.ack(event.stream_id, event.flow_controlled_length)
            return
        # grpclib deletes the table when the connection is closed.
        processor = getattr(self, "processors", {}).get(event.__class__)
        if processor is not None:
            processor(event)


class HardenedProtocol(H2Protocol):
    """One client's connection, without the faults listed above.

    Args:
        handler: takes the connection's calls.
        limits: of all connections.

    Attributes:
        limits: of this connection.
        reads: takes what comes instead of h2, and leaves most of it to that; None where everything goes the long way.
    """

    reads: Reads | None = None

    def __init__(self, handler: AbstractHandler, limits: SharedLimits) -> None:
        self.limits = limits.connection(self.cut)
        self._streams = limits.settings.streams
        config = Configuration(
            # One stalled stream must not hold up the others on its connection (python-stack 3).
            http2_connection_window_size=_CONNECTION_WINDOW,
            http2_stream_window_size=STREAM_WINDOW,
        )
        super().__init__(handler, config.__for_server__(), _h2_configuration())

    def connection_made(self, transport: BaseTransport) -> None:
        """Set up HTTP/2 as grpclib does, then apply the cures."""
        super().connection_made(transport)
        h2 = self.connection._connection
        h2.__class__ = _Connection
        decoder = BlockDecoder()
        decoder.max_header_list_size = h2.decoder.max_header_list_size
        h2.decoder = decoder
        # Nothing has been encoded yet.
        h2.encoder = _Encoder()
        h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self._streams})
        # In force now, not when the client says so: it may open its streams before it has read this. What is above the
        # number is refused call by call; only a client that goes on is cut off.
        h2.local_settings.acknowledge()
        h2.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 2 * self._streams
        h2.local_settings.acknowledge()
        h2._closed_streams = SizeLimitDict(size_limit=CLOSED_STREAMS_REMEMBERED)
        self.connection.flush()
        self.processor = _Events(self.handler, self.connection)

    def data_received(self, data: bytes) -> None:
        """Feed bytes to HTTP/2; whatever they do to it, only this connection ends."""
        try:
            self.limits.received(data)
            if self.reads is None:
                self.the_long_way(data)
            else:
                self.reads.take(data)
        except LimitReached as reached:
            self.cut(reached.text)
        except Exception:  # noqa: BLE001 - anything else would end the event loop's reading of this socket unheard
            _log.exception("a connection was closed: its bytes could not be processed")
            self.processor.close("bytes that cannot be processed")

    def the_long_way(self, data: bytes) -> None:
        """Feed bytes to grpclib and h2."""
        try:
            events = self.connection.feed(data)
        except ProtocolError as error:
            # What h2 has to say of it, which grpclib would leave unsent.
            _log.debug("a connection is closed: %s", type(error).__name__)
            self.connection.flush()
            self.processor.close("frames that HTTP/2 forbids")
            return
        self.connection.flush()
        for event in events:
            self.processor.process(event)
        self.connection.flush()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self.limits.close()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """Let writing go on, also of streams that are written without a task."""
        super().resume_writing()
        self.window_opened()

    def window_opened(self) -> None:
        """Tell all streams that they may send more."""
        for stream in list(self.processor.streams.values()):
            stream.window_updated.set()

    def say_goodbye(self) -> None:
        """Tell the client that this connection takes no more calls; those under way go on."""
        if not self.connection.is_closing():
            self._go_away(ErrorCodes.NO_ERROR)

    def cut(self, text: str) -> None:
        """Close the connection for a limit that the client has reached, and tell it which."""
        if self.connection.is_closing():
            return
        _cut_off.warning("a connection was closed: a limit was reached", limit=text)
        self.limits.close()
        self._go_away(ErrorCodes.ENHANCE_YOUR_CALM, text)
        self.processor.close(text)

    def _go_away(self, code: ErrorCodes, text: str = "") -> None:
        h2 = self.connection._connection
        # h2's close_connection() would forbid answering the calls under way, so the frame is written by hand.
        frame = GoAwayFrame(0, h2.highest_inbound_stream_id, code, text.encode())
        self.connection._transport.write(frame.serialize())

    def hang_up(self) -> None:
        """Close the connection and cancel its calls."""
        self.processor.close("the server stops")


def _h2_configuration() -> H2Configuration:
    return H2Configuration(
        client_side=False,
        header_encoding="latin-1",
        validate_inbound_headers=False,
        validate_outbound_headers=False,
        normalize_inbound_headers=False,
        normalize_outbound_headers=False,
    )


def refuse(stream: Stream) -> None:
    """Tell the client that its call was not looked at, so that it may try it elsewhere."""
    if stream.closable:
        stream.reset_nowait(ErrorCodes.REFUSED_STREAM)


def has_come(stream: Stream) -> bool:
    """Tell whether the client has ended its request: nothing of it has to be waited for."""
    return bool(stream.buffer._eof)


def reply_at_once(stream: Stream, message: bytes) -> bool:
    """Send a whole reply in one write if flow control allows it now.

    Returns:
        False if it does not, or if the stream is not one whose request has ended; then nothing was sent.
    """
    if not stream.connection.write_ready.is_set() or not stream.closable or stream.id is None:
        return False
    if not write_reply_of(stream._h2_connection, stream.id, message, partial(flush_open, stream.connection)):
        return False
    stream.connection.flush()
    return True

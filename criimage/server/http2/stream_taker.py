"""A stream on the server's HTTP/2 whose bytes are passed on as they come: callbacks in place of a task and a buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.stream import StreamState
from hyperframe.frame import WindowUpdateFrame

from criimage.server.http2.hardening import STREAM_WINDOW

if TYPE_CHECKING:
    from grpclib.protocol import Stream

__all__ = ["StreamTaker"]


class StreamTaker:
    """A stream of the server that is served by callbacks instead of a task, for those who only pass bytes on.

    Stands in for grpclib's own buffer and event of the stream, whose names it therefore has.

    Args:
        stream: with its headers read and nothing else.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._h2 = stream._h2_connection
        self._unopened = 0

    def take_over(self) -> None:
        """Get what comes on the stream from now on."""
        self._stream.buffer = self  # type: ignore[assignment]
        self._stream.window_updated = self  # type: ignore[assignment]

    def data_came(self, data: bytes, size: int) -> None:
        """Take a piece of the request; `size` is what it took of the windows."""
        raise NotImplementedError

    def request_ended(self) -> None:
        """Take the end of the request."""
        raise NotImplementedError

    def may_send(self) -> None:
        """Learn that a window has opened, or that the socket takes bytes again."""
        raise NotImplementedError

    # -- what grpclib calls -------------------------------------------------------------------------------------------

    def add(self, data: bytes, ack_size: int) -> None:
        """As grpclib's Buffer."""
        self.data_came(data, ack_size)

    def eof(self) -> None:
        """As grpclib's Buffer."""
        self.request_ended()

    def unacked_size(self) -> int:
        """As grpclib's Buffer: nothing that grpclib would have to give back."""
        return 0

    def set(self) -> None:
        """As asyncio's Event."""
        self.may_send()

    def clear(self) -> None:
        """As asyncio's Event."""

    # -- what is done with the stream ---------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether anything can still be sent."""
        return self._stream.closable

    @property
    def socket_takes(self) -> bool:
        """Whether the socket takes bytes now."""
        return self._stream.connection.write_ready.is_set()

    def write_headers(self, headers: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        """Prepare headers or trailers."""
        if self._stream.id is not None:
            self._h2.send_headers(self._stream.id, headers, end_stream=ended)

    def write_data(self, data: bytes, *, ended: bool) -> int:
        """Prepare as much of `data` as one frame and the windows hold, and return how much that was."""
        stream_id = self._stream.id
        if stream_id is None:
            return 0
        room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
        if room < len(data):
            data, ended = data[: max(0, room)], False
        if data or ended:
            self._h2.send_data(stream_id, data, end_stream=ended)
        return len(data)

    def write_reset(self, code: int) -> None:
        """Prepare a reset."""
        if self._stream.id is not None and self._stream.closable:
            self._h2.reset_stream(self._stream.id, error_code=code)

    def flush(self) -> None:
        """Send what is prepared."""
        if not self._stream.connection.is_closing():
            self._stream.connection.flush()

    def open_connection_window(self, size: int) -> None:
        """Give so many bytes of the connection's window back, without the stream's."""
        if self._stream.connection.is_closing():
            return
        increment = self._h2._inbound_flow_control_window_manager.process_bytes(size)
        if increment:
            frame = WindowUpdateFrame(0, window_increment=increment)
            self._h2._prepare_for_sending([frame])

    def open_stream_window(self, size: int) -> None:
        """Give so many bytes of the stream's window back, if the client can still send anything."""
        stream_id = self._stream.id
        if stream_id is None or not self.usable:
            return
        self._unopened += size
        state = self._h2.streams[stream_id].state_machine
        if self._unopened >= STREAM_WINDOW // 4 and state.state is StreamState.OPEN:
            self._h2.increment_flow_control_window(self._unopened, stream_id)
            self._unopened = 0
            self.flush()

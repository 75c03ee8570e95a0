"""A whole answer in one piece (`hot.replies`): what a client's own HTTP/2 makes of it, and when there is none."""

from __future__ import annotations

import random

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, TrailersReceived
from h2.settings import SettingCodes

from criimage.server.http2.hot.replies import MESSAGE_HEAD, write_reply_of

HEADERS = [(":method", "POST"), (":path", "/a/b"), (":scheme", "http"), (":authority", "x")]


def never() -> None:
    """Is not called for what fits into one write."""
    raise AssertionError


class Both:
    """A client and a server that give each other their bytes."""

    def __init__(self) -> None:
        self.client = H2Connection(H2Configuration(client_side=True))
        self.server = H2Connection(H2Configuration(client_side=False))
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.meet()

    def meet(self) -> list[Event]:
        """Pass on what waits on either side; return what the client learns."""
        self.server.receive_data(self.client.data_to_send())
        seen = self.client.receive_data(self.server.data_to_send())
        self.server.receive_data(self.client.data_to_send())
        return seen

    def ask(self, *, end: bool = True) -> int:
        """Begin a call, and end its request if told to."""
        stream: int = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, HEADERS, end_stream=end)
        self.meet()
        return stream


@pytest.fixture
def both() -> Both:
    return Both()


@pytest.mark.parametrize("size", [0, 1, 16_384 - MESSAGE_HEAD, 16_384, 40_000, 65_535 - MESSAGE_HEAD])
def test_an_answer_is_read_as_any_other(both: Both, size: int) -> None:
    """Headers, the message in frames of the allowed size, trailers; both sides count the windows alike afterwards."""
    message = bytes(size)
    for _ in range(2 if size < 30_000 else 1):
        stream = both.ask()
        assert write_reply_of(both.server, stream, message, never)
        seen = both.meet()
        data = b"".join(event.data for event in seen if isinstance(event, DataReceived))
        assert data == b"\0" + size.to_bytes(4, "big") + message
        kinds = [type(event) for event in seen if not isinstance(event, DataReceived)]
        assert kinds == [ResponseReceived, TrailersReceived, StreamEnded]
        assert both.server.outbound_flow_control_window == both.client.inbound_flow_control_window
        # As after any answer: h2 lets go of the stream.
        assert both.server.open_inbound_streams == 0


def test_nothing_is_sent_where_it_cannot_be_sent_whole(both: Both) -> None:
    """A request that goes on, one that has an answer, one that was reset, none at all, a window that is too small."""
    open_still = both.ask(end=False)
    answered = both.ask()
    both.server.send_headers(answered, [(":status", "200")])
    both.meet()
    reset = both.ask()
    both.client.reset_stream(reset)
    both.meet()
    whole = both.ask()
    both.server.clear_outbound_data_buffer()

    assert [write_reply_of(both.server, stream, b"x", never) for stream in (open_still, answered, reset, 99)] == [
        False
    ] * 4
    assert not write_reply_of(both.server, whole, bytes(65_536 - MESSAGE_HEAD), never)
    assert both.server.data_to_send() == b""
    assert write_reply_of(both.server, whole, b"x", never)
    assert not write_reply_of(both.server, whole, b"x", never)


@pytest.mark.parametrize("frame", [16_384, 2**20, 2**24 - 1])
@pytest.mark.parametrize("size", [131_072 - MESSAGE_HEAD, 131_072, 2**20 - MESSAGE_HEAD, 3_000_000])
def test_a_long_answer_is_written_piece_by_piece(both: Both, frame: int, size: int) -> None:
    """No copy of the whole is made: what waits never has twice a piece, and a client reads one message of it."""
    both.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**23, SettingCodes.MAX_FRAME_SIZE: frame})
    both.client.increment_flow_control_window(2**23)
    both.meet()
    message = random.Random(size).randbytes(size)  # noqa: S311 - a message, no secret
    stream = both.ask()
    written: list[bytes] = []
    assert write_reply_of(both.server, stream, message, lambda: written.append(both.server.data_to_send()))
    written.append(both.server.data_to_send())
    assert len(written) > size // 2**18
    assert max(map(len, written)) <= 2**18
    seen = both.client.receive_data(b"".join(written))
    data = b"".join(event.data for event in seen if isinstance(event, DataReceived))
    assert data == b"\0" + size.to_bytes(4, "big") + message
    assert sum(isinstance(event, DataReceived) for event in seen) == -(-(size + MESSAGE_HEAD) // frame)
    kinds = [type(event) for event in seen if not isinstance(event, DataReceived)]
    assert kinds == [ResponseReceived, TrailersReceived, StreamEnded]
    assert both.server.outbound_flow_control_window == both.client.inbound_flow_control_window

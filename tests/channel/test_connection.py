"""The client's HTTP/2 connection by playbooks: bytes in, events and bytes out, and no socket (RFC 9113)."""

from __future__ import annotations

import struct

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from criimage.channel import frames
from criimage.channel.connection import STREAM_WINDOW, ClientConnection
from criimage.channel.events import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    NO_ERROR,
    REFUSED_STREAM,
    DataCame,
    Goodbye,
    HeadersCame,
    PingCame,
    Ready,
    Taken,
    WasReset,
)
from criimage.channel.frames import ProtocolFault, frame
from criimage.channel.header_blocks import BLOCK_LIMIT, encode_block

SETTINGS = frame(frames.SETTINGS, 0, 0)
REQUEST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a/B"), (b"x-raw", b"\xff\xfe")]
ANSWER = [(b":status", b"200"), (b"content-type", b"application/grpc")]
TRAILERS = [(b"grpc-status", b"0"), (b"x-bin", b"AAE")]


def sent(connection: ClientConnection) -> list[tuple[int, int, int, bytes]]:
    """The frames that go out now; the preface is passed over."""
    data = connection.to_send().removeprefix(frames.PREFACE)
    return list(frames.FrameReader().feed(data))


def ready(*settings: tuple[int, int]) -> ClientConnection:
    """A connection after its handshake."""
    connection = ClientConnection()
    connection.to_send()
    payload = frames.settings_payload(dict(settings))
    assert connection.receive(frame(frames.SETTINGS, 0, 0, payload))[0] == Ready()
    connection.to_send()
    return connection


def headers(stream: int, found: list[tuple[bytes, bytes]], flags: int = frames.END_HEADERS) -> bytes:
    return frame(frames.HEADERS, flags, stream, encode_block(found))


def test_the_handshake() -> None:
    """The preface and our settings go out first; the connection is ready when the peer's settings have come."""
    connection = ClientConnection()
    first = connection.to_send()
    assert first.startswith(frames.PREFACE)
    before = connection.has_room
    assert connection.receive(SETTINGS[:5]) == []
    assert connection.receive(SETTINGS[5:]) == [Ready()]
    assert (before, connection.has_room) == (False, True)
    assert sent(connection) == [(frames.SETTINGS, frames.ACK, 0, b"")]


def test_a_whole_call_against_h2() -> None:
    """A server made of h2 reads the request as it was, and its answer comes as sent, bytes that are no text too."""
    server = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=False)
    )
    server.initiate_connection()
    client = ClientConnection()
    told = server.receive_data(client.to_send())
    client.receive(server.data_to_send())
    stream = client.begin(REQUEST)
    assert client.send(stream, b"x" * 40_000, ended=True) == 40_000
    told = server.receive_data(client.to_send())
    (request,) = [one for one in told if isinstance(one, h2.events.RequestReceived)]
    assert [tuple(header) for header in request.headers] == REQUEST
    data = b"".join(one.data for one in told if isinstance(one, h2.events.DataReceived))
    assert data == b"x" * 40_000
    assert any(isinstance(one, h2.events.StreamEnded) for one in told)
    server.send_headers(stream, ANSWER)
    server.send_data(stream, b"answer")
    server.send_headers(stream, TRAILERS, end_stream=True)

    events = client.receive(server.data_to_send())

    assert [event for event in events if not isinstance(event, Ready)] == [
        HeadersCame(stream, ANSWER, ended=False),
        DataCame(stream, b"answer", 6, ended=False),
        HeadersCame(stream, TRAILERS, ended=True),
    ]
    assert client.open_streams == 0


def test_frames_may_come_in_any_pieces() -> None:
    """The same events whether bytes come one by one or all at once, with padding, priority and CONTINUATION."""
    block = encode_block(TRAILERS)
    stream = (
        headers(1, ANSWER)
        + frame(frames.DATA, frames.PADDED, 1, b"\x03abc\0\0\0")
        + frame(frames.PRIORITY, 0, 1, bytes(5))
        + frame(99, 0xFF, 1, b"unknown")
        + frame(
            frames.HEADERS,
            frames.END_STREAM | frames.PADDED | frames.HAS_PRIORITY,
            1,
            b"\1" + bytes(5) + block[:4] + b"\0",
        )
        + frame(frames.CONTINUATION, 0, 1, block[4:9])
        + frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[9:])
    )
    found = []
    for size in (1, 7, len(stream)):
        connection = ready()
        connection.begin(REQUEST, ended=True)
        events = []
        for start in range(0, len(stream), size):
            events += connection.receive(stream[start : start + size])
        found.append(events)

    assert found[0] == found[1] == found[2]
    assert found[0] == [
        HeadersCame(1, ANSWER, ended=False),
        DataCame(1, b"abc", 7, ended=False),
        HeadersCame(1, TRAILERS, ended=True),
    ]


def test_requests_wait_for_windows_and_frames_for_their_size() -> None:
    """Data goes out as far as both windows and the frame size allow, the rest in order when they open."""
    connection = ready((4, 10))
    stream = connection.begin(REQUEST)
    connection.to_send()
    assert connection.send(stream, b"0123456789abcdef", ended=True) == 10
    assert sent(connection) == [(frames.DATA, 0, stream, b"0123456789")]

    events = connection.receive(frame(frames.WINDOW_UPDATE, 0, stream, struct.pack(">I", 4)))
    assert events == [Taken(stream, 4)]
    assert sent(connection) == [(frames.DATA, 0, stream, b"abcd")]
    # Settings that raise the first window raise that of streams under way.
    events = connection.receive(frame(frames.SETTINGS, 0, 0, frames.settings_payload({4: 100})))
    assert events == [Taken(stream, 2)]
    assert (frames.DATA, frames.END_STREAM, stream, b"ef") in sent(connection)


def test_one_stream_without_a_window_holds_up_no_other() -> None:
    """A request that the peer does not take waits alone."""
    connection = ready((4, 5))
    first, second = connection.begin(REQUEST), connection.begin(REQUEST)
    assert connection.send(first, b"0123456789", ended=False) == 5
    assert connection.send(second, b"01234", ended=True) == 5


def test_a_socket_that_takes_nothing_holds_data_back() -> None:
    """While writing is paused no data is handed out; then all of it."""
    connection = ready()
    stream = connection.begin(REQUEST)
    connection.let_write(False)
    assert connection.send(stream, b"data", ended=True) == 0
    assert connection.let_write(True) == [Taken(stream, 4)]


def test_windows_are_given_back_as_data_is_taken() -> None:
    """The connection's window opens by itself, a stream's only for what was taken (relay-and-cri 1)."""
    connection = ready()
    stream = connection.begin(REQUEST, ended=True)
    connection.receive(headers(stream, ANSWER))
    connection.to_send()
    for _ in range(4):
        connection.receive(frame(frames.DATA, 0, stream, bytes(16_000)))
    assert sent(connection) == []
    connection.acknowledge(stream, 64_000)
    assert sent(connection) == [(frames.WINDOW_UPDATE, 0, stream, struct.pack(">I", 64_000))]
    assert connection.receive(frame(frames.DATA, 0, stream, bytes(16_000)))


def test_a_peer_that_ignores_the_window_loses_its_stream_only() -> None:
    """More than a stream's window is a reset of that stream, and the connection goes on."""
    connection = ready()
    stream, other = connection.begin(REQUEST, ended=True), connection.begin(REQUEST, ended=True)
    connection.receive(headers(stream, ANSWER))
    events = []
    for _ in range(STREAM_WINDOW // 16_000 + 1):
        events += connection.receive(frame(frames.DATA, 0, stream, bytes(16_000)))
    assert isinstance(events[-1], WasReset)
    assert events[-1].code == FLOW_CONTROL_ERROR
    assert connection.receive(headers(other, TRAILERS, frames.END_HEADERS | frames.END_STREAM))


def test_headers_that_are_too_large_cost_their_call_only() -> None:
    """A block over the limit is passed over: no later block depends on it (header_blocks)."""
    connection = ready()
    stream, other = connection.begin(REQUEST, ended=True), connection.begin(REQUEST, ended=True)
    block = encode_block([(b":status", b"200"), *((b"x", bytes(16_000)),) * (BLOCK_LIMIT // 16_000 + 2)])
    data = frames.header_frames(stream, block, ended=False, limit=16_384)
    events = connection.receive(data)
    assert [type(event) for event in events] == [WasReset]
    assert isinstance(events[0], WasReset)
    assert events[0].code == ENHANCE_YOUR_CALM
    assert connection.receive(headers(other, ANSWER)) == [HeadersCame(other, ANSWER, ended=False)]


def test_an_answer_that_ends_early_stops_the_request() -> None:
    """Trailers before the request's end: the rest is not sent, and the peer is told (RFC 9113 8.1)."""
    connection = ready((4, 1))
    stream = connection.begin(REQUEST)
    connection.send(stream, b"two", ended=True)
    connection.to_send()
    events = connection.receive(headers(stream, TRAILERS, frames.END_HEADERS | frames.END_STREAM))
    assert events == [HeadersCame(stream, TRAILERS, ended=True)]
    assert sent(connection) == [(frames.RST_STREAM, 0, stream, struct.pack(">I", NO_ERROR))]
    assert connection.receive(frame(frames.WINDOW_UPDATE, 0, stream, struct.pack(">I", 100))) == []
    assert connection.send(stream, b"more", ended=True) == 0


def test_resets_both_ways() -> None:
    """Ours goes out once and ends what comes; the peer's is told once."""
    connection = ready()
    ours, theirs = connection.begin(REQUEST), connection.begin(REQUEST)
    connection.to_send()
    connection.reset(ours)
    connection.reset(ours)
    assert sent(connection) == [(frames.RST_STREAM, 0, ours, struct.pack(">I", CANCEL))]
    assert connection.receive(headers(ours, ANSWER)) == []
    reset = frame(frames.RST_STREAM, 0, theirs, struct.pack(">I", 7))
    assert connection.receive(reset + reset) == [WasReset(theirs, REFUSED_STREAM, "")]


def test_a_goodbye() -> None:
    """Calls that the peer has not looked at are told so; those before go on; no new ones begin here."""
    connection = ready()
    first, second = connection.begin(REQUEST, ended=True), connection.begin(REQUEST, ended=True)
    events = connection.receive(frame(frames.GOAWAY, 0, 0, struct.pack(">II", first, 0) + b"bye"))
    assert events == [Goodbye(first, 0, "bye"), WasReset(second, REFUSED_STREAM, "")]
    assert not connection.has_room
    assert connection.receive(headers(first, ANSWER)) == [HeadersCame(first, ANSWER, ended=False)]


def test_a_goodbye_with_the_reserved_bit() -> None:
    """That bit of the last stream's number means nothing (RFC 9113 6.8)."""
    connection = ready()
    first, second = connection.begin(REQUEST, ended=True), connection.begin(REQUEST, ended=True)
    events = connection.receive(frame(frames.GOAWAY, 0, 0, struct.pack(">II", 2**31 | first, 0)))
    assert events == [Goodbye(first, 0, ""), WasReset(second, REFUSED_STREAM, "")]


def test_a_peer_without_a_table_of_headers_reads_every_block() -> None:
    """One that allows no table, from the start or later, wants ours to be seen to be empty (RFC 7541 4.2)."""
    for at_once in (True, False):
        server = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=False)
        )
        server.initiate_connection()
        client = ClientConnection()

        def told(server: h2.connection.H2Connection, client: ClientConnection) -> list[h2.events.Event]:
            client.receive(server.data_to_send())
            return server.receive_data(client.to_send())

        told(server, client)
        if not at_once:
            client.begin(REQUEST[:3], ended=True)
            told(server, client)
        server.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 0})
        told(server, client)
        client.begin(REQUEST[:3], ended=True)
        found = [one for one in told(server, client) if isinstance(one, h2.events.RequestReceived)]
        assert [[tuple(header) for header in one.headers] for one in found] == [REQUEST[:3]]


def test_a_window_that_goes_below_zero() -> None:
    """Room that the peer takes back under a request is waited for again (RFC 9113 6.9.2)."""
    connection = ready((4, 10))
    stream = connection.begin(REQUEST)
    assert connection.send(stream, b"0123456789abcdef", ended=True) == 10
    connection.receive(frame(frames.SETTINGS, 0, 0, frames.settings_payload({4: 0})))
    connection.to_send()
    assert connection.receive(frame(frames.WINDOW_UPDATE, 0, stream, struct.pack(">I", 10))) == []
    assert sent(connection) == []
    assert connection.receive(frame(frames.WINDOW_UPDATE, 0, stream, struct.pack(">I", 2))) == [Taken(stream, 2)]
    assert sent(connection) == [(frames.DATA, 0, stream, b"ab")]


def test_data_that_is_none_is_passed_over() -> None:
    """Frames without data have no window that bounds them: nobody is told, and what padding cost is given back."""
    connection = ready()
    stream = connection.begin(REQUEST, ended=True)
    connection.receive(headers(stream, ANSWER))
    connection.to_send()
    assert connection.receive(frame(frames.DATA, 0, stream) * 1000) == []
    padding = frame(frames.DATA, frames.PADDED, stream, b"\xff" + bytes(255))
    assert connection.receive(padding * (STREAM_WINDOW // 256)) == []
    updates = [payload for kind, _, number, payload in sent(connection) if kind == frames.WINDOW_UPDATE and number]
    assert sum(int.from_bytes(one, "big") for one in updates) == STREAM_WINDOW
    assert connection.receive(frame(frames.DATA, frames.END_STREAM, stream)) == [DataCame(stream, b"", 0, ended=True)]


def test_header_blocks_of_many_empty_frames_take_no_memory() -> None:
    """A block that goes on and on with nothing in it is no more than its first frame."""
    connection = ready()
    stream = connection.begin(REQUEST, ended=True)
    connection.receive(frame(frames.HEADERS, 0, stream, encode_block(ANSWER)))
    connection.receive(frame(frames.CONTINUATION, 0, stream) * 1000)
    assert connection._block is not None
    assert len(connection._block[2]) == 1
    events = connection.receive(frame(frames.CONTINUATION, frames.END_HEADERS, stream))
    assert events == [HeadersCame(stream, ANSWER, ended=False)]


def test_what_came_before_a_fault_is_told() -> None:
    """An answer is complete though nonsense follows it in the same bytes."""
    connection = ready()
    stream = connection.begin(REQUEST, ended=True)
    with pytest.raises(ProtocolFault) as caught:
        connection.receive(headers(stream, TRAILERS, frames.END_HEADERS | frames.END_STREAM) + b"HTTP/1.1 500 no")
    assert caught.value.events == [HeadersCame(stream, TRAILERS, ended=True)]


def test_pings() -> None:
    """The peer's are answered with what they hold; the answer to ours is told."""
    connection = ready()
    assert connection.receive(frame(frames.PING, 0, 0, b"12345678")) == []
    assert sent(connection) == [(frames.PING, frames.ACK, 0, b"12345678")]
    connection.ping()
    ((_, _, _, payload),) = sent(connection)
    assert connection.receive(frame(frames.PING, frames.ACK, 0, payload)) == [PingCame()]


def test_no_more_calls_than_the_peer_takes() -> None:
    """MAX_CONCURRENT_STREAMS of the peer ends the room; a call that is over gives it back."""
    connection = ready((3, 2))
    first, _ = connection.begin(REQUEST), connection.begin(REQUEST)
    before = connection.has_room
    connection.reset(first)
    assert (before, connection.has_room) == (False, True)


def test_informational_headers_are_passed_over() -> None:
    """Headers with a status of 1xx are none of the answer."""
    connection = ready()
    stream = connection.begin(REQUEST, ended=True)
    assert connection.receive(headers(stream, [(b":status", b"100")])) == []
    assert connection.receive(headers(stream, ANSWER)) == [HeadersCame(stream, ANSWER, ended=False)]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(frames.PING, 0, 0, b"12345678"),
        SETTINGS + frame(frames.DATA, 0, 9, b""),
        SETTINGS + headers(2, ANSWER),
        SETTINGS + frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, bytes(4)),
        SETTINGS + frame(frames.WINDOW_UPDATE, 0, 0, bytes(4)),
        SETTINGS + frame(frames.WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 1)),
        SETTINGS + frame(frames.SETTINGS, 0, 0, frames.settings_payload({5: 1})),
        SETTINGS + frame(frames.SETTINGS, 0, 0, frames.settings_payload({4: 2**31})),
        SETTINGS + frame(frames.SETTINGS, 0, 0, b"12345"),
        SETTINGS
        + frame(frames.WINDOW_UPDATE, 0, 1, struct.pack(">I", 2**31 - 1 - 65_535))
        + frame(frames.SETTINGS, 0, 0, frames.settings_payload({4: 65_536})),
        SETTINGS + frame(frames.GOAWAY, 0, 0, b"short"),
        SETTINGS + frame(frames.PING, 0, 0, b"short"),
        SETTINGS + frame(frames.RST_STREAM, 0, 1, b"short"),
        SETTINGS + frame(frames.CONTINUATION, 0, 1, b""),
        SETTINGS + frame(frames.HEADERS, 0, 1, b"") + frame(frames.DATA, 0, 1, b""),
        SETTINGS + frame(frames.DATA, frames.PADDED, 1, b"\x09a"),
        SETTINGS + frame(frames.DATA, frames.PADDED, 1, b""),
        SETTINGS + frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xbe"),
        SETTINGS + frame(frames.HEADERS, frames.END_HEADERS, 1, b"\0\x7f\xff"),
        SETTINGS + b"\x01\0\0" + bytes(6),
    ],
)
def test_what_is_no_http_2_ends_the_connection(data: bytes) -> None:
    """Every breach of the protocol is one kind of fault, and never another exception."""
    connection = ClientConnection()
    connection.begin(REQUEST)
    with pytest.raises(ProtocolFault):
        connection.receive(data)

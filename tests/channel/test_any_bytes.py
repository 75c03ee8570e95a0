"""Whatever a peer sends, the client's connection has one kind of fault and a bounded memory."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from criimage.channel import frames
from criimage.channel.connection import ClientConnection
from criimage.channel.frames import ProtocolFault, frame
from criimage.channel.header_blocks import encode_block

REQUEST = [(b":method", b"POST"), (b":path", b"/a/B")]
GOOD = (
    frame(frames.SETTINGS, 0, 0, frames.settings_payload({3: 10, 4: 100, 5: 20_000}))
    + frame(frames.HEADERS, frames.END_HEADERS, 1, encode_block([(b":status", b"200")]))
    + frame(frames.DATA, 0, 1, b"\0\0\0\0\x03abc")
    + frame(frames.PING, 0, 0, bytes(8))
    + frame(frames.WINDOW_UPDATE, 0, 3, b"\0\0\1\0")
    + frame(frames.HEADERS, 0x5, 1, encode_block([(b"grpc-status", b"0")]))
    + frame(frames.RST_STREAM, 0, 3, bytes(4))
    + frame(frames.GOAWAY, 0, 0, bytes(8))
)

any_frame = st.builds(
    frame,
    st.integers(0, 255) | st.integers(0, 9),
    st.integers(0, 255),
    st.integers(0, 2**31 - 1) | st.sampled_from([0, 1, 3]),
    st.binary(max_size=64),
)

changed_byte = st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255))


def fed(data: bytes, size: int) -> None:
    """Feed bytes in pieces to a connection with calls under way; nothing but a fault may come of it."""
    connection = ClientConnection()
    for _ in range(2):
        stream = connection.begin(REQUEST)
        connection.send(stream, b"x" * 300, ended=True)
    with contextlib.suppress(ProtocolFault):
        for start in range(0, len(data), size):
            connection.receive(data[start : start + size])
            connection.to_send()


@settings(deadline=None, max_examples=300)
@given(st.lists(any_frame, max_size=20), st.integers(1, 100))
def test_any_frames(found: list[bytes], size: int) -> None:
    """Frames of any kind in any order after the settings."""
    fed(frame(frames.SETTINGS, 0, 0) + b"".join(found), size)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6), st.integers(1, 99)
)
def test_a_good_answer_with_wrong_bytes(changes: list[tuple[int, int]], size: int) -> None:
    """A whole conversation in which any bytes are others."""
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    fed(bytes(data), size)

"""How an answer's end is read."""

from __future__ import annotations

import pytest
from grpclib.const import Status

from criimage.channel.calls import status_of_trailers

NONE = "the server's answer has no status"


@pytest.mark.parametrize(
    ("trailers", "status", "text"),
    [
        ([(b"grpc-status", b"0")], Status.OK, ""),
        ([(b"grpc-status", b"5"), (b"grpc-message", b"no%20image")], Status.NOT_FOUND, "no image"),
        ([(b":status", b"503")], Status.UNAVAILABLE, "the server answered with HTTP 503"),
        ([(b":status", b"200")], Status.UNKNOWN, NONE),
        ([(b"grpc-status", b"")], Status.UNKNOWN, NONE),
        ([(b"grpc-status", b"17")], Status.UNKNOWN, NONE),
        ([(b"grpc-status", b"-1")], Status.UNKNOWN, NONE),
        ([(b"grpc-status", b"\xb2")], Status.UNKNOWN, NONE),
        ([(b"grpc-status", b"9" * 5000)], Status.UNKNOWN, NONE),
        ([], Status.UNKNOWN, NONE),
    ],
)
def test_the_status_of_trailers(trailers: list[tuple[bytes, bytes]], status: Status, text: str) -> None:
    """Anything that is no status of gRPC's is UNKNOWN, however it is written, and never an exception (protocol 2.4)."""
    assert status_of_trailers(trailers) == (status, text, b"")

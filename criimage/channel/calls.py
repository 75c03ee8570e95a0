"""gRPC calls on a channel as Python code makes them: messages in bytes, errors as exceptions (gRPC over HTTP/2)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import struct
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from grpclib.const import Status

from criimage.channel.events import CANCEL, ENHANCE_YOUR_CALM, REFUSED_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from criimage.channel.header_blocks import Headers
    from criimage.channel.links import Exchange, Links

__all__ = ["CallError", "GrpcCall", "request_headers", "status_of_trailers"]

_RESETS = {
    REFUSED_STREAM: (Status.UNAVAILABLE, "the server has not looked at the call"),
    CANCEL: (Status.CANCELLED, "the server cancelled the call"),
    ENHANCE_YOUR_CALM: (Status.RESOURCE_EXHAUSTED, "the server has too much to do"),
    12: (Status.PERMISSION_DENIED, "the server wants more security"),
}
_HTTP = {
    b"400": Status.INTERNAL,
    b"401": Status.UNAUTHENTICATED,
    b"403": Status.PERMISSION_DENIED,
    b"404": Status.UNIMPLEMENTED,
    **dict.fromkeys((b"429", b"502", b"503", b"504"), Status.UNAVAILABLE),
}
_TEXT_LIMIT = 16_384
_LONGEST_TIMEOUT = 99_999_999
_STATUSES = {b"%d" % status.value: status for status in Status}


class CallError(Exception):
    """A call that did not end with OK.

    Args:
        status: gRPC status; UNAVAILABLE where nobody answers at the socket.
        text: the server's message, or what is wrong with the connection.
        details: the bytes of `grpc-status-details-bin`, an encoded google.rpc.Status; empty where there are none.
        reached: whether the server itself said so; False for what happened on the way to it.
        untouched: whether the server said that it has not looked at the call (RFC 9113 8.7).
    """

    def __init__(
        self, status: Status, text: str, details: bytes = b"", *, reached: bool = True, untouched: bool = False
    ) -> None:
        super().__init__(f"{text} ({status.name})")
        self.status = status
        self.text = text
        self.details = details
        self.reached = reached
        self.untouched = untouched


def request_headers(method: str, seconds: float | None, metadata: Iterable[tuple[str, str | bytes]]) -> Headers:
    """Return the headers of a call; `-bin` values are given in bytes and go out in base64."""
    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method.encode()),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    if seconds is not None:
        headers.append((b"grpc-timeout", _timeout(seconds)))
    for name, value in metadata:
        data = value.encode() if isinstance(value, str) else value
        headers.append((name.encode(), base64.b64encode(data).rstrip(b"=") if name.endswith("-bin") else data))
    return headers


def _timeout(seconds: float) -> bytes:
    milliseconds = max(0, int(seconds * 1000))
    if milliseconds <= _LONGEST_TIMEOUT:
        return b"%dm" % milliseconds
    return b"%dS" % min(_LONGEST_TIMEOUT, int(seconds))


def status_of_trailers(trailers: Headers) -> tuple[Status, str, bytes]:
    """Return status, text and details; UNKNOWN where there is no status that gRPC has."""
    found = dict(trailers)
    known = _STATUSES.get(found.get(b"grpc-status", b""))
    if known is not None:
        status = known
        text = unquote_to_bytes(found.get(b"grpc-message", b"")[:_TEXT_LIMIT]).decode("utf-8", "replace")
    elif found.get(b":status", b"200") != b"200":
        http = found[b":status"]
        status, text = _HTTP.get(http, Status.UNKNOWN), f"the server answered with HTTP {http.decode('latin-1')[:20]}"
    else:
        status, text = Status.UNKNOWN, "the server's answer has no status"
    return status, text, _from_base64(found.get(b"grpc-status-details-bin", b""))


def _from_base64(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4))
    except (binascii.Error, ValueError):
        return b""


class GrpcCall:
    """One call: a listener that puts messages together.

    Args:
        links: where it goes out.
        headers: of the request.
        limit: largest message of the answer in bytes.
    """

    def __init__(self, links: Links, headers: Headers, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._wanted = 5
        self._messages: deque[bytes] = deque()
        self._owed = 0
        self._end: CallError | None = None
        self._over = False
        self._news = asyncio.Event()
        self._exchange: Exchange = links.start(headers, self)

    def send(self, message: bytes) -> None:
        """Send the only message of a request, as the server takes it."""
        self._exchange.send(struct.pack(">BI", 0, len(message)) + message, ended=True)

    async def receive(self) -> bytes | None:
        """Return the next message, or None at the end.

        Raises:
            CallError: the call did not end with OK.
        """
        while not self._messages:
            if self._over:
                if self._end is not None:
                    raise self._end
                return None
            self._news.clear()
            await self._news.wait()
        message = self._messages.popleft()
        if not self._messages and self._owed:
            owed, self._owed = self._owed, 0
            self._exchange.acknowledge(owed)
        return message

    def cancel(self) -> None:
        """End the call, if it is not over; the server is told."""
        if not self._over:
            self._finish(None)
            self._exchange.reset()

    # -- as a listener ------------------------------------------------------------------------------------------------

    def headers_came(self, headers: Headers, *, ended: bool) -> None:
        """Take headers or trailers."""
        if ended:
            status, text, details = status_of_trailers(headers)
            if status is Status.OK and self._rest:
                self._finish(CallError(Status.INTERNAL, "the server's last message is truncated"))
            else:
                error = CallError(status, text or status.name.lower(), details)
                self._finish(None if status is Status.OK else error)
        elif dict(headers).get(b":status") != b"200":
            status, text, _ = status_of_trailers(headers)
            self._abort(CallError(status, text))

    def data_came(self, data: bytes, size: int, *, ended: bool) -> None:
        """Take a piece of the answer."""
        self._rest += data
        while len(self._rest) >= self._wanted and not self._over:
            if self._wanted == 5:
                compressed, length = struct.unpack_from(">BI", self._rest)
                if compressed or length > self._limit:
                    text = f"the server's answer is compressed or larger than {self._limit} bytes"
                    self._abort(CallError(Status.RESOURCE_EXHAUSTED, text))
                    return
                self._wanted = 5 + length
                if length:
                    continue
            self._messages.append(bytes(memoryview(self._rest)[5 : self._wanted]))
            del self._rest[: self._wanted]
            self._wanted = 5
        if ended:
            self._finish(CallError(Status.INTERNAL, "the server's answer has no trailers"))
        elif self._messages:
            self._owed += size
        else:
            self._exchange.acknowledge(size)
        self._news.set()

    def request_taken(self, size: int) -> None:
        """Nothing waits for that: a request is one message."""

    def was_reset(self, code: int, text: str) -> None:
        """End with the status that gRPC has for the reset."""
        status, known = _RESETS.get(code, (Status.INTERNAL, f"the server reset the call with code {code}"))
        self._finish(CallError(status, text or known, untouched=code == REFUSED_STREAM))

    def was_lost(self, text: str) -> None:
        """End with UNAVAILABLE."""
        self._finish(CallError(Status.UNAVAILABLE, text, reached=False))

    def _abort(self, error: CallError) -> None:
        if not self._over:
            self._finish(error)
            self._exchange.reset()

    def _finish(self, error: CallError | None) -> None:
        if not self._over:
            self._over = True
            self._end = error
        self._news.set()

"""One gRPC call as its handler sees it: its headers, its messages, its answer.

Bytes in, bytes out: what a message means is the services' business.
"""

from __future__ import annotations

import asyncio
import binascii
import re
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from grpclib.const import Status
from grpclib.metadata import encode_grpc_message

from criimage.server.http2 import hardening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpclib.protocol import Stream

    from criimage.server.http2.limits import ConnectionLimits

__all__ = ["MESSAGE_LIMIT", "SEND_LIMIT", "Call", "CallFailed"]

MESSAGE_LIMIT = 16 * 2**20
"""Largest request in bytes; the same as the Go clients' limit for answers (cri-protocol 2.2)."""

SEND_LIMIT = 60.0
"""Seconds that a client may leave an answer unread before its call is given up."""

_RESPONSE_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
_TRAILERS_OK = [("grpc-status", "0")]
_CONTENT_TYPES = frozenset({"application/grpc", "application/grpc+proto"})
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class CallFailed(Exception):
    """A call that cannot be served as it came; becomes its status.

    Args:
        status: gRPC status.
        text: message for the client.
    """

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Call:
    """A call under way, as its handler sees it.

    Attributes:
        path: `/package.Service/Method`.
        seconds: what the client's deadline left when the call came, or None without one.
    """

    def __init__(
        self, stream: Stream, headers: hardening.Headers, limits: ConnectionLimits, request_timeout: float
    ) -> None:
        self._stream = stream
        self._limits = limits
        self._request_timeout = request_timeout
        self._headers = headers
        self._header_map = dict(headers)
        self.path = self._header_map.get(":path", "")
        self.seconds: float | None = None
        self._headers_sent = False
        self.status: Status | None = None

    def read_headers(self) -> None:
        """Check what the client announced and take its deadline.

        Raises:
            CallFailed: a timeout or a `-bin` header that cannot be decoded.
        """
        timeout = self._header_map.get("grpc-timeout")
        if timeout is not None:
            match = _TIMEOUT.fullmatch(timeout)
            if match is None:
                raise CallFailed(Status.INVALID_ARGUMENT, "malformed grpc-timeout header")
            self.seconds = int(match[1]) * _TIMEOUT_UNITS[match[2]]
        for name, value in self._headers:
            if name.endswith("-bin"):
                for part in value.split(","):
                    _check_binary(name, part)

    def http_fault(self) -> str | None:
        """Return the HTTP status to answer with if this is no gRPC call at all."""
        if self._header_map.get(":method") != "POST":
            return "405"
        content_type = self._header_map.get("content-type", "").partition(";")[0].strip().lower()
        return None if content_type in _CONTENT_TYPES else "415"

    def header(self, name: str) -> str:
        """Return a request header, or the empty text."""
        return self._header_map.get(name, "")

    async def receive(self) -> bytes | None:
        """Return the next message, or None when the client sends no more.

        Raises:
            CallFailed: compressed, truncated, larger than MESSAGE_LIMIT, or not complete in time.
        """
        if hardening.has_come(self._stream):
            return await self._received()  # nothing has to be waited for
        limit = asyncio.timeout(self._request_timeout)
        try:
            async with limit:
                return await self._received()
        except TimeoutError:
            if not limit.expired():
                raise
            text = f"the request has not come completely within {self._request_timeout:g} s"
            raise CallFailed(Status.DEADLINE_EXCEEDED, text) from None

    async def _received(self) -> bytes | None:
        try:
            prefix = await self._stream.recv_data(5)
            if not prefix:
                return None
            compressed, length = struct.unpack(">BI", prefix)
            if compressed and self.header("grpc-encoding") in {"", "identity"}:
                raise CallFailed(Status.INTERNAL, "the request message is marked as compressed, but by nothing")
            if compressed:
                raise CallFailed(Status.UNIMPLEMENTED, "compressed messages are not supported")
            if length > MESSAGE_LIMIT:
                text = f"the request message has {length} bytes, the limit is {MESSAGE_LIMIT}"
                raise CallFailed(Status.RESOURCE_EXHAUSTED, text)
            message = await self._stream.recv_data(length)
        except AssertionError:
            # grpclib's way to say that the stream ended inside a message.
            raise CallFailed(Status.INVALID_ARGUMENT, "the request message is truncated") from None
        if len(message) != length:
            raise CallFailed(Status.INVALID_ARGUMENT, "the request message is truncated")
        return message

    async def send(self, message: bytes) -> None:
        """Send one message of several.

        Raises:
            CallFailed: the client does not take it.
        """
        async with _send_limit():
            if not self._headers_sent:
                await self._stream.send_headers(_RESPONSE_HEADERS)
                self._headers_sent = True
            self._limits.answered(len(message))
            await self._stream.send_data(_framed(message))

    async def reply(self, message: bytes) -> None:
        """Send the only message and OK."""
        self.status = Status.OK
        if hardening.reply_at_once(self._stream, message):
            self._limits.answered(len(message))
        else:
            await self.send(message)
            await self._end(_TRAILERS_OK)

    async def finish(self, status: Status = Status.OK, text: str = "") -> None:
        """End the call with a status."""
        self.status = status
        trailers = [("grpc-status", str(status.value))]
        if text:
            # A text may come from bytes that were no text; what cannot be sent must not cost the client its answer.
            sendable = text.encode("utf-8", "replace").decode("utf-8")
            trailers.append(("grpc-message", encode_grpc_message(sendable)))
        if status is Status.UNIMPLEMENTED:
            trailers.append(("grpc-accept-encoding", "identity"))
        await self._end(trailers)

    async def finish_as_http(self, status: str) -> None:
        """End with an HTTP status: the client does not speak gRPC."""
        self.status = Status.UNKNOWN
        self._headers_sent = True
        await self._end([(":status", status)])

    async def _end(self, trailers: hardening.Headers) -> None:
        if not self._stream.closable:
            return
        async with _send_limit():
            headers = trailers if self._headers_sent else [*_RESPONSE_HEADERS, *trailers]
            await self._stream.send_headers(headers, end_stream=True)
        if self._stream.closable:
            # The client has not ended its side: nothing more of it will be read.
            self._stream.reset_nowait()


@asynccontextmanager
async def _send_limit() -> AsyncIterator[None]:
    limit = asyncio.timeout(SEND_LIMIT)
    try:
        async with limit:
            yield
    except TimeoutError:
        raise CallFailed(Status.UNKNOWN, "the client does not take the answer") from None


def _framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def _check_binary(name: str, value: str) -> None:
    text = value.strip()
    try:
        # With padding or without, but not with half of it.
        binascii.a2b_base64(text if "=" in text else text + "=" * (-len(text) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        raise CallFailed(Status.INVALID_ARGUMENT, f"header {name[:50]} is not valid base64") from None

"""One gRPC call: its headers, its message, its answer, and the task that it runs in.

Bytes in, bytes out: what a message means is the services' business.
"""

from __future__ import annotations

import asyncio
import binascii
import re
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from grpclib.const import Status
from grpclib.metadata import encode_grpc_message
from grpclib.protocol import AbstractHandler
from h2.exceptions import ProtocolError

from criimage.errors import CriimageError
from criimage.server import hardening
from criimage.server.status import status_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grpclib.protocol import Stream

    from criimage.server.hot.first_step import Begun, FirstSteps
    from criimage.server.limits import ConnectionLimits
    from criimage.settings import LimitSettings

__all__ = [
    "MESSAGE_LIMIT",
    "Call",
    "CallFailed",
    "CallsElsewhere",
    "ConnectionCalls",
    "Method",
    "Observer",
    "server_stream",
    "unary",
]

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
            return await self._received()
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


Handler = Callable[[Call], Awaitable[None]]
Answer = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Method:
    """A method that the server has.

    Attributes:
        path: `/package.Service/Method`.
        handler: receives, works and sends; returns after its last message was sent.
    """

    path: str
    handler: Handler
    at_once: Answer | None = None
    """What makes the only reply, where that may be tried before the call has a task (`criimage.server.hot`)."""

    @property
    def service(self) -> str:
        """The full name of its service."""
        return self.path.split("/")[1]

    @property
    def operation(self) -> str:
        """The method's bare name, as metrics and logs show it."""
        return self.path.rpartition("/")[2]


def unary(path: str, answer: Answer, *, at_once: bool = False) -> Method:
    """Make a method of one request and one reply.

    Args:
        path: `/package.Service/Method`.
        answer: makes the reply; a coroutine function.
        at_once: whether it mostly has its reply without waiting for anything.
    """

    async def handle(call: Call) -> None:
        await call.reply(await answer(await _only_message(call)))

    return Method(path, handle, answer if at_once else None)


def server_stream(path: str, answer: Callable[[bytes], AsyncIterator[bytes]]) -> Method:
    """Make a method of one request and any number of replies."""

    async def handle(call: Call) -> None:
        async for message in answer(await _only_message(call)):
            await call.send(message)
        await call.finish()

    return Method(path, handle)


async def _only_message(call: Call) -> bytes:
    message = await call.receive()
    if message is None:
        raise CallFailed(Status.INVALID_ARGUMENT, "the request has no message")
    return message


def _no_header(_name: str) -> str:
    return ""


class Observer(Protocol):
    """Is told about every call."""

    @property
    def reads_headers(self) -> frozenset[bytes]:
        """Headers with which a call takes the long way, since only there `began` can look at them."""

    def began(self, operation: str, path: str, header: Callable[[str], str]) -> None:
        """A call starts, `unknown` for a method that is none; runs in the call's own task and context.

        `header` gives a header of the request, or the empty text.
        """

    def ended(self, operation: str, status: Status, error: BaseException | None, seconds: float) -> None:
        """The call is over; `error` is what it failed with, if anything."""


class CallsElsewhere(Protocol):
    """Takes some of a connection's calls and serves them in its own way."""

    def accept(
        self, stream: Stream, headers: hardening.Headers, limits: ConnectionLimits, release: Callable[[], None]
    ) -> bool:
        """Take a call, or return False."""

    def cancel(self, stream: Stream) -> bool:
        """End a call whose client has reset it; False if it is none of these."""

    def close(self) -> None:
        """End all calls: the connection is gone."""

    def count(self) -> int:
        """How many calls are under way."""

    def ended(self) -> asyncio.Future[None] | None:
        """What resolves when no call is left; None if none is under way."""

    def stop(self) -> None:
        """Tell the clients of all calls still under way that the server stops."""

    def takes(self, path: str) -> bool:
        """Whether calls of this path would be taken."""


class ConnectionCalls(AbstractHandler):
    """The calls of one connection: a task each, ended with the connection.

    Args:
        methods: path to method.
        observer: is told about every call.
        settings: how many calls at once, and how long a request may take to come.
        elsewhere: may take calls before they are looked at here.
        steps: makes the first steps of calls that may be answered at once.

    Attributes:
        at_once: path to method, as bytes, of those.
        refusal: what every call is told if the client may make none.
        reads_headers: those with which a call cannot be begun before it has a task.
    """

    limits: ConnectionLimits
    """Of the connection; set before the first call."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        observer: Observer,
        settings: LimitSettings,
        elsewhere: CallsElsewhere | None = None,
        steps: FirstSteps | None = None,
    ) -> None:
        self._elsewhere = elsewhere
        self._steps = steps
        self._begun: Begun[bytes] | None = None
        self.at_once = {
            path.encode(): method
            for path, method in methods.items()
            if method.at_once is not None and (elsewhere is None or not elsewhere.takes(path))
        }
        self._methods = methods
        self._settings = settings
        self._observer = observer
        self._tasks: dict[Stream, asyncio.Task[None]] = {}
        self._refusing = False
        self.refusal = ""
        self.reads_headers = observer.reads_headers

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of the calls under way."""
        return list(self._tasks.values())

    @property
    def count(self) -> int:
        """How many calls are under way."""
        return len(self._tasks) + (0 if self._elsewhere is None else self._elsewhere.count())

    @property
    def under_way(self) -> list[asyncio.Future[None]]:
        """What the end of all calls can be waited for by."""
        elsewhere = None if self._elsewhere is None else self._elsewhere.ended()
        return [*self.tasks, *([] if elsewhere is None else [elsewhere])]

    def stop_elsewhere(self) -> None:
        """Tell the clients of calls that are served elsewhere that the server stops."""
        if self._elsewhere is not None:
            self._elsewhere.stop()

    def refuse_new(self) -> None:
        """Take no more calls; clients are told that those were not looked at."""
        self._refusing = True

    def begin(self, method: Method, message: bytes) -> Begun[bytes] | None:
        """Make the first step of a call that has come completely; None if that cannot be done now.

        Either the answer is there, and is sent before anything else happens, then `answered` is called; or `go_on` is
        called, and then `accept` with this call's stream.
        """
        steps, answer = self._steps, method.at_once
        if steps is None or answer is None or not steps.possible or self._refusing or self.refusal:
            return None
        if self.count >= self._settings.streams:
            return None
        operation = method.operation

        def begin() -> Awaitable[bytes]:
            self._observer.began(operation, method.path, _no_header)
            return answer(message)

        return steps.make(begin)

    def answered(self, method: Method, begun: Begun[bytes]) -> None:
        """Tell that the answer of a begun call has been sent."""
        seconds = time.perf_counter() - begun.began
        begun.context.run(self._observer.ended, method.operation, Status.OK, None, seconds)

    def go_on(self, begun: Begun[bytes], long_way: Callable[[], None]) -> None:
        """Let a begun call go on as any other: `long_way` brings its stream to `accept`."""
        self._begun = begun
        long_way()
        if self._begun is not None:
            # Something about the stream was wrong after all.
            self._begun.close()
            self._begun = None

    def accept(self, stream: Stream, headers: hardening.Headers, release_stream: Callable[[], None]) -> None:
        """Start a call: its headers have come."""
        if self._refusing or self.count >= self._settings.streams:
            hardening.refuse(stream)
            self._forget(stream, release_stream)
            return
        forget = partial(self._forget, stream, release_stream)
        if (
            not self.refusal
            and self._elsewhere is not None
            and self._elsewhere.accept(stream, headers, self.limits, forget)
        ):
            return
        call = Call(stream, headers, self.limits, self._settings.request_timeout)
        begun, self._begun = self._begun, None
        if begun is not None and self._steps is not None:
            task = self._steps.go_on(begun, self._serve(call, begun))
        else:
            task = asyncio.get_running_loop().create_task(self._serve(call))
        self._tasks[stream] = task
        task.add_done_callback(partial(self._done, stream, release_stream))

    def _done(self, stream: Stream, release_stream: Callable[[], None], task: asyncio.Task[None]) -> None:
        self._tasks.pop(stream, None)
        self._forget(stream, release_stream)
        if not task.cancelled():
            task.exception()  # _serve lets only cancellation through

    def _forget(self, stream: Stream, release_stream: Callable[[], None]) -> None:
        if stream.id is not None:
            self.limits.ended(stream.id)
        release_stream()

    def cancel(self, stream: Stream) -> None:
        """End a call: the client has reset it."""
        if self._elsewhere is not None and self._elsewhere.cancel(stream):
            return
        task = self._tasks.get(stream)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """End all calls: the connection is gone."""
        if self._elsewhere is not None:
            self._elsewhere.close()
        for task in self.tasks:
            task.cancel()

    async def _serve(self, call: Call, begun: Begun[bytes] | None = None) -> None:
        method = self._methods.get(call.path)
        operation = method.operation if method else "unknown"
        error: BaseException | None = None
        if begun is None:
            start = time.perf_counter()
            self._observer.began(operation, call.path, call.header)
        else:
            start = begun.began
        try:
            await self._answer(call, method, begun)
        except ProtocolError:
            call.status = Status.CANCELLED  # the stream closed under the answer
        except asyncio.CancelledError as cancelled:
            error = cancelled
            if _cancelled_by_us():
                call.status = Status.CANCELLED
                raise
            await _end_failed(call, cancelled)
        except Exception as fault:  # noqa: BLE001 - a fault of ours must not leave the client without an answer
            error = fault
            await _end_failed(call, fault)
        finally:
            self._observer.ended(operation, call.status or Status.UNKNOWN, error, time.perf_counter() - start)

    async def _answer(self, call: Call, method: Method | None, begun: Begun[bytes] | None) -> None:
        http_fault = call.http_fault()
        if http_fault is not None:
            await call.finish_as_http(http_fault)
            return
        if self.refusal:
            raise CallFailed(Status.PERMISSION_DENIED, self.refusal)
        if method is None:
            raise CallFailed(Status.UNIMPLEMENTED, f"unknown method {call.path[:200]}")
        call.read_headers()
        if call.seconds is None:
            await self._handle(call, method, begun)
            return
        limit = asyncio.timeout(call.seconds)
        try:
            if not call.seconds:
                raise CallFailed(Status.DEADLINE_EXCEEDED, "the client's deadline has passed")
            async with limit:
                await self._handle(call, method, begun)
        except TimeoutError:
            if limit.expired():
                raise CallFailed(Status.DEADLINE_EXCEEDED, "the client's deadline has passed") from None
            raise

    async def _handle(self, call: Call, method: Method, begun: Begun[bytes] | None) -> None:
        if begun is None:
            await method.handler(call)
        else:
            await call.reply(await begun)


def _cancelled_by_us() -> bool:
    """Tell a cancel of this call from one that escaped from a library, whose client still waits for an answer."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _end_failed(call: Call, error: BaseException) -> None:
    if isinstance(error, CriimageError):
        status, text = status_of(error)
    elif isinstance(error, CallFailed):
        status, text = error.status, error.text
    else:
        status, text = Status.INTERNAL, "internal error, the log of the image service says more"
    try:
        await call.finish(status, text)
    except (ProtocolError, CallFailed):
        call.status = status  # the stream closed under the answer

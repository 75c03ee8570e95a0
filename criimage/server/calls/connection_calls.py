"""The calls of one connection: the task that each runs in, who is told about it, and its end."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from grpclib.const import Status
from grpclib.protocol import AbstractHandler
from h2.exceptions import ProtocolError

from criimage.errors import CriimageError
from criimage.server.calls.call import Call, CallFailed
from criimage.server.calls.grpc_status import status_of
from criimage.server.http2 import hardening

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from grpclib.protocol import Stream

    from criimage.server.calls.method import Method
    from criimage.server.http2.hot.first_step import Begun, FirstSteps
    from criimage.server.http2.limits import ConnectionLimits
    from criimage.settings import LimitSettings

__all__ = ["CallsElsewhere", "ConnectionCalls", "Observer"]


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

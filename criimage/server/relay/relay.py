"""Takes the calls that are a runtime's, and knows how the runtime is."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Self

import structlog
from grpclib.const import Status

from criimage import problems, tracing
from criimage.channel import CallError, Channel
from criimage.lasting import lasting
from criimage.problems import Problem
from criimage.server.calls.traced import begin_span, end_span
from criimage.server.relay.call import deadline_of, forwarded
from criimage.server.relay.caller import Caller, HeldRequests
from criimage.server.relay.versions import SERVICES, Versions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from grpclib.protocol import Stream

    from criimage.channel.header_blocks import Headers
    from criimage.channel.link import Listener
    from criimage.channel.links import Exchange
    from criimage.metrics import Metrics
    from criimage.server.http2.hardening import Headers as TextHeaders
    from criimage.server.http2.limits import ConnectionLimits

__all__ = ["Relay", "RelayedCalls"]

_log = structlog.get_logger(__name__)

PROBLEM = "runtime"
"""The source that a runtime's trouble stands under in `criimage.problems`."""

DEADLINE_SLACK = 1.0
"""Seconds that the runtime has to tell a passed deadline in its own words."""


class Relay:
    """RuntimeService of another runtime; an async context manager that keeps a connection to it.

    Args:
        path: of the runtime's socket.
        metrics: takes the figures.
    """

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self._path = path
        self._metrics = metrics
        self._channel = Channel(path, self._told)
        self._versions = Versions(self._channel)
        self._held = HeldRequests()
        self._stack = AsyncExitStack()
        self.services = tuple(service.strip("/") for service in SERVICES)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._channel)
        self._stack.callback(self._versions.close)
        await self._stack.enter_async_context(lasting(self._channel.links.keep, "runtime connection"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        problems.forget(PROBLEM)

    def takes(self, headers: TextHeaders) -> bool:
        """Whether a request with these headers is for the runtime, whatever the method's name."""
        path = next((value for name, value in headers if name == ":path"), "")
        return path.startswith(SERVICES)

    def accept(
        self,
        stream: Stream,
        headers: TextHeaders,
        limits: ConnectionLimits,
        release: Callable[[], None],
        ended: Callable[[], None],
    ) -> Caller:
        """Begin to relay a call.

        Args:
            stream: of the server.
            headers: of the request, as latin-1.
            limits: of its connection.
            release: lets the stream go when nothing more is to be done with it.
            ended: is called when the call is over.
        """
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        path = next(value for name, value in headers if name == ":path")
        begun = time.perf_counter()
        # The runtime is told the caller's trace, byte for byte; that the call went through here is a span beside it.
        traces = tracing.traces()
        span = None if traces is None else begin_span(traces, path, partial(_header, headers))
        timer: asyncio.TimerHandle | None = None

        def over(_caller: Caller, status: Status) -> None:
            if timer is not None:
                timer.cancel()
            self._count(path, status, time.perf_counter() - begun)
            if span is not None:
                end_span(span, status, "" if status in {Status.OK, Status.CANCELLED} else status.name)
            ended()

        caller = Caller(stream, limits, release, self._held, over)
        seconds = deadline_of(raw)
        if seconds is not None:
            timer = asyncio.get_running_loop().call_later(seconds + DEADLINE_SLACK, caller.call.deadline_passed)
        service = next(one for one in SERVICES if path.startswith(one))
        known = self._versions.known(service)
        if known is not None:
            self._start(caller, raw, path, service, known)
        else:
            question = self._versions.ask(service)
            question.add_done_callback(partial(self._start_when_known, caller, raw, path, service))
        return caller

    def _start(self, caller: Caller, headers: Headers, path: str, service: str, known: str) -> None:
        upstream = (known + path.removeprefix(service)).encode("latin-1")

        def open_call(listener: Listener) -> Exchange:
            return self._channel.links.start(forwarded(headers, upstream), listener)

        caller.call.start(open_call)

    def _start_when_known(
        self, caller: Caller, headers: Headers, path: str, service: str, question: asyncio.Task[str]
    ) -> None:
        if question.cancelled():
            caller.call.server_stops()
            return
        error = question.exception()
        if error is None:
            self._start(caller, headers, path, service, question.result())
        elif isinstance(error, CallError):
            caller.call.was_lost(error.text)
        else:
            _log.error("fault while asking the runtime for its versions", exc_info=error)
            caller.call.was_lost("internal error, the log of the image service says more")

    def _count(self, path: str, status: Status, seconds: float) -> None:
        self._metrics.relayed(path.rpartition("/")[2], status.name)
        _log.debug("call relayed", method=path[:200], status=status.name, seconds=round(seconds, 4))

    def _told(self, problem: str | None) -> None:
        self._metrics.runtime_connected(problem is None)
        if problem is None:
            problems.over(PROBLEM)
            _log.info("connected to the runtime", endpoint=f"unix://{self._path}")
        else:
            remedy = f"see whether the runtime at unix://{self._path} runs; criimage connects again by itself"
            problems.tell(PROBLEM, Problem(problem, remedy))


def _header(headers: TextHeaders, wanted: str) -> str:
    return next((value for name, value in headers if name == wanted), "")


class RelayedCalls:
    """The relayed calls of one client's connection."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._callers: dict[Stream, Caller] = {}
        self._none_left: asyncio.Future[None] | None = None

    def accept(
        self, stream: Stream, headers: TextHeaders, limits: ConnectionLimits, release: Callable[[], None]
    ) -> bool:
        """Take a call; return False if it is not for the runtime."""
        if not self._relay.takes(headers):
            return False
        self._callers[stream] = self._relay.accept(stream, headers, limits, release, partial(self._gone, stream))
        return True

    def takes(self, path: str) -> bool:
        """Whether calls of this path are the runtime's."""
        return path.startswith(SERVICES)

    def _gone(self, stream: Stream) -> None:
        self._callers.pop(stream, None)
        if not self._callers and self._none_left is not None and not self._none_left.done():
            self._none_left.set_result(None)

    def count(self) -> int:
        """How many calls are under way."""
        return len(self._callers)

    def cancel(self, stream: Stream) -> bool:
        """End a call whose client has reset it; return False if it is none of these."""
        caller = self._callers.get(stream)
        if caller is None:
            return False
        caller.left()
        return True

    def close(self) -> None:
        """End all calls: the connection is gone."""
        for caller in list(self._callers.values()):
            caller.left()

    def ended(self) -> asyncio.Future[None] | None:
        """Return what resolves when no call is left; None if none is under way."""
        if not self._callers:
            return None
        if self._none_left is None or self._none_left.done():
            self._none_left = asyncio.get_running_loop().create_future()
        return self._none_left

    def stop(self) -> None:
        """Tell the clients of all calls still under way that the server stops."""
        for caller in list(self._callers.values()):
            caller.call.server_stops()

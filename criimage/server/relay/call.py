"""One relayed call without sockets: what happens on either side in, what is to be done on the other out.

Bytes are passed on as they come, in both directions and at their reader's pace: what the one side has not taken is not
given back to the other, so neither fills our memory, and a message of any size passes that the two agree on.
Compression, metadata, codes, texts and details are the two sides' own business. The only answers that are made here are
those that neither side can give: the runtime cannot be reached, the caller's deadline has passed, the server stops.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from grpclib.const import Status
from grpclib.metadata import encode_grpc_message

from criimage.channel.calls import status_of_trailers
from criimage.channel.events import CANCEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from criimage.channel.header_blocks import Headers
    from criimage.channel.link import Listener

__all__ = ["CallerSide", "RelayedCall", "RuntimeSide", "deadline_of", "forwarded"]

_AUTHORITY = (b":authority", b"localhost")
# What belongs to one connection (RFC 9113 8.2.2) or is said by :authority.
_NOT_FORWARDED = frozenset({b":authority", b"host", b"connection", b"keep-alive", b"proxy-connection", b"upgrade"})
_PSEUDO_PATH = b":path"

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_TIMEOUT_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

_ANSWER_HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_TEXT_LIMIT = 2_000


class CallerSide(Protocol):
    """The client that made the call."""

    def send_headers(self, headers: Headers, *, ended: bool) -> None:
        """Send headers or trailers after everything that was sent before."""

    def send_data(self, data: bytes, size: int, *, ended: bool) -> None:
        """Send a piece of the answer; `RelayedCall.answer_taken` is told of `size` once it has gone out."""

    def reset(self, code: int) -> None:
        """End the stream without a status, after everything that was sent before."""

    def give_back(self, size: int) -> None:
        """Let the client send so many bytes more."""


class RuntimeSide(Protocol):
    """The call as it goes on to the runtime; its listener is the RelayedCall."""

    def send(self, data: bytes, *, ended: bool = False) -> None:
        """Send a piece of the request; `RelayedCall.request_taken` is told once it has gone out."""

    def acknowledge(self, size: int) -> None:
        """Let the runtime send so many bytes more."""

    def reset(self, code: int = CANCEL) -> None:
        """End the call."""


def forwarded(headers: Headers, path: bytes) -> Headers:
    """Return a request's headers as they go on: all metadata as it came, in its order, to `path`."""
    found = [(name, path if name == _PSEUDO_PATH else value) for name, value in headers if name not in _NOT_FORWARDED]
    pseudo = sum(1 for name, _ in found if name.startswith(b":"))
    found.insert(pseudo, _AUTHORITY)
    return found


def deadline_of(headers: Headers) -> float | None:
    """Return the seconds of `grpc-timeout`; None without one, or with one that the runtime may judge."""
    match = next((_TIMEOUT.fullmatch(value) for name, value in headers if name == b"grpc-timeout"), None)
    return None if match is None else int(match[1]) * _TIMEOUT_UNITS[match[2]]


class RelayedCall:
    """One call; a listener of the runtime's side (`criimage.channel.link.Listener`).

    Args:
        caller: the client's side.
        ended: is called once, with the call's status as the caller sees it.

    Attributes:
        status: how it ended; None while it is under way.
    """

    def __init__(self, caller: CallerSide, ended: Callable[[Status], None]) -> None:
        self.status: Status | None = None
        self._caller = caller
        self._ended = ended
        self._runtime: RuntimeSide | None = None
        self._early: list[bytes] = []
        self._request_ended = False
        self._answer_begun = False

    def start(self, open_call: Callable[[Listener], RuntimeSide]) -> None:
        """Go on to the runtime, with what has come of the request until now; nothing happens to a call that is over."""
        if self.status is not None:
            return
        self._runtime = open_call(self)
        early, self._early = self._early, []
        for data in early:
            self._runtime.send(data)
        if self._request_ended and self._runtime is not None:
            self._runtime.send(b"", ended=True)

    # -- from the caller ----------------------------------------------------------------------------------------------

    def request_came(self, data: bytes, *, ended: bool) -> None:
        """Take a piece of the request."""
        self._request_ended = self._request_ended or ended
        if self.status is not None:
            return
        if self._runtime is not None:
            self._runtime.send(data, ended=ended)
        elif data:
            self._early.append(data)

    def answer_taken(self, size: int) -> None:
        """Learn that so much of the answer has gone out."""
        if self._runtime is not None:
            self._runtime.acknowledge(size)

    def caller_left(self) -> None:
        """Learn that the client has reset the call, or is gone."""
        if self.status is None:
            self._leave_runtime()
            self._end(Status.CANCELLED)

    # -- from the clock and the server --------------------------------------------------------------------------------

    def deadline_passed(self) -> None:
        """End a call that neither the runtime nor the client has ended in its time."""
        self._answer(Status.DEADLINE_EXCEEDED, "the client's deadline has passed")

    def server_stops(self) -> None:
        """End a call that is still under way when the server ends."""
        self._answer(Status.UNAVAILABLE, "the image service is stopping")

    def _answer(self, status: Status, text: str) -> None:
        if self.status is None:
            self._leave_runtime()
            self._send_status(status, text)

    # -- from the runtime, as its listener ----------------------------------------------------------------------------

    def headers_came(self, headers: Headers, *, ended: bool) -> None:
        """Pass headers or trailers on."""
        self._answer_begun = True
        self._caller.send_headers(headers, ended=ended)
        if ended:
            self._end(status_of_trailers(headers)[0])

    def data_came(self, data: bytes, size: int, *, ended: bool) -> None:
        """Pass a piece of the answer on."""
        self._caller.send_data(data, size, ended=ended)
        if ended:
            self._end(Status.UNKNOWN)

    def request_taken(self, size: int) -> None:
        """Let the client send as much again."""
        self._caller.give_back(size)

    def was_reset(self, code: int, text: str) -> None:
        """Pass a reset on, whose code tells the client what to do; a fault of the runtime's is told in words."""
        if text:
            self._send_status(Status.INTERNAL, f"the runtime's answer cannot be passed on: {text}")
            return
        self._caller.reset(code)
        self._end(Status.CANCELLED if code == CANCEL else Status.UNAVAILABLE)

    def was_lost(self, text: str) -> None:
        """Tell that the runtime cannot be reached, or not any more."""
        if self.status is None:
            self._runtime = None
            self._send_status(Status.UNAVAILABLE, text)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _send_status(self, status: Status, text: str) -> None:
        trailers = [
            (b"grpc-status", str(status.value).encode()),
            (b"grpc-message", encode_grpc_message(text[:_TEXT_LIMIT]).encode()),
        ]
        headers = trailers if self._answer_begun else [*_ANSWER_HEADERS, *trailers]
        self._caller.send_headers(headers, ended=True)
        self._end(status)

    def _leave_runtime(self) -> None:
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.reset()

    def _end(self, status: Status) -> None:
        self.status = status
        self._early.clear()
        self._ended(status)

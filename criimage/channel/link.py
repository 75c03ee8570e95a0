"""One connection to a unix socket: `ClientConnection` on asyncio, and who listens to which of its streams."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from criimage.channel.connection import ClientConnection
from criimage.channel.events import DataCame, Goodbye, HeadersCame, Ready, Taken, WasReset
from criimage.channel.frames import ProtocolFault
from criimage.channel.watch import INTERVAL, PingWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from criimage.channel.events import Event
    from criimage.channel.header_blocks import Headers

__all__ = ["Link", "Listener"]

UNSENT_LIMIT = 2**27
"""Bytes that may wait for the socket; requests are held back long before, answers to a peer's PINGs are not."""

_READ = 2**16
"""Bytes of one read at most; more is left to the next one."""

_CLOSED = "the peer closed the connection"


class Listener(Protocol):
    """Takes what becomes of a call. After headers or data that end it, a reset or a loss, nothing more comes."""

    def headers_came(self, headers: Headers, *, ended: bool) -> None:
        """Take the answer's headers, or its trailers; the list is not to be changed."""

    def data_came(self, data: bytes, size: int, *, ended: bool) -> None:
        """Take a piece of the answer; `size` is to be acknowledged once it is of no more cost."""

    def request_taken(self, size: int) -> None:
        """Learn that so many bytes of the request have gone out."""

    def was_reset(self, code: int, text: str) -> None:
        """Learn that the peer ended the call, or that we did for a fault of the peer's, which the text tells."""

    def was_lost(self, text: str) -> None:
        """Learn that there is no connection, or no longer."""


class Link(asyncio.Protocol):
    """A connection; its owner learns of every change by the callbacks.

    Args:
        name: of the peer, for messages.
        changed: room for calls has come, or has gone for good.
        silence: begins (True) or ends (False): a PING is not answered.

    Attributes:
        connection: its state.
        ready: resolves when the handshake is over, fails with ProtocolFault if it cannot be any more.
        place: what tells the socket that it was made to from one of the same path.
    """

    def __init__(self, name: str, changed: Callable[[Link], None], silence: Callable[[Link, bool], None]) -> None:
        loop = asyncio.get_running_loop()
        self.connection = ClientConnection()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.place: tuple[int, int] | None = None
        self._loop = loop
        self._name = name
        self._changed = changed
        self._silence = silence
        self._listeners: dict[int, Listener] = {}
        self._transport: asyncio.Transport | None = None
        self._flushing = False
        self._watch = PingWatch(loop.time())
        self._timer: asyncio.TimerHandle | None = None
        self._fault = ""

    # -- calls --------------------------------------------------------------------------------------------------------

    def begin(self, headers: Headers, listener: Listener, *, ended: bool) -> int:
        """Begin a call; only while the connection has room."""
        stream = self.connection.begin(headers, ended=ended)
        self._listeners[stream] = listener
        self.flush_soon()
        return stream

    def send(self, stream: int, data: bytes, *, ended: bool) -> None:
        """Send a piece of a request; the listener is told when it has gone out, perhaps before this returns."""
        sent = self.connection.send(stream, data, ended=ended)
        self.flush_soon()
        if sent and stream in self._listeners:
            self._listeners[stream].request_taken(sent)

    def acknowledge(self, stream: int, size: int) -> None:
        """Give back the window of bytes that were taken."""
        self.connection.acknowledge(stream, size)
        self.flush_soon()

    def reset(self, stream: int, code: int) -> None:
        """End a call; its listener hears nothing more."""
        if self._listeners.pop(stream, None) is not None:
            self.connection.reset(stream, code)
            self.flush_soon()
            self._hang_up_if_over()
            self._changed(self)

    def close(self) -> None:
        """Hang up; listeners are told that the connection is lost."""
        if self._transport is not None:
            self._transport.close()

    def retire(self) -> None:
        """Take no more calls; hang up when the last one is over."""
        self.connection.going = True
        self._hang_up_if_over()

    @property
    def is_open(self) -> bool:
        """Whether calls may be under way here."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def lost(self) -> str:
        """Why the connection is no more; empty while it is."""
        return "" if self.is_open else self._fault or _CLOSED

    @property
    def has_room(self) -> bool:
        """Whether a call can begin here now."""
        return self.connection.has_room and self.is_open

    @property
    def silent(self) -> bool:
        """Whether a PING has not been answered."""
        return self._watch.silent

    # -- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        # asyncio's own 256 KiB would be taken for each read, mostly for a hundred bytes.
        transport.max_size = _READ  # type: ignore[attr-defined]
        self.flush_soon()
        self._timer = self._loop.call_later(INTERVAL, self._tick)

    def data_received(self, data: bytes) -> None:
        """Tell everybody what came."""
        events: Sequence[Event]
        had_room, fault = self.connection.has_room, None
        try:
            events = self.connection.receive(data)
        except ProtocolFault as error:
            events, fault = error.events, error
        answer = False
        for event in events:
            answer = self._tell(event) or answer
        if self._watch.heard(self._loop.time(), answer=answer):
            self._silence(self, False)
        if fault is not None:
            self._fault = str(fault)
            self.close()
            return
        if self.connection.has_room and not had_room:
            self._changed(self)
        self.flush_soon()

    def pause_writing(self) -> None:
        """Hold data back."""
        self.connection.let_write(False)

    def resume_writing(self) -> None:
        """Let data go again."""
        for event in self.connection.let_write(True):
            self._tell(event)
        self.flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every listener."""
        if self._timer is not None:
            self._timer.cancel()
        reason = getattr(exc, "strerror", None) or str(exc) if exc else _CLOSED
        self._fault = self._fault or reason
        self._transport = None
        if not self.ready.done():
            self.ready.set_exception(ProtocolFault(self._fault))
            self.ready.exception()  # nobody may wait for it any more
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener.was_lost(f"lost the connection to {self._name}: {self._fault}")
        self._changed(self)

    def flush_soon(self) -> None:
        """Send what there is once everything that is due now has been done, so that it goes out in one write."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        data = self.connection.to_send()
        if data and self._transport is not None:
            self._transport.write(data)
            if self._transport.get_write_buffer_size() > UNSENT_LIMIT:
                self._fault = "the peer takes none of the answers that it asks for"
                self._transport.abort()

    def _tell(self, event: Event) -> bool:
        """Pass an event on; return whether it is a piece of an answer."""
        if isinstance(event, HeadersCame | DataCame):
            listener = self._over(event.stream) if event.ended else self._listeners.get(event.stream)
            if listener is None:
                pass
            elif isinstance(event, HeadersCame):
                listener.headers_came(event.headers, ended=event.ended)
            else:
                listener.data_came(event.data, event.size, ended=event.ended)
            return True
        if isinstance(event, Taken | WasReset):
            self._tell_of_request(event)
        elif isinstance(event, Ready):
            if not self.ready.done():
                self.ready.set_result(None)
        elif isinstance(event, Goodbye):
            self._fault = f"the peer said goodbye{': ' if event.text else ''}{event.text}"
            self._changed(self)
            self._hang_up_if_over()
        return False

    def _tell_of_request(self, event: Taken | WasReset) -> None:
        if isinstance(event, WasReset):
            listener = self._over(event.stream)
            if listener is not None:
                listener.was_reset(event.code, event.text)
        elif event.stream in self._listeners:
            self._listeners[event.stream].request_taken(event.size)

    def _over(self, stream: int) -> Listener | None:
        listener = self._listeners.pop(stream, None)
        self._loop.call_soon(self._changed, self)
        self._hang_up_if_over()
        return listener

    def _hang_up_if_over(self) -> None:
        if self.connection.going and not self._listeners:
            self._flush()
            self.close()

    def _tick(self) -> None:
        ping, silent = self._watch.tick(self._loop.time(), waiting=bool(self._listeners))
        if ping:
            self.connection.ping()
            self._flush()
        if silent:
            self._silence(self, True)
        self._timer = self._loop.call_later(INTERVAL, self._tick)

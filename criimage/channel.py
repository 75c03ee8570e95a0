"""A client's connection to any CRI socket, in bytes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from grpclib.client import Channel as GrpclibChannel
from grpclib.client import Handler
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame

if TYPE_CHECKING:
    from asyncio import BaseTransport
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["CallError", "Channel"]

_CONNECTION_WINDOW = 64 * 2**20
_STREAM_WINDOW = 4 * 2**20


class CallError(Exception):
    """A call that did not end with OK.

    Args:
        status: gRPC status; UNAVAILABLE where nobody answers at the socket.
        text: the server's message.
    """

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(f"{text} ({status.name})")
        self.status = status
        self.text = text


class _BytesCodec(CodecBase):
    """Passes messages through as the bytes they are."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: object) -> bytes:
        return message

    def decode(self, data: bytes, message_type: object) -> bytes:
        return data


class _Connection(H2Protocol):
    """A connection to a server that may say goodbye: calls under way are answered, later ones connect anew.

    h2 takes every GOAWAY for the end of the connection, so that a server that stops well could not answer any more.
    """

    transport: BaseTransport | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport = transport
        frames = self.connection._connection._frame_dispatch_table  # noqa: SLF001 - there is no public way
        last_word = frames[GoAwayFrame]

        def goodbye(frame: GoAwayFrame) -> tuple[list[object], list[object]]:
            if frame.error_code != ErrorCodes.NO_ERROR or not self.processor.streams:
                return last_word(frame)  # type: ignore[no-any-return]
            self.handler.connection_lost = True  # type: ignore[attr-defined]  # what the channel looks at
            for stream_id, stream in self.processor.streams.items():
                if stream_id > frame.last_stream_id:
                    stream.__terminated__("the server is stopping and has not looked at the call")
            return [], []

        frames[GoAwayFrame] = goodbye

    def hang_up(self) -> None:
        """Close what a goodbye may have left open."""
        if self.transport is not None:
            self.transport.close()


class _GrpclibChannel(GrpclibChannel):
    """Makes such connections, and closes all of them."""

    def __init__(self, path: Path) -> None:
        # One stalled stream must not hold up another call (python-stack 3), hence the windows.
        config = Configuration(http2_connection_window_size=_CONNECTION_WINDOW, http2_stream_window_size=_STREAM_WINDOW)
        super().__init__(path=str(path), codec=_BytesCodec(), config=config)
        self._made: list[_Connection] = []

    def _protocol_factory(self) -> H2Protocol:
        made = _Connection(Handler(), self._config, self._h2_config)
        self._made = [one for one in self._made if one.transport is not None and not one.transport.is_closing()]
        self._made.append(made)
        return made

    def close(self) -> None:
        super().close()
        for connection in self._made:
            connection.hang_up()


class Channel:
    """An async context manager; connects at the first call, and again after a lost connection.

    Args:
        path: of the unix socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._channel: GrpclibChannel | None = None

    async def __aenter__(self) -> Self:
        self._channel = _GrpclibChannel(self._path)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._channel is not None:
            self._channel.close()

    async def unary(self, method: str, request: bytes, seconds: float | None = None) -> bytes:
        """Call `/package.Service/Method` and return the reply's bytes.

        After a cancel the server is told that the call is over.

        Args:
            method: the path.
            request: an encoded message.
            seconds: the call's deadline, or None for none.

        Raises:
            CallError: the server answered something else than OK, or nobody answers.
        """
        with self._errors_translated(seconds):
            async with self._open.request(method, Cardinality.UNARY_UNARY, bytes, bytes, timeout=seconds) as stream:
                await stream.send_message(request, end=True)
                reply = await stream.recv_message()
        if reply is None:
            raise CallError(Status.INTERNAL, "the server sent no reply")
        return reply

    async def stream(self, method: str, request: bytes) -> AsyncGenerator[bytes, None]:
        """Call a method that answers with a stream, and yield its messages until it ends.

        Closing the generator ends the call. Raises as `unary` does.
        """
        with self._errors_translated(None):
            async with self._open.request(method, Cardinality.UNARY_STREAM, bytes, bytes) as stream:
                await stream.send_message(request, end=True)
                async for message in stream:
                    yield message

    @property
    def _open(self) -> GrpclibChannel:
        if self._channel is None:
            raise RuntimeError("the channel is not open")
        return self._channel

    @contextmanager
    def _errors_translated(self, seconds: float | None) -> Iterator[None]:
        try:
            yield
        except GRPCError as error:
            raise CallError(error.status, error.message or error.status.name.lower()) from None
        except TimeoutError:
            limit = "" if seconds is None else f" within {seconds:g} s"
            raise CallError(Status.DEADLINE_EXCEEDED, f"no answer{limit}") from None
        except (OSError, ProtocolError, StreamTerminatedError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CallError(Status.UNAVAILABLE, f"cannot reach {self._path}: {reason}") from None

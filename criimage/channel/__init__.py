"""A client's connection to any CRI socket, in bytes: for the client commands, a backend on another runtime, the relay.

calls          gRPC: messages, deadlines, errors
links          connections to one socket, made and made again
link           one of them, on asyncio
connection     its HTTP/2, without a socket; events, sending, frames, header_blocks and watch are its parts
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from grpclib.const import Status

from criimage.channel.calls import CallError, GrpcCall, request_headers
from criimage.channel.links import Links

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
    from pathlib import Path

__all__ = ["MESSAGE_LIMIT", "CallError", "Channel"]

MESSAGE_LIMIT = 64 * 2**20
"""Largest message of an answer, unless a channel is made with another."""


class Channel:
    """An async context manager; connects at the first call, and again after a lost connection.

    A call made while nobody listens fails at once; one to a peer that accepts but does not finish the handshake fails
    after `links.HANDSHAKE_SECONDS`; one to a peer that hangs later waits as long as its deadline allows.

    Args:
        path: of the unix socket.
        told: is called, in the event loop, with what is wrong with the peer (nobody listens, a PING is not answered),
            or with None if it works: once that is known, and when it changes.
        message_limit: largest message of an answer in bytes.
    """

    def __init__(
        self, path: Path, told: Callable[[str | None], None] | None = None, *, message_limit: int = MESSAGE_LIMIT
    ) -> None:
        self._path = path
        self._told = told
        self._limit = message_limit
        self._links: Links | None = None

    async def __aenter__(self) -> Self:
        self._links = Links(self._path, self._told)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._links is not None:
            self._links.close()
            self._links = None

    @property
    def links(self) -> Links:
        """What the calls go out on, for those who pass bytes on themselves.

        Raises:
            RuntimeError: outside of `async with`.
        """
        if self._links is None:
            raise RuntimeError("the channel is not open")
        return self._links

    async def unary(
        self,
        method: str,
        request: bytes,
        seconds: float | None = None,
        *,
        metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> bytes:
        """Call `/package.Service/Method` and return the reply's bytes.

        A call that the server says it has not looked at is made once more. After a cancel the server is told that the
        call is over.

        Args:
            method: the path.
            request: an encoded message.
            seconds: the call's deadline, or None for none.
            metadata: names in lower case; a value of a name in `-bin` is given as the bytes it stands for.

        Raises:
            CallError: the server answered something else than OK, or nobody answers.
        """
        async with _until(_end(seconds), seconds):
            try:
                return await self._unary(method, request, seconds, metadata)
            except CallError as error:
                if not error.untouched:
                    raise
            return await self._unary(method, request, seconds, metadata)

    async def _unary(
        self, method: str, request: bytes, seconds: float | None, metadata: Iterable[tuple[str, str | bytes]]
    ) -> bytes:
        call = self._begin(method, seconds, metadata)
        try:
            call.send(request)
            reply = await call.receive()
            if reply is None:
                raise CallError(Status.INTERNAL, "the server sent no reply")
            if await call.receive() is not None:
                raise CallError(Status.INTERNAL, "the server sent more than one reply")
            return reply
        finally:
            call.cancel()

    async def stream(
        self,
        method: str,
        request: bytes,
        seconds: float | None = None,
        *,
        metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> AsyncGenerator[bytes, None]:
        """Call a method that answers with a stream, and yield its messages until it ends.

        Closing the generator ends the call. Who takes messages slowly slows the server down, and no other call. Takes
        and raises what `unary` does.
        """
        call = self._begin(method, seconds, metadata)
        end = _end(seconds)
        try:
            call.send(request)
            while True:
                async with _until(end, seconds):
                    message = await call.receive()
                if message is None:
                    return
                yield message
        finally:
            call.cancel()

    def _begin(self, method: str, seconds: float | None, metadata: Iterable[tuple[str, str | bytes]]) -> GrpcCall:
        return GrpcCall(self.links, request_headers(method, seconds, metadata), self._limit)


def _end(seconds: float | None) -> float | None:
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


@asynccontextmanager
async def _until(end: float | None, seconds: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(end):
            yield
    except TimeoutError:
        raise CallError(Status.DEADLINE_EXCEEDED, f"no answer within {seconds or 0:g} s", reached=False) from None

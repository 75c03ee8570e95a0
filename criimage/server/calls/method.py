"""What a server can be asked, by path, and how one request becomes one reply, or several."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from grpclib.const import Status

from criimage.server.calls.call import Call, CallFailed

__all__ = ["Answer", "Handler", "Method", "server_stream", "unary"]

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
    """What makes the only reply, where that may be tried before the call has a task (`criimage.server.http2.hot`)."""

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

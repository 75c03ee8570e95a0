"""One skopeo that is kept up to ask registries for manifests, as `skopeo experimental-image-proxy` (cri-o T17)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, TypeVar

from criimage_containers_storage.pulling.proxy_protocol import (
    OddProxyError,
    Reply,
    Request,
    greet,
    read_reply,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

__all__ = ["Proxy"]

T = TypeVar("T")

_QUICK_SECONDS = 3.0
_LEAVE_SECONDS = 1.0
_GONE_SECONDS = 2.0
_LISTEN_SECONDS = 0.25
# An error's text may be a page that a registry has sent.
_REPLY_LIMIT = 256 << 10
_SAID_LIMIT = 256 << 10
_CONTENT_LIMIT = 16 << 20
_PIECE = 64 << 10
_PIPES = 4


class Proxy:
    """A running proxy: one question at a time, and none after one that has not come to its end.

    Use `start`. It ends when our end of its socket is closed, so it does not outlive us unless a registry hangs; such
    ones are found like other skopeos that a killed server has left (`orphans`).
    """

    def __init__(self, process: asyncio.subprocess.Process, ours: socket.socket, said: int, auth: int | None) -> None:
        self._process = process
        self._socket = ours
        self._said = said
        self._auth = auth
        self._pipe: tuple[int, int] | None = None
        self._closed = False
        self._gone = asyncio.create_task(process.wait(), name="image proxy")
        self.version = 0
        """Last number of the protocol's version."""
        self.questions = 0
        """How many it has answered."""
        self.began = time.monotonic()

    @classmethod
    async def start(
        cls, command: Sequence[str], flags: Sequence[str], environment: Mapping[str, str], *, logs_in: bool
    ) -> Proxy:
        """Start a proxy and greet it; cancelled, there is none.

        Args:
            command: skopeo and its verb, with what stands before it.
            flags: after the verb.
            environment: all of it.
            logs_in: its questions bring credentials of their own.

        Raises:
            FileNotFoundError: skopeo is not installed.
            OSError: no process or file can be had.
            OddProxyError: it is none that we know.
        """
        with contextlib.ExitStack() as stack:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(ours.close)
            with theirs:
                ours.setblocking(False)
                said = os.memfd_create("output", os.MFD_CLOEXEC)
                stack.callback(os.close, said)
                # Emptied before each question, it is written from its beginning again.
                fcntl.fcntl(said, fcntl.F_SETFL, fcntl.fcntl(said, fcntl.F_GETFL) | os.O_APPEND)
                auth = os.memfd_create("auth", os.MFD_CLOEXEC) if logs_in else None
                if auth is not None:
                    stack.callback(os.close, auth)
                login = ["--authfile", f"/proc/self/fd/{auth}"] if logs_in else []
                process = await asyncio.create_subprocess_exec(
                    *command,
                    *flags,
                    *login,
                    "--sockfd",
                    str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=said,
                    env=dict(environment),
                    pass_fds=(theirs.fileno(), *([] if auth is None else [auth])),
                    start_new_session=True,
                )
            stack.pop_all()
        proxy = cls(process, ours, said, auth)
        try:
            proxy.version = await greet(proxy)
        except BaseException:
            proxy.kill()
            raise
        return proxy

    @property
    def lives(self) -> bool:
        """It has not ended."""
        return not self._gone.done()

    async def question(
        self, ask: Callable[[Proxy], Awaitable[T]], auth: bytes, heard: Callable[[str], None] | None
    ) -> T:
        """Ask something; the credentials are wiped from its memory file when this returns, whatever comes.

        Args:
            ask: speaks with it.
            auth: content of an auth file, for a proxy that logs in.
            heard: told what skopeo says while a registry is asked.

        Raises:
            OddProxyError: it is ended by now.
            asyncio.CancelledError: the same.
            Exception: whatever `ask` has raised; the proxy works on if it is `RefusedError` or `UnansweredError`.
        """
        os.ftruncate(self._said, 0)
        listening = None
        if self._auth is not None:
            os.pwrite(self._auth, auth, 0)
        try:
            if heard is not None:
                listening = asyncio.create_task(self._listen(heard))
            answer = await ask(self)
        except (OddProxyError, asyncio.CancelledError):
            self.kill()
            raise
        finally:
            self.questions += 1
            if listening is not None:
                listening.cancel()
            self._wipe(len(auth))
        return answer

    async def call(self, request: Request) -> Reply:
        """See `proxy_protocol.Connection.call`."""
        self._send(request)
        return await self._reply(request)

    async def content(self) -> bytes:
        """See `proxy_protocol.Connection.content`."""
        if self._pipe is None:
            raise OddProxyError("it has sent no pipe")
        (number, pipe), self._pipe = self._pipe, None
        request = Request("FinishPipe", (number,))
        try:
            # skopeo answers this when all of it has been read.
            self._send(request)
            async with asyncio.timeout(_QUICK_SECONDS):
                found = await _all_of(pipe)
        except TimeoutError:
            raise OddProxyError("it does not finish a pipe") from None
        except OSError as error:
            raise OddProxyError(f"its pipe cannot be read ({error.strerror})") from error
        finally:
            os.close(pipe)
        await self._reply(request)
        return found

    def said(self) -> str:
        """See `proxy_protocol.Connection.said`."""
        length = os.fstat(self._said).st_size
        return os.pread(self._said, _SAID_LIMIT, max(0, length - _SAID_LIMIT)).decode("utf-8", "replace")

    def kill(self) -> None:
        """End it at once, with what it has started, and forget it. It changes nothing that could be left half done."""
        self.stop()
        self._close()

    def stop(self) -> None:
        """End it at once while somebody waits for its answer, who then forgets it."""
        if not self._gone.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """End it, and wait for that, for three seconds at most. Between two questions it leaves by itself."""
        self._close()
        if not await self._left(_LEAVE_SECONDS):
            self.kill()
            await self._left(_GONE_SECONDS)

    def _wipe(self, length: int) -> None:
        if self._auth is not None and not self._closed:
            os.pwrite(self._auth, bytes(length), 0)
            os.ftruncate(self._auth, 0)

    async def _left(self, seconds: float) -> bool:
        return bool((await asyncio.wait({self._gone}, timeout=seconds))[0])

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._auth is not None:
            os.ftruncate(self._auth, 0)
            os.close(self._auth)
        if self._pipe is not None:
            os.close(self._pipe[1])
        os.close(self._said)
        self._socket.close()

    async def _listen(self, heard: Callable[[str], None]) -> None:
        length = 0
        while True:
            await asyncio.sleep(_LISTEN_SECONDS)
            if os.fstat(self._said).st_size != length:
                length = os.fstat(self._said).st_size
                heard(self.said())

    def _send(self, request: Request) -> None:
        try:
            self._socket.send(request.packet)
        except OSError as error:
            raise OddProxyError(f"it is gone ({error.strerror})") from error

    async def _reply(self, request: Request) -> Reply:
        try:
            async with asyncio.timeout(_QUICK_SECONDS if request.quick else None):
                await _readable(self._socket.fileno())
            packet, pipes, _, _ = socket.recv_fds(self._socket, _REPLY_LIMIT + 1, _PIPES, socket.MSG_CMSG_CLOEXEC)
        except TimeoutError:
            raise OddProxyError(f"it does not answer {request.method}") from None
        except OSError as error:
            raise OddProxyError(f"it is gone ({error.strerror})") from error
        try:
            if not packet:
                raise OddProxyError("it has ended")
            if len(packet) > _REPLY_LIMIT or len(pipes) > 1 or (pipes and self._pipe is not None):
                raise OddProxyError("it answers more than it was asked for")
            reply = read_reply(packet, with_pipe=bool(pipes))
            if pipes:
                self._pipe = reply.pipe, pipes.pop()
        finally:
            for pipe in pipes:
                os.close(pipe)
        return reply


async def _all_of(pipe: int) -> bytes:
    os.set_blocking(pipe, False)
    found = bytearray()
    while len(found) <= _CONTENT_LIMIT:
        try:
            piece = os.read(pipe, _PIECE)
        except BlockingIOError:
            await _readable(pipe)
            continue
        if not piece:
            return bytes(found)
        found += piece
    raise OddProxyError("a manifest is longer than any")


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

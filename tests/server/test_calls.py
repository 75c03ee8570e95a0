"""A call by itself: its headers, its deadline, how its answer is written, and a fault in its handler."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from grpclib.const import Status

from criimage.server.calls import call
from criimage.server.calls.method import Method
from criimage.server.http2 import hardening
from criimage.server.listening.socket import BoundSocket
from criimage.server.server import Server
from criimage.settings import LimitSettings
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import serving, until
from server.methods import LIST, PULL, spec
from server.raw_calls import NAME, answers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from criimage.server.calls.call import Call
    from parts.raw_client import RawClient


@pytest.mark.parametrize("value", ["!", "YQ=", "a", "YQ==YQ==", "\xff", "YWI=,?"])
async def test_a_bad_binary_header_gets_an_answer(tmp_path: Path, value: str) -> None:
    """Cure 6: a `-bin` header that is not base64 is INVALID_ARGUMENT; grpclib left such a call unanswered."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        answer = await client.call(LIST, changes={"x-thing-bin": value.encode("latin-1")})
        assert answer.status == Status.INVALID_ARGUMENT.value
        assert "x-thing-bin" in answer.message
        assert not running.backend.calls
        await answers(client)


@pytest.mark.parametrize("value", ["", "YQ", "YQ==", "YWI,YQ==", "YWI, YQ", "+/+/"])
async def test_a_good_binary_header_is_taken(tmp_path: Path, value: str) -> None:
    """Base64 comes with and without padding, and several values joined by commas (gRPC over HTTP/2)."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        answer = await client.call(LIST, changes={"x-thing-bin": value})
        assert answer.status == Status.OK.value


@pytest.mark.parametrize("value", ["", "n", "1", "-1S", "1.5S", "1s", "123456789S", " 1S", "1S ", "1 S", "\u0661S"])
async def test_a_malformed_timeout_is_the_clients_fault(tmp_path: Path, value: str) -> None:
    """Cure 6: INVALID_ARGUMENT for a grpc-timeout that is not 1 to 8 digits and a unit, and nothing was touched."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        answer = await client.call(LIST, changes={"grpc-timeout": value.encode()})
        assert answer.status == Status.INVALID_ARGUMENT.value
        assert not running.backend.calls
        await answers(client)


@pytest.mark.parametrize("value", ["0n", "0S", "00000000H"])
@pytest.mark.parametrize("path", [LIST, PULL])
async def test_a_deadline_that_has_passed_is_said_so(tmp_path: Path, path: str, value: str) -> None:
    """Cure 6: no time left is DEADLINE_EXCEEDED, before the backend is asked anything."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        answer = await client.call(path, spec(NAME) if path == PULL else b"", {"grpc-timeout": value})
        assert answer.status == Status.DEADLINE_EXCEEDED.value
        assert not running.backend.calls


@pytest.mark.parametrize("value", ["99999999H", "60S", "99999999u", "30M"])
async def test_a_deadline_ahead_changes_nothing(tmp_path: Path, value: str) -> None:
    """Every unit, up to 11,000 years."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        answer = await client.call(LIST, changes={"grpc-timeout": value})
        assert answer.status == Status.OK.value


class _Writes:
    """Counts a transport's writes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.count = 0

    def write(self, data: bytes) -> None:
        self.count += 1
        self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


@pytest.mark.parametrize(("cured", "at_once"), [(True, True), (True, False), (False, False)])
async def test_a_reply_takes_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cured: bool, at_once: bool
) -> None:
    """Cure 8: headers, message and trailers leave together, with a task or without; grpclib writes three times."""
    if not cured:
        monkeypatch.setattr(hardening, "reply_at_once", lambda *_: False)
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        await answers(client)
        (connection,) = running.server.connections
        if not at_once:
            connection.reads = None
        writes = _Writes(connection.connection._transport)
        monkeypatch.setattr(connection.connection, "_transport", writes)
        request = await client.send(grpc_headers(LIST), framed(b""), end=True)
        await request.finished()
        assert writes.count == (1 if cured else 3)


async def test_a_reply_waits_for_the_clients_window(tmp_path: Path) -> None:
    """Cure 8 leaves flow control alone: of a reply larger than the window so much is sent as fits."""
    async with serving(tmp_path) as running:
        for name in ("a:1", "a:2", "b:1"):
            async with raw_client(running.path) as client:
                reference = b"example.com/" + name.encode()
                spec = b"\x0a" + bytes([len(reference)]) + reference
                assert (await client.call(PULL, b"\x0a" + bytes([len(spec)]) + spec)).status == 0
        async with raw_client(running.path, window=100) as client:
            await until(lambda: client.h2.local_settings.initial_window_size == 100)
            answer = await client.send(grpc_headers(LIST), framed(b""))
            await until(lambda: len(answer.data) == 100)
            assert not answer.done.is_set()
            async with raw_client(running.path) as other:
                await answers(other)
            client.cancel(answer)
            await client.flush()
            await running.quiet()


async def test_an_answer_nobody_reads_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes no byte of its answer keeps a call for SEND_LIMIT seconds, not for ever."""
    async with serving(tmp_path) as running, raw_client(running.path) as first:
        assert (await first.call(PULL, spec(NAME))).status == 0
        monkeypatch.setattr(call, "SEND_LIMIT", 0.05)
        async with raw_client(running.path, window=0) as client:
            await until(lambda: client.h2.local_settings.initial_window_size == 0)
            answer = await client.send(grpc_headers(LIST), framed(b""))
            await answer.finished()
            assert answer.status == Status.UNKNOWN.value
            await running.quiet()


class _Observer:
    """Notes how calls ended."""

    reads_headers: frozenset[bytes] = frozenset()

    def __init__(self) -> None:
        self.ends: list[Status] = []

    def began(self, operation: str, path: str, header: Callable[[str], str]) -> None:
        pass

    def ended(self, operation: str, status: Status, error: BaseException | None, seconds: float) -> None:
        self.ends.append(status)


@asynccontextmanager
async def serving_one(
    folder: Path, method: Method, limits: LimitSettings | None = None, observer: _Observer | None = None
) -> AsyncIterator[RawClient]:
    """A server that has one method, and a client of it."""
    bound = await asyncio.to_thread(BoundSocket.open, f"unix://{folder}/s")
    server = Server([method], observer or _Observer(), limits or LimitSettings())
    server.start(bound.socket)
    try:
        async with raw_client(folder / "s") as client:
            yield client
    finally:
        server.stop_accepting()
        await server.finish(0)
        await asyncio.to_thread(bound.close)


async def test_what_a_client_says_to_a_stream_is_not_held_against_it(tmp_path: Path) -> None:
    """Pings and window updates come with each message of a long answer: they are free, as with a short one."""
    heard = asyncio.Event()

    async def handle(call: Call) -> None:
        await call.receive()
        for _ in range(100):
            await call.send(b"x")
            await heard.wait()
            heard.clear()
        await call.finish()

    async with serving_one(tmp_path, Method("/a.B/C", handle), LimitSettings(frames=100)) as client:
        answer = await client.send(grpc_headers("/a.B/C"), framed(b""))
        for number in range(1, 101):
            await until(lambda: len(answer.messages) == number or client.closed.is_set())  # noqa: B023 - waited for
            assert not client.closed.is_set()
            for _ in range(4):
                client.h2.ping(b"12345678")
            await client.flush()
            heard.set()
        assert (await answer.finished()).status == Status.OK.value


async def test_a_call_that_is_cancelled_has_no_fault(tmp_path: Path) -> None:
    """Whoever resets his call ends its handler, and it counts as cancelled, not as an error of the server's."""
    waits, observer = asyncio.Event(), _Observer()

    async def handle(call: Call) -> None:
        await call.receive()
        waits.set()
        await asyncio.Event().wait()

    async with serving_one(tmp_path, Method("/a.B/C", handle), observer=observer) as client:
        answer = await client.send(grpc_headers("/a.B/C"), framed(b""))
        await waits.wait()
        client.cancel(answer)
        await client.flush()
        await until(lambda: observer.ends)
    assert observer.ends == [Status.CANCELLED]


@pytest.mark.parametrize("fault", [ValueError("secret"), asyncio.CancelledError("secret"), TimeoutError("secret")])
async def test_a_fault_in_a_handler_is_an_answer_without_its_text(tmp_path: Path, fault: BaseException) -> None:
    """No call stays unanswered, even if a library lets a CancelledError escape that nobody asked for."""

    async def handle(call: Call) -> None:
        await call.receive()
        raise fault

    async with serving_one(tmp_path, Method("/a.B/C", handle)) as client:
        answer = await client.call("/a.B/C")
        assert answer.status == Status.INTERNAL.value
        assert "secret" not in answer.message


def test_a_reply_that_cannot_go_out_at_once_is_not_sent() -> None:
    """While the socket takes nothing, and where the stream is closed or has no number, the long way is told of it."""
    ready, full = asyncio.Event(), asyncio.Event()
    ready.set()
    for write_ready, closable, number in ((full, True, 1), (ready, False, 1), (ready, True, None)):
        stream = SimpleNamespace(connection=SimpleNamespace(write_ready=write_ready), closable=closable, id=number)
        assert not hardening.reply_at_once(cast("Any", stream), b"reply")

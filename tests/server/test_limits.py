"""Claims: clients cannot keep the server busy or full with requests that never come, and nobody else notices."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status

from criimage.server.http2 import hardening
from criimage.server.http2.limits import (
    EARNED_BY_ANSWER,
    FRAME_OVERHEAD,
    REFILL_PART,
    ConnectionLimits,
    LimitReached,
    SharedLimits,
)
from criimage.settings import LimitSettings
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import serving, until

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from pathlib import Path
    from typing import Any


VERSION = "/runtime.v1.RuntimeService/Version"
PULL = "/runtime.v1.ImageService/PullImage"
PULL_A1 = b"\x0a\x11\x0a\x0fexample.com/a:1"
CALM = 11
MIB = 2**20


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sees its own lines: they are said once a second."""
    monkeypatch.setattr(hardening._cut_off, "_next", 0.0)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


FLOODS: dict[str, Callable[[], bytes]] = {
    "pings": lambda: frame(6, 0, 0, b"12345678"),
    "answers to pings": lambda: frame(6, 1, 0, b"12345678"),
    "settings": lambda: frame(4, 0, 0),
    "empty data": lambda: frame(0, 0, 1),
    "padding": lambda: frame(0, 8, 1, b"\x05" + bytes(5)),
    "one byte": lambda: frame(0, 0, 1, b"\0"),
    "window updates": lambda: frame(8, 0, 0, b"\0\0\0\x01"),
    "priorities": lambda: frame(2, 0, 1, b"\0\0\0\x03\x10"),
    "unknown kinds": lambda: frame(99, 0, 0, b"x"),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_frames_that_do_nothing_is_cut(
    tmp_path: Path, kind: str, events: list[MutableMapping[str, Any]]
) -> None:
    """ENHANCE_YOUR_CALM and a line in the log, after as many as `frames` allows; another client is served."""
    async with serving(tmp_path, limits={"frames": 1000}) as running, raw_client(running.path) as client:
        await client.send(grpc_headers(VERSION), end=False)
        async with raw_client(running.path) as other:
            for _ in range(40):
                await client.write(FLOODS[kind]() * 100)
            await client.closed.wait()
            assert (await other.call(VERSION)).status == 0
        assert client.goaway is not None
        assert client.goaway[1] == CALM
        await running.quiet()
    assert [event["limit"] for event in events if "limit" in event] == ["too many frames that do nothing"]


@pytest.mark.parametrize("kind", FLOODS)
async def test_as_many_as_are_allowed_do_no_harm(tmp_path: Path, kind: str) -> None:
    """A legal empty DATA frame in a message, padding, pings: the call is answered as if they had not been there."""
    async with serving(tmp_path, limits={"frames": 1000}) as running, raw_client(running.path) as client:
        answer = await client.send(grpc_headers(VERSION), framed(b"\x0a\x01v")[:4], end=False)
        unharmed = frame(0, 0, 1) if kind == "one byte" else FLOODS[kind]()
        await client.write(unharmed * 300)
        client.h2.send_data(answer.stream, framed(b"\x0a\x01v")[4:], end_stream=True)
        await client.flush()
        assert (await answer.finished()).status == 0


async def test_rapid_resets_are_cut(tmp_path: Path) -> None:
    """A call and its reset cost a task each: what `resets` allows is taken, then the connection is closed."""
    async with serving(tmp_path, limits={"resets": 100}) as running, raw_client(running.path) as client:
        for _ in range(3):
            for _ in range(100):
                client.cancel(client.prepare(grpc_headers(VERSION), end=False))
            await client.flush()
            await asyncio.sleep(0)
        await client.closed.wait()
        assert client.goaway is not None
        assert client.goaway[1] == CALM
        async with raw_client(running.path) as other:
            assert (await other.call(VERSION)).status == 0


async def test_more_calls_than_streams_are_refused_one_by_one(tmp_path: Path) -> None:
    """REFUSED_STREAM for those above the number, the others are answered; a client that goes on is closed."""
    async with serving(tmp_path, limits={"streams": 20}) as running, raw_client(running.path) as client:
        await client.call(VERSION)
        client.h2.remote_settings.max_concurrent_streams = 1000
        client.h2.remote_settings.acknowledge()
        requests = [client.prepare(grpc_headers(VERSION), end=False) for _ in range(30)]
        await client.flush()
        await asyncio.gather(*(request.finished() for request in requests[20:]))
        assert [request.reset for request in requests[20:]] == [7] * 10
        for request in requests[:20]:
            client.h2.send_data(request.stream, framed(b""), end_stream=True)
        await client.flush()
        await asyncio.gather(*(request.finished() for request in requests[:20]))
        assert [request.status for request in requests[:20]] == [0] * 20

        for _ in range(50):
            client.prepare(grpc_headers(VERSION), end=False)
        await client.flush()
        await client.closed.wait()


async def test_4000_calls_in_a_row_are_answered_on_one_connection(tmp_path: Path) -> None:
    """Cure 9: streams that have ended do not count, and none of them is kept."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        for _ in range(20):
            requests = [client.prepare(grpc_headers(VERSION), framed(b"")) for _ in range(200)]
            await client.flush()
            for request in requests:
                assert (await request.finished()).status == 0
        await running.quiet()
        (connection,) = running.server.connections
        assert len(connection.connection._connection.streams) <= 400
        assert not connection.limits._open
        assert not connection.limits._held


async def test_a_request_that_never_comes_is_answered(tmp_path: Path) -> None:
    """DEADLINE_EXCEEDED after `request_timeout`, whatever part has come; nothing of it is left."""
    parts = (b"", b"\0", framed(b"\x0a\x01v")[:-1])
    async with (
        serving(tmp_path, limits={"request_timeout": "50ms"}) as running,
        raw_client(running.path) as client,
    ):
        requests = [await client.send(grpc_headers(VERSION), part, end=False) for part in parts]
        for request in requests:
            await request.finished()
            assert request.status == Status.DEADLINE_EXCEEDED.value
            assert "has not come completely" in request.message
        await running.quiet()
        assert running.server.limits.requests == 0
        assert running.server.limits.bytes == 0


async def test_who_holds_the_most_gives_way(tmp_path: Path) -> None:
    """Bounds of all connections: the one with the most incomplete requests is closed, not the one that came last."""
    async with (
        serving(tmp_path, limits={"incomplete_requests": 50}) as running,
        raw_client(running.path) as greedy,
        raw_client(running.path) as other,
    ):
        for _ in range(50):
            greedy.prepare(grpc_headers(VERSION), end=False)
        await greedy.flush()
        await until(lambda: running.server.limits.requests == 50)
        mine = await other.send(grpc_headers(VERSION), framed(b"")[:2], end=False)
        await greedy.closed.wait()
        other.h2.send_data(mine.stream, framed(b"")[2:], end_stream=True)
        await other.flush()
        assert (await mine.finished()).status == 0


async def test_16_mib_in_and_64_mib_out_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest request and a large answer are no flood, nor is what a client with small windows says to it."""
    big = bytes(64 * MIB)

    async with serving(tmp_path) as running, raw_client(running.path) as client:
        method = running.server.methods[VERSION]

        async def handle(call: Any) -> None:  # noqa: ANN401
            assert len(await call.receive()) == 16 * MIB
            await call.reply(big)

        monkeypatch.setitem(running.server.methods, VERSION, type(method)(VERSION, handle))
        answer = await client.send(grpc_headers(VERSION), framed(bytes(16 * MIB)))
        await answer.finished()
        assert len(answer.data) == 5 + len(big)
        assert client.goaway is None
        assert (await client.call("/runtime.v1.RuntimeService/Status")).status == 0


def counted(**settings: int) -> tuple[SharedLimits, ConnectionLimits]:
    """A connection's limits after its preface."""
    shared = SharedLimits(LimitSettings.model_validate(settings))
    connection = shared.connection(lambda _: None)
    connection.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    return shared, connection


def test_every_byte_of_a_streams_number_counts() -> None:
    """Whichever of the four differs, it is another stream; the highest bit is reserved and no part of it."""
    _, connection = counted()
    numbers = [0x1, 0x101, 0x10101, 0x1010101]
    for number in numbers:
        connection.received(frame(1, 4, number, b"h" * 20))
    connection.received(frame(0, 0, 0x8000_0000 | numbers[-1], b"d" * 5))
    assert set(connection._held) == set(numbers)
    assert connection._held[numbers[-1]] > connection._held[numbers[0]] == 0


@pytest.mark.parametrize("step", [1, 2, 3, 8, 9, 10, 1000, 10**6])
def test_frames_are_counted_however_they_are_cut(step: int) -> None:
    """Any split of the bytes gives the same count."""
    _, connection = counted()
    stream = b"".join(
        frame(1, 4, number, b"h" * 20) + frame(0, 0, number, bytes(number * 100)) for number in range(1, 41, 2)
    )
    for start in range(0, len(stream), step):
        connection.received(stream[start : start + step])
    assert connection.requests == 20
    assert connection.bytes == sum(number * 100 + FRAME_OVERHEAD for number in range(1, 41, 2))
    connection.received(b"".join(frame(0, 1, number) for number in range(1, 41, 2)))
    assert (connection.requests, connection.bytes) == (0, 0)


def test_what_frames_cost_beside_their_bytes_is_counted() -> None:
    """One byte a frame: cut long before the memory is full, however patiently it comes."""
    _, connection = counted(frames=10**9)
    connection.received(frame(1, 4, 1, b"h"))
    for _ in range(64 * MIB // (1000 * (FRAME_OVERHEAD + 1))):
        connection.received(frame(0, 0, 1, b"x") * 1000)
    with pytest.raises(LimitReached, match="too many bytes"):
        connection.received(frame(0, 0, 1, b"x") * 1000)
    assert connection.bytes <= 65 * MIB


def test_allowances_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are allowed in one go, and what answers add to that, and not one more."""
    monkeypatch.setattr("criimage.server.http2.limits.time.monotonic", lambda: 1000.0)
    ping, reset = frame(6, 0, 0, b"12345678"), frame(3, 0, 1, b"\0\0\0\x08")
    for piece, answers, allowed in ((ping, 0, 100), (ping, 3, 100 + 3 * EARNED_BY_ANSWER), (reset, 0, 50)):
        _, connection = counted(frames=100, resets=50)
        for _ in range(answers):
            connection.answered(1)
        connection.received(piece * allowed)
        with pytest.raises(LimitReached):
            connection.received(piece)


@pytest.mark.parametrize("piece", [frame(6, 0, 0, b"12345678"), frame(3, 0, 1, b"\0\0\0\x08")], ids=["pings", "resets"])
def test_allowances_come_back_in_proportion(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """Half of the time for all of it brings half of it back, however long nothing came before."""
    now = 1000.0
    monkeypatch.setattr("criimage.server.http2.limits.time.monotonic", lambda: now)
    _, connection = counted(frames=100, resets=100)
    now += 1_000_000.0
    connection.received(piece * 100)
    now += REFILL_PART / 2
    connection.received(piece * 50)
    with pytest.raises(LimitReached):
        connection.received(piece)


@pytest.mark.parametrize("end", [frame(0, 1, 1), frame(1, 5, 1, b"h"), frame(3, 0, 1, b"\0\0\0\x08")])
def test_a_request_is_complete_however_it_ends(end: bytes) -> None:
    """With its data, with trailers, or with a reset: it is held no longer."""
    shared, connection = counted()
    connection.received(frame(1, 4, 1, b"h") + frame(0, 0, 1, b"d" * 50))
    assert (connection.requests, connection.bytes) == (1, 50 + FRAME_OVERHEAD)
    connection.received(end)
    assert (connection.requests, connection.bytes, shared.requests, shared.bytes) == (0, 0, 0, 0)


def test_allowances_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that pings now and then does so for years; answers allow more on top."""
    now = 1000.0
    monkeypatch.setattr("criimage.server.http2.limits.time.monotonic", lambda: now)
    _, connection = counted(frames=100)
    for _ in range(50):
        now += 1.0
        connection.received(frame(6, 0, 0, b"12345678") * 20)
    connection.answered(64 * MIB)
    connection.received(frame(8, 0, 0, b"\0\0\0\x01") * 60_000)
    with pytest.raises(LimitReached):
        connection.received(frame(6, 0, 0, b"12345678") * 6_000)


async def test_a_closed_connection_is_forgotten(tmp_path: Path) -> None:
    """What it held is free again for others."""
    async with serving(tmp_path) as running:
        async with raw_client(running.path) as client:
            await client.send(grpc_headers(VERSION), b"\0", end=False)
            await until(lambda: running.server.limits.requests == 1)
        await until(lambda: not running.server.connections)
        assert (running.server.limits.requests, running.server.limits.bytes) == (0, 0)
        assert not running.server.limits._connections

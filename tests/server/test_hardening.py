"""The cures of criimage/server/http2/hardening.py, as far as they are a connection's (python-stack 2).

Those of a call are in test_calls.py, the one of the end in test_stopping.py. Each test fails when its cure is taken
out. Where the fault can be shown beside the cure, a test runs with the cure and without it and expects the fault there,
so that an upgrade that makes a cure needless is noticed too.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import h2.connection
import pytest
from grpclib.const import Status
from grpclib.protocol import EventsProcessor
from h2.errors import ErrorCodes

from criimage.server.http2 import hardening
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import PATIENCE, serving, until
from parts.wire_client import DATA, END_HEADERS, END_STREAM, HEADERS, frame, literal, wire_client
from server.methods import LIST, PULL, STREAM, spec
from server.raw_calls import NAME, answers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize("cured", [True, False], ids=["cured", "not cured"])
async def test_400_calls_are_under_way_at_once_on_one_connection(tmp_path: Path, cured: bool) -> None:
    """Cure 1: no call waits for another; h2's own number of streams is 100 (python-stack 2)."""
    limits = {"streams": 1000 if cured else 100}
    async with serving(tmp_path, limits=limits) as running, raw_client(running.path) as client:
        await answers(client)
        assert client.h2.remote_settings.max_concurrent_streams == limits["streams"]
        if not cured:
            return
        running.backend.open.clear()
        requests = [
            client.prepare(grpc_headers(PULL), framed(spec(NAME) + b"\x12\x04\x0a\x02%02x" % (n % 256)))
            for n in range(400)
        ]
        await client.flush()
        await until(lambda: len(running.left()) == 800)
        running.backend.open.set()
        for request in requests:
            await request.finished()
            assert request.status == Status.OK.value
        await running.quiet()


async def test_calls_may_come_before_the_client_has_read_the_limit(tmp_path: Path) -> None:
    """Cure 1 is in force from the first byte: h2 waits for an acknowledgement, and ends the connection until then."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        requests = [client.prepare(grpc_headers(LIST), framed(b"")) for _ in range(300)]
        await client.flush()
        for request in requests:
            await request.finished()
            assert request.status == Status.OK.value


@pytest.mark.parametrize("body", [b"", framed(b"x" * 5000)], ids=["headers alone", "with data"])
async def test_resets_in_the_same_read_as_their_headers_leave_nothing(tmp_path: Path, body: bytes) -> None:
    """Cure 2: a call that is reset before its task starts leaves no stream, no task and no smaller window."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        await answers(client)
        tasks = len(asyncio.all_tasks())
        for _ in range(700):
            client.cancel(client.prepare(grpc_headers(LIST), body, end=False))
        await client.flush()
        await answers(client)
        await running.quiet()
        await until(lambda: len(asyncio.all_tasks()) == tasks)
        (connection,) = running.server.connections
        assert len(connection.connection._connection.streams) <= 8
        window = client.h2.outbound_flow_control_window
        assert window > 60 * 2**20
        # The reset of the last call of a read, of 256 KiB, may come with the next one.
        reads = 700 * (len(body) + 40) // 2**18 + 1
        assert 2 <= running.backend.calls["images"] <= 2 + reads


async def test_resets_of_running_calls_leave_nothing(tmp_path: Path) -> None:
    """Cure 2, the other way: a call that is reset while its backend works is cancelled there."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        running.backend.open.clear()
        for n in range(300):
            client.prepare(grpc_headers(PULL), framed(spec(NAME) + b"\x12\x04\x0a\x02%02d" % (n % 100)))
        await client.flush()
        await until(lambda: len(running.backend.downloads) == 100)
        for answer in client.answers.values():
            client.cancel(answer)
        await client.flush()
        await running.quiet()
        await until(lambda: len(running.backend.cancelled) == 100)
        await answers(client)


async def test_what_a_connection_remembers_of_its_calls_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cure 3: h2 keeps the ends of no more streams than we tell it to; its own limit is 65536 a connection."""
    assert h2.connection.H2Connection.MAX_CLOSED_STREAMS == 2**16
    monkeypatch.setattr(hardening, "CLOSED_STREAMS_REMEMBERED", 50)
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        for _ in range(120):
            await answers(client)
        (connection,) = running.server.connections
        assert len(connection.connection._connection._closed_streams) == 50


async def test_late_frames_of_a_forgotten_stream_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cure 3 has no price: DATA, WINDOW_UPDATE and RST_STREAM of a stream long closed do not end the connection."""
    monkeypatch.setattr(hardening, "CLOSED_STREAMS_REMEMBERED", 2)
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        first = await client.send(grpc_headers("/no/method"), framed(b""), end=False)
        await first.finished()
        for _ in range(10):
            await answers(client)
        stream = first.stream.to_bytes(4, "big")
        await client.write(b"\x00\x00\x03\x00\x00" + stream + b"abc")
        await client.write(b"\x00\x00\x04\x08\x00" + stream + b"\x00\x00\x00\x09")
        await client.write(b"\x00\x00\x04\x03\x00" + stream + b"\x00\x00\x00\x08")
        await answers(client)
        assert not client.closed.is_set()


@pytest.mark.parametrize("cured", [True, False], ids=["cured", "not cured"])
async def test_an_unknown_kind_of_frame_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cured: bool
) -> None:
    """Cure 4: RFC 9113, 4.1: frames of unknown types are ignored; grpclib alone ends the connection."""
    if not cured:
        monkeypatch.setattr(hardening, "_Events", EventsProcessor)
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        await answers(client)
        await client.write(b"\x00\x00\x04\xee\x00\x00\x00\x00\x00what")
        if cured:
            await answers(client)
        else:
            await client.closed.wait()


@pytest.mark.parametrize("cured", [True, False], ids=["cured", "not cured"])
@pytest.mark.parametrize("value", [b"caf\xc3\xa9", b"\xff\xfe\x80"], ids=["UTF-8", "no UTF-8"])
async def test_a_header_that_is_not_ascii_is_no_reason_to_hang_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cured: bool, value: bytes
) -> None:
    """Cure 5: any byte may stand in a header; grpclib's own configuration decodes ASCII and ends the connection."""
    if not cured:
        configuration = hardening._h2_configuration()
        configuration.header_encoding = "ascii"
        monkeypatch.setattr(hardening, "_h2_configuration", lambda: configuration)
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        await answers(client)
        other = await client.send(grpc_headers(PULL), b"", end=False)
        answer = await client.send([*grpc_headers(STREAM), ("x-note", value)], framed(b""))
        await answer.finished()
        assert client.closed.is_set() is not cured
        if cured:
            assert answer.status == Status.OK.value
            assert not other.done.is_set()


async def test_bytes_that_upset_the_library_end_their_connection_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever grpclib or h2 raise over a client's bytes, the calls of others go on, and it stands in our log."""
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with serving(tmp_path) as running, raw_client(running.path) as other:
        await answers(other)
        running.backend.open.clear()
        under_way = await other.send(grpc_headers(PULL), framed(spec(NAME)))
        await until(lambda: running.backend.downloads)
        async with raw_client(running.path) as client:
            await answers(client)
            monkeypatch.setattr(hardening._Events, "process", lambda *_: dict[str, int]()["no such stream"])
            await client.send(grpc_headers(STREAM), framed(b""))
            await client.closed.wait()
            monkeypatch.undo()
        running.backend.open.set()
        await under_way.finished()
        assert under_way.status == 0
    assert "a connection was closed: its bytes could not be processed" in caplog.text
    assert not unheard


async def test_a_frame_that_is_forbidden_gets_the_last_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cure 12: what was answered in the same read goes out, then GOAWAY with its code; no fault of ours is logged."""
    for forbidden in (
        frame(DATA, END_STREAM, 99, b""),
        # A block of an entry that no table has, which the short way reads before h2 does.
        frame(HEADERS, END_HEADERS, 99, b"\xff\xff\x03") + frame(DATA, END_STREAM, 99, framed(b"")),
    ):
        async with serving(tmp_path) as running, wire_client(running.path) as client:
            block = b"".join(literal(name, str(value)) for name, value in grpc_headers(LIST))
            calls_of = [
                frame(HEADERS, END_HEADERS, number, block) + frame(DATA, END_STREAM, number, framed(b""))
                for number in (1, 3, 5)
            ]
            await client.write(calls_of[0])
            await client.answer(1).finished()
            await client.write(calls_of[1] + calls_of[2] + forbidden)
            async with asyncio.timeout(PATIENCE):
                await client.closed.wait()
            assert [client.answer(number).status for number in (3, 5)] == [0, 0]
            assert client.goaway is not None
            assert client.goaway[1] == ErrorCodes.PROTOCOL_ERROR
    assert "could not be processed" not in caplog.text


@pytest.fixture
def no_rounds_of_others() -> Iterator[None]:
    """No collection begins but ours: one that another thread is in the midst of makes ours do nothing.

    That is all that was ever seen to keep a connection here: of 300 that ended, with calls under way or without, one
    round has left none where no other could come in between.
    """
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_rounds_of_others")
async def test_connections_leave_nothing(tmp_path: Path) -> None:
    """A connection that has ended is not kept alive by anything but the collector's next round, nor are its calls."""

    def kept() -> list[hardening.HardenedProtocol]:
        gc.collect()
        made = [found for found in gc.get_objects() if isinstance(found, hardening.HardenedProtocol)]
        return [found for found in made if getattr(found, "_server", None) is running.server]

    async with serving(tmp_path) as running:
        for number in range(20):
            async with raw_client(running.path) as client:
                await answers(client)
                if number % 2:
                    await client.send(grpc_headers("/criimage.v1.PullService/WatchPulls"), framed(b""))
        await until(lambda: not running.server.connections)
        # A round that had begun before goes on to its end.
        for _ in range(20):
            if not kept():
                break
            await asyncio.sleep(0.01)
        left = kept()
        assert not left, [repr(holder)[:200] for holder in gc.get_referrers(*left)]

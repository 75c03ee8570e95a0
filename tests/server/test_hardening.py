"""The cures of criimage/server/http2/hardening.py: each test fails when its cure is taken out (python-stack 2).

Where the fault can be shown beside the cure, a test runs with the cure and without it and expects the fault there, so
that an upgrade that makes a cure needless is noticed too.
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

from criimage.server.calls import call
from criimage.server.calls.method import Method
from criimage.server.http2 import hardening
from criimage.server.listening.socket import BoundSocket
from criimage.server.server import Server
from criimage.settings import LimitSettings
from parts.raw_client import RawClient, framed, grpc_headers, raw_client
from parts.serving import PATIENCE, WatchedBackend, serving, stocked, until
from parts.wire_client import DATA, END_HEADERS, END_STREAM, HEADERS, frame, literal, wire_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from criimage.server.calls.call import Call

LIST = "/runtime.v1.ImageService/ListImages"
PULL = "/runtime.v1.ImageService/PullImage"
STREAM = "/runtime.v1.ImageService/StreamImages"
PULL_A1 = b"\x0a\x11\x0a\x0fexample.com/a:1"


def headers_of(*changes: tuple[str, str]) -> list[tuple[str, str | bytes]]:
    return [*grpc_headers(LIST), *changes]


async def answers(client: RawClient) -> None:
    answer = await client.call(LIST)
    assert answer.status == Status.OK.value


# 1. concurrent calls


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
            client.prepare(grpc_headers(PULL), framed(PULL_A1 + b"\x12\x04\x0a\x02%02x" % (n % 256)))
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


# 2. resets


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
            client.prepare(grpc_headers(PULL), framed(PULL_A1 + b"\x12\x04\x0a\x02%02d" % (n % 100)))
        await client.flush()
        await until(lambda: len(running.backend.downloads) == 100)
        for answer in client.answers.values():
            client.cancel(answer)
        await client.flush()
        await running.quiet()
        await until(lambda: len(running.backend.cancelled) == 100)
        await answers(client)


# 3. memory


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


# 4. unknown frames


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


# 5. headers that are not ASCII


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


# 6. headers that lie


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
        answer = await client.call(path, PULL_A1 if path == PULL else b"", {"grpc-timeout": value})
        assert answer.status == Status.DEADLINE_EXCEEDED.value
        assert not running.backend.calls


@pytest.mark.parametrize("value", ["99999999H", "60S", "99999999u", "30M"])
async def test_a_deadline_ahead_changes_nothing(tmp_path: Path, value: str) -> None:
    """Every unit, up to 11,000 years."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        answer = await client.call(LIST, changes={"grpc-timeout": value})
        assert answer.status == Status.OK.value


# 7. the end


async def test_a_stopping_server_says_goodbye_and_ends_what_it_has_begun(tmp_path: Path) -> None:
    """Cure 7: GOAWAY names the last call that will be served; that one ends well, later ones are refused."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        await answers(client)
        running.backend.open.clear()
        removal = await client.send(grpc_headers("/runtime.v1.ImageService/RemoveImage"), framed(b"\x0a\x03\x0a\x01a"))
        await until(lambda: running.backend.removals == 1)
        running.server.stop_accepting()
        await until(lambda: client.goaway)
        assert client.goaway == (removal.stream, 0)
        assert not client.closed.is_set()
        # As a client does that has not read the GOAWAY yet.
        late = await client.send(grpc_headers(LIST), framed(b""))
        await late.finished()
        assert late.reset == 7
        assert late.status is None
        assert not removal.done.is_set()
        finishing = asyncio.create_task(running.server.finish(PATIENCE))
        running.backend.open.set()
        await removal.finished()
        assert removal.status == Status.OK.value
        await finishing
        await client.closed.wait()
        assert running.backend.calls["images"] == 1


async def test_a_connection_made_while_stopping_is_told_so(tmp_path: Path) -> None:
    """Cure 7: also a client that was still in the queue of the socket learns that its calls were not looked at."""
    async with serving(tmp_path) as running:
        running.server.stopping = True
        async with raw_client(running.path) as client:
            await until(lambda: client.goaway)
            assert client.goaway == (0, 0)


async def test_the_end_cuts_calls_that_do_not_end(tmp_path: Path) -> None:
    """After the grace connections are closed and their calls cancelled, however long they would have taken."""
    backend = WatchedBackend(stocked())
    backend.open.clear()
    async with serving(tmp_path, backend) as running, raw_client(running.path) as client:
        await client.send(grpc_headers(PULL), framed(PULL_A1))
        await until(lambda: backend.downloads)
        running.server.stop_accepting()
        await running.server.finish(grace=0)
        assert not running.left()
        await client.closed.wait()
        await until(lambda: backend.cancelled)
        assert not running.server.connections


# 8. writes


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
        assert (await first.call(PULL, PULL_A1)).status == 0
        monkeypatch.setattr(call, "SEND_LIMIT", 0.05)
        async with raw_client(running.path, window=0) as client:
            await until(lambda: client.h2.local_settings.initial_window_size == 0)
            answer = await client.send(grpc_headers(LIST), framed(b""))
            await answer.finished()
            assert answer.status == Status.UNKNOWN.value
            await running.quiet()


async def test_bytes_that_upset_the_library_end_their_connection_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever grpclib or h2 raise over a client's bytes, the calls of others go on, and it stands in our log."""
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with serving(tmp_path) as running, raw_client(running.path) as other:
        await answers(other)
        running.backend.open.clear()
        under_way = await other.send(grpc_headers(PULL), framed(PULL_A1))
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


# Faults of our own


class _Quiet:
    reads_headers: frozenset[bytes] = frozenset()

    def began(self, operation: str, path: str, header: Callable[[str], str]) -> None:
        pass

    def ended(self, operation: str, status: Status, error: BaseException | None, seconds: float) -> None:
        pass


@pytest.mark.parametrize("fault", [ValueError("secret"), asyncio.CancelledError("secret"), TimeoutError("secret")])
async def test_a_fault_in_a_handler_is_an_answer_without_its_text(tmp_path: Path, fault: BaseException) -> None:
    """No call stays unanswered, even if a library lets a CancelledError escape that nobody asked for."""

    async def handle(call: Call) -> None:
        await call.receive()
        raise fault

    bound = await asyncio.to_thread(BoundSocket.open, f"unix://{tmp_path}/s")
    server = Server([Method("/a.B/C", handle)], _Quiet(), LimitSettings())
    server.start(bound.socket)
    async with raw_client(tmp_path / "s") as client:
        answer = await client.call("/a.B/C")
        assert answer.status == Status.INTERNAL.value
        assert "secret" not in answer.message
    server.stop_accepting()
    await server.finish(0)
    await asyncio.to_thread(bound.close)

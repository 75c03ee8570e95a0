"""The relay between real sockets: a client of frames or google's own, the server, and a runtime that does as told."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpclib.const import Status

from criimage import problems, wire
from criimage.channel import links
from criimage.metrics import PrometheusMetrics
from criimage.testing.scripted_runtime import Script, ScriptedRuntime
from parts.criimage_process import criimage
from parts.google_client import google_client
from parts.raw_client import RawClient, framed, grpc_headers, raw_client
from parts.serving import Serving, serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, MutableMapping

    from criimage.testing.scripted_runtime import ServedCall

SERVICE = "/runtime.v1.RuntimeService"
STATUS = f"{SERVICE}/Status"
UNKNOWN_METHOD = f"{SERVICE}/InventedTomorrow"


@dataclass(frozen=True)
class Relayed:
    """A runtime, the server before it, and a client."""

    runtime: ScriptedRuntime
    server: Serving
    client: RawClient


@asynccontextmanager
async def relayed(folder: Path, **options: Any) -> AsyncIterator[Relayed]:  # noqa: ANN401 - of ScriptedRuntime
    path = folder / "runtime.sock"
    async with (
        ScriptedRuntime(path, **options) as runtime,
        serving(folder, runtime={"endpoint": f"unix://{path}"}) as server,
        raw_client(server.path) as client,
    ):
        yield Relayed(runtime, server, client)


async def test_metadata_bytes_and_details_pass_unchanged(tmp_path: Path) -> None:
    """Both ways, in order, with bytes that are no text, several values of a name, and status details."""
    metadata = ((b"x-one", b"1"), (b"x-one", b"\xff\xfe"), (b"x-bin", b"AAECAw"))
    script = Script(
        messages=(b"\xff\0answer",),
        headers=metadata,
        trailers=((b"x-after-bin", b"////"), *metadata),
        status=9,
        text="not ä\n%",
        details=b"\x08\x09\xff",
    )
    async with relayed(tmp_path) as there, raw_client(tmp_path / "runtime.sock") as direct:
        there.runtime.on(UNKNOWN_METHOD, script)
        sent: dict[str, str | bytes | None] = {
            "traceparent": "00-1-2-01",
            "x-mine-bin": "AAE",
            "x-raw": b"\xf0\xff",
            "grpc-timeout": "59999999u",
        }
        answer = await there.client.call(UNKNOWN_METHOD, b"\0\xff", sent)
        straight = await direct.call(UNKNOWN_METHOD, b"\0\xff", sent)

    assert (answer.headers, answer.trailers, answer.data) == (straight.headers, straight.trailers, straight.data)
    relayed_call, direct_call = there.runtime.called("InventedTomorrow")
    assert relayed_call.body == direct_call.body
    assert relayed_call.headers == direct_call.headers


async def test_an_unknown_method_of_the_runtime_stays_unimplemented(tmp_path: Path) -> None:
    """A kubelet's fallbacks hang on that code (cri-protocol 4), and ours is never put in its place."""
    async with relayed(tmp_path) as there:
        answer = await there.client.call(f"{SERVICE}/RuntimeConfig")
    assert answer.status == Status.UNIMPLEMENTED.value
    assert answer.message == "unknown method RuntimeConfig for service runtime.v1.RuntimeService"


async def test_all_four_kinds_of_call(tmp_path: Path) -> None:
    """One message or many, in either direction, and both at once."""

    async def echo(requests: list[bytes], answers: tuple[bytes, ...]) -> list[bytes]:
        there.runtime.on(UNKNOWN_METHOD, Script(echo=True, messages=answers))
        call = await there.client.send(grpc_headers(UNKNOWN_METHOD), b"".join(map(framed, requests)))
        return (await call.finished()).messages

    async with relayed(tmp_path) as there:
        assert await echo([b"one"], ()) == [b"one"]
        assert await echo([], (b"a", b"b", b"c")) == [b"a", b"b", b"c"]
        assert await echo([b"a", b"b"], (b"c",)) == [b"a", b"b", b"c"]
        # In turns: each message is answered before the next is sent.
        there.runtime.on(UNKNOWN_METHOD, Script(echo=True))
        call = await there.client.send(grpc_headers(UNKNOWN_METHOD), end=False)
        for number in range(5):
            there.client.h2.send_data(call.stream, framed(b"%d" % number))
            await there.client.flush()
            expected = [b"%d" % one for one in range(number + 1)]
            await until(lambda: call.messages == expected)  # noqa: B023 - awaited within this round
        there.client.h2.end_stream(call.stream)
        await there.client.flush()
        assert (await call.finished()).status == 0


async def test_an_environment_that_is_no_text_passes_byte_for_byte(tmp_path: Path) -> None:
    """CRI 1.37 makes such values of KeyValue lawful; who decodes and encodes them changes them (relay-and-cri 1)."""
    variable = wire.text_field(1, "K") + wire.length_delimited(2, b"\xff\xfe\0\x80")
    config = wire.length_delimited(1, wire.text_field(1, "c")) + wire.length_delimited(6, variable)
    request = wire.text_field(1, "pod") + wire.length_delimited(2, config) + wire.length_delimited(999, b"unknown")
    async with relayed(tmp_path) as there:
        there.runtime.on(f"{SERVICE}/CreateContainer", Script(messages=(b"\x0a\x02id",)))
        assert (await there.client.call(f"{SERVICE}/CreateContainer", request)).messages == [b"\x0a\x02id"]
        (call,) = there.runtime.called("CreateContainer")
        assert call.messages == [request]


async def test_figures_of_relayed_calls(tmp_path: Path) -> None:
    """Counted by method and code under names of their own; a method that nobody knows yet is `other`."""
    figures = PrometheusMetrics("memory", ["ListImages"], ["internal"])
    path = tmp_path / "runtime.sock"
    async with (
        ScriptedRuntime(path) as runtime,
        serving(tmp_path, figures=figures, runtime={"endpoint": f"unix://{path}"}) as server,
        raw_client(server.path) as client,
    ):
        runtime.on(STATUS, Script())
        await client.call(STATUS)
        await client.call(UNKNOWN_METHOD)
        await client.call("/runtime.v1.ImageService/ListImages")

        def value(name: str, **labels: str) -> float | None:
            return figures.registry.get_sample_value(f"criimage_{name}", {"backend": "memory", **labels})

        assert value("relayed_calls_total", method="Status") == 1
        assert value("relayed_calls_total", method="other") == 1
        assert value("relayed_calls_errors_total", code="UNIMPLEMENTED") == 1
        assert value("operations_total", operation="ListImages") == 1
        assert value("runtime_connected") == 1
        await runtime.stop()
        await until(lambda: value("runtime_connected") == 0)


async def test_large_messages(tmp_path: Path) -> None:
    """16 MiB up and 64 MiB down, in one message each (cri-protocol 4)."""
    up, down = os.urandom(2**20) * 16, os.urandom(2**20) * 64
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(down,)))
        call = await there.client.send(grpc_headers(STATUS), framed(up))
        await call.finished()
        (recorded,) = there.runtime.called("Status")
        assert recorded.messages == [up]
        assert call.messages == [down]


async def test_the_runtime_is_told_of_no_deadline_but_the_callers(tmp_path: Path) -> None:
    """None where there was none, the very same where there was one (relay-and-cri 1)."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script())
        await there.client.call(STATUS)
        await there.client.call(STATUS, changes={"grpc-timeout": "99999999H"})
        first, second = there.runtime.called("Status")
        assert b"grpc-timeout" not in dict(first.headers)
        assert dict(second.headers)[b"grpc-timeout"] == b"99999999H"


async def test_cancels_go_both_ways(tmp_path: Path) -> None:
    """A client's reset ends the runtime's call; the runtime's reset reaches the client with its code."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(stall_after=0))
        call = await there.client.send(grpc_headers(STATUS), framed(b""))
        await until(lambda: there.runtime.called("Status"))
        there.client.cancel(call)
        await there.client.flush()
        await until(lambda: there.runtime.called("Status")[0].cancelled)
        there.runtime.on(STATUS, Script(messages=(b"x",), reset=11))
        call = await there.client.call(STATUS)
        assert (call.messages, call.reset) == ([b"x"], 11)
        await there.server.quiet()


async def test_a_client_that_dies_ends_its_calls_in_the_runtime(tmp_path: Path) -> None:
    """Its streams do not stay there for ever."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(b"x",), stall_after=1))
        async with raw_client(there.server.path) as other:
            for _ in range(3):
                await other.send(grpc_headers(STATUS), framed(b""))
            await until(lambda: len(there.runtime.called("Status")) == 3)
        await until(lambda: all(call.cancelled for call in there.runtime.called("Status")))


async def test_a_runtime_that_breaks_off(tmp_path: Path) -> None:
    """What came before is passed on; then the client gets UNAVAILABLE with the reason, and the next call works."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(b"half",), hang_up=True))
        answer = await there.client.call(STATUS)
        assert answer.messages == [b"half"]
        assert answer.status == Status.UNAVAILABLE.value
        assert str(tmp_path / "runtime.sock") in answer.message
        there.runtime.on(STATUS, Script(messages=(b"whole",)))
        assert (await there.client.call(STATUS)).messages == [b"whole"]


async def test_a_stalled_stream_slows_no_other_call_and_fills_no_memory(tmp_path: Path) -> None:
    """A client that takes nothing of endless answers: the runtime is stopped by its window, others are served."""
    async with relayed(tmp_path) as there, raw_client(there.server.path, window=1000) as slow:
        sent = 0

        async def pour(call: ServedCall) -> None:
            nonlocal sent
            while True:
                await call.send(bytes(10_000))
                sent += 10_000

        there.runtime.on(f"{SERVICE}/GetContainerEvents", pour)
        for _ in range(20):
            await slow.send(grpc_headers(f"{SERVICE}/GetContainerEvents"), framed(b""))
        await until(lambda: len(there.runtime.called("GetContainerEvents")) == 20)
        there.runtime.on(STATUS, Script(messages=(bytes(200_000),)))
        for _ in range(50):
            assert len((await there.client.call(STATUS)).messages[0]) == 200_000
        assert sent <= 20 * 2**18


async def test_a_request_that_the_runtime_does_not_take_slows_no_other(tmp_path: Path) -> None:
    """The other direction: megabytes wait, and the same client's other calls are answered."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(b"ok",)))
        there.runtime.on(UNKNOWN_METHOD, Script(echo=True))
        await there.client.call(STATUS)
        there.runtime.go_deaf()
        sending = [
            asyncio.create_task(there.client.send(grpc_headers(UNKNOWN_METHOD), framed(bytes(3 * 2**20))))
            for _ in range(4)
        ]
        calls = [await task for task in sending]
        answer = await there.client.call("/runtime.v1.ImageService/ImageFsInfo")
        assert answer.status == 0
        there.runtime.hear_again()
        for call in calls:
            assert [len(message) for message in (await call.finished()).messages] == [3 * 2**20]


async def test_two_subscribers_each_get_every_event(tmp_path: Path) -> None:
    """One upstream stream for each client's (relay-and-cri 1)."""
    messages = tuple(b"event %d" % number for number in range(500))
    async with relayed(tmp_path) as there, raw_client(there.server.path) as other:
        there.runtime.on(f"{SERVICE}/GetContainerEvents", Script(messages=messages, stall_after=500))
        calls = [
            await client.send(grpc_headers(f"{SERVICE}/GetContainerEvents"), framed(b""))
            for client in (there.client, other)
        ]
        await until(lambda: all(len(call.messages) == 500 for call in calls))
        assert [tuple(call.messages) for call in calls] == [messages, messages]
        assert len(there.runtime.called("GetContainerEvents")) == 2
        there.runtime.release()
        for call in calls:
            assert (await call.finished()).status == 0


async def test_a_missing_runtime(tmp_path: Path) -> None:
    """UNAVAILABLE at once with the endpoint in the text, health and log say so, and it is found when it comes."""
    path = tmp_path / "runtime.sock"
    async with (
        serving(tmp_path, runtime={"endpoint": f"unix://{path}"}) as server,
        raw_client(server.path) as client,
    ):
        answer = await client.call(STATUS)
        assert answer.status == Status.UNAVAILABLE.value
        assert answer.message == f"cannot reach {path}: No such file or directory"
        assert (await client.call("/grpc.health.v1.Health/Check")).messages == [b"\x08\x02"]
        assert str(path) in problems.standing()["runtime"].text
        # The image service is none the worse.
        assert (await client.call("/runtime.v1.ImageService/ListImages")).status == 0
        async with ScriptedRuntime(path) as runtime:
            runtime.on(STATUS, Script(messages=(b"here",)))
            assert (await client.call(STATUS)).messages == [b"here"]
            await until(lambda: not problems.standing())
            assert (await client.call("/grpc.health.v1.Health/Check")).messages == [b"\x08\x01"]


async def test_a_runtime_that_restarts_is_found_without_a_call(tmp_path: Path) -> None:
    """Connected again by itself, so that a problem that is over is not told until somebody calls."""
    async with relayed(tmp_path) as there:
        await until(lambda: there.runtime.connections == 1)
        await there.runtime.stop()
        await until(lambda: problems.standing())
        await there.runtime.start()
        await until(lambda: not problems.standing())
        assert there.runtime.connections == 2


async def test_a_runtime_that_does_not_finish_the_handshake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UNAVAILABLE after the handshake's limit, not after the caller's patience."""
    monkeypatch.setattr(links, "HANDSHAKE_SECONDS", 0.2)
    path = tmp_path / "runtime.sock"
    async with ScriptedRuntime(path) as runtime:
        runtime.go_deaf()
        async with (
            serving(tmp_path, runtime={"endpoint": f"unix://{path}"}) as server,
            raw_client(server.path) as client,
        ):
            answer = await client.call(STATUS)
            assert answer.status == Status.UNAVAILABLE.value
            assert answer.message == f"cannot reach {path}: no handshake within 0.2 s"
            runtime.hear_again()
            runtime.on(STATUS, Script())
            await until(lambda: not problems.standing())
            assert (await client.call(STATUS)).status == 0


async def test_a_runtime_that_hangs_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call lasts as long as its caller waits; the silence is a problem, and none any more when it ends."""
    monkeypatch.setattr("criimage.channel.link.INTERVAL", 0.05)
    monkeypatch.setattr("criimage.channel.watch.INTERVAL", 0.05)
    monkeypatch.setattr("criimage.channel.watch.ANSWER_SECONDS", 0.2)
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(b"late",)))
        await there.client.call(STATUS)
        there.runtime.go_deaf()
        call = await there.client.send(grpc_headers(STATUS), framed(b""))
        await until(lambda: "runtime" in problems.standing())
        assert (
            problems.standing()["runtime"].text
            == f"{tmp_path / 'runtime.sock'} does not answer: a PING has had no reply"
        )
        assert not call.done.is_set()
        there.runtime.hear_again()
        assert (await call.finished()).messages == [b"late"]
        await until(lambda: not problems.standing())


async def test_a_deadline_that_the_runtime_does_not_keep(tmp_path: Path) -> None:
    """A client that leaves its deadline to the server gets its answer, and the runtime's call is ended."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(stall_after=0))
        answer = await there.client.call(STATUS, changes={"grpc-timeout": "10m"})
        assert answer.status == Status.DEADLINE_EXCEEDED.value
        await until(lambda: there.runtime.called("Status")[0].cancelled)


@pytest.mark.parametrize(
    ("asked", "had"), [("v1", "v1alpha2"), ("v1alpha2", "v1"), ("v1", "v1"), ("v1alpha2", "v1alpha2")]
)
async def test_a_version_that_the_runtime_lacks_goes_up_in_the_other(tmp_path: Path, asked: str, had: str) -> None:
    """The same bytes under the other path; one question for a connection, however many calls (relay-and-cri 1)."""
    async with relayed(tmp_path, versions=(had,)) as there:
        there.runtime.on(f"/runtime.{had}.RuntimeService/Status", Script(messages=(b"ready",)))
        calls = [
            await there.client.send(grpc_headers(f"/runtime.{asked}.RuntimeService/Status"), framed(b"\x08\x01"))
            for _ in range(10)
        ]
        for call in calls:
            assert (await call.finished()).messages == [b"ready"]
        assert {call.path for call in there.runtime.called("Status")} == {f"/runtime.{had}.RuntimeService/Status"}
        assert {tuple(call.messages) for call in there.runtime.called("Status")} == {(b"\x08\x01",)}
        assert len(there.runtime.called("Version")) <= 2


async def test_a_runtime_that_comes_back_with_another_version(tmp_path: Path) -> None:
    """What is known of a runtime ends with the connection to it."""
    async with relayed(tmp_path, versions=("v1alpha2",)) as there:
        for version in ("v1alpha2", "v1"):
            there.runtime.on(f"/runtime.{version}.RuntimeService/Status", Script(messages=(version.encode(),)))
        assert (await there.client.call(STATUS)).messages == [b"v1alpha2"]
        assert there.server.assembly.relay is not None
        links_there = there.server.assembly.relay._channel.links
        before = links_there.generation
        await there.runtime.restart(versions=("v1",))
        await until(lambda: links_there.generation > before)
        # Made before there is a connection again: what was known must not be used for it.
        assert (await there.client.call(STATUS)).messages == [b"v1"]


async def test_more_calls_than_the_runtime_takes_on_a_connection(tmp_path: Path) -> None:
    """Another connection is made instead of a wait: endless streams use no other caller's places up."""
    async with relayed(tmp_path, max_streams=4) as there:
        there.runtime.on(STATUS, Script(stall_after=0))
        for _ in range(10):
            await there.client.send(grpc_headers(STATUS), framed(b""))
        await until(lambda: len(there.runtime.called("Status")) == 10)
        assert there.runtime.connections >= 3


async def test_a_runtime_that_says_goodbye(tmp_path: Path) -> None:
    """Calls under way are answered on the old connection, new ones on a new one."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(b"answered",), stall_after=1))
        call = await there.client.send(grpc_headers(STATUS), framed(b""))
        await until(lambda: call.messages)
        there.runtime.say_goodbye()
        await until(lambda: there.runtime.connections == 2)
        there.runtime.on(STATUS, Script(messages=(b"new",)))
        assert (await there.client.call(STATUS)).messages == [b"new"]
        there.runtime.release()
        assert (await call.finished()).status == 0


async def test_a_goodbye_of_a_runtime_that_takes_no_new_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it still answers what is under way, it is tried now and then, not without a pause."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(b"answered",), stall_after=1))
        call = await there.client.send(grpc_headers(STATUS), framed(b""))
        await until(lambda: call.messages)
        dialled = 0
        connect = links.Links._connect

        async def counted(self: links.Links) -> None:
            nonlocal dialled
            dialled += 1
            await connect(self)

        monkeypatch.setattr(links.Links, "_connect", counted)
        (tmp_path / "runtime.sock").unlink()
        there.runtime.say_goodbye()
        await until(lambda: problems.standing())
        # Far more turns than the pauses leave room for, were there none.
        for _ in range(500):
            await asyncio.sleep(0)
        assert dialled <= 2
        answer = await there.client.call(STATUS)
        assert answer.status == Status.UNAVAILABLE.value
        there.runtime.release()
        assert (await call.finished()).status == 0


async def test_stopping_ends_streams_that_have_no_end(tmp_path: Path) -> None:
    """SIGTERM: their clients are told why, and the runtime that nobody listens any more."""
    path = tmp_path / "runtime.sock"
    async with ScriptedRuntime(path) as runtime:
        runtime.on(STATUS, Script(messages=(b"x",), stall_after=1))
        async with serving(tmp_path, runtime={"endpoint": f"unix://{path}"}) as server:
            client = raw_client(server.path)
            there = await client.__aenter__()
            call = await there.send(grpc_headers(STATUS), framed(b""))
            await until(lambda: call.messages)
        await call.finished()
        await client.__aexit__(None, None, None)
        assert call.status == Status.UNAVAILABLE.value
        assert call.message == "the image service is stopping"
        await until(lambda: runtime.called("Status")[0].cancelled)


async def test_googles_client_sees_no_difference(tmp_path: Path) -> None:
    """Grpcio's own codes, texts and deadline, and a socket path as :authority, through the relay."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(status=5, text="no such thing"))
        with google_client(there.server.path) as client:
            assert await client.error(STATUS) == (grpc.StatusCode.NOT_FOUND, "no such thing")
            there.runtime.on(STATUS, Script(messages=tuple(struct.pack(">I", n) for n in range(100))))
            assert len(await client.stream(STATUS)) == 100
            there.runtime.on(STATUS, Script(stall_after=0))
            code, _ = await client.error(STATUS, seconds=0.2)
            assert code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_debug_line_and_figures(tmp_path: Path, events: list[MutableMapping[str, Any]]) -> None:
    """One debug line a call, with method and status and never a message's content."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(status=5, text="secret"))
        await there.client.call(STATUS, b"secret")
    (line,) = [event for event in events if event["event"] == "call relayed"]
    assert (line["log_level"], line["method"], line["status"]) == ("debug", STATUS, "NOT_FOUND")
    assert "secret" not in repr(events)


def _descriptors(process: int | str = "self") -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def _resident(process: int) -> int:
    """Bytes of memory that a process has of its own."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon:")).split()[1])


async def many_calls(client: RawClient, runtime: ScriptedRuntime, count: int) -> None:
    """So many calls, at most 50 at once, one in 50 of them left by the client."""
    runtime.on(STATUS, Script(messages=(b"answer",)))
    runtime.on(UNKNOWN_METHOD, Script(stall_after=0))
    for _ in range(0, count, 50):
        stalled = await client.send(grpc_headers(UNKNOWN_METHOD), framed(b"x" * 100))
        calls = [await client.send(grpc_headers(STATUS), framed(b"x" * 100)) for _ in range(49)]
        for call in calls:
            assert (await call.finished()).status == 0
        client.cancel(stalled)
        await client.flush()
        client.answers.clear()
        runtime.calls.clear()


async def flat(folder: Path, count: int) -> None:
    """Sees that no object and no descriptor stays, however many calls there are."""
    async with relayed(folder) as there:
        await many_calls(there.client, there.runtime, 500)
        gc.collect()
        before = (len(gc.get_objects()), _descriptors())
        await many_calls(there.client, there.runtime, count)
        await there.server.quiet()
        gc.collect()
        after = (len(gc.get_objects()), _descriptors())
        assert after[1] == before[1]
        assert after[0] - before[0] < 2_000


async def test_calls_leave_nothing(tmp_path: Path) -> None:
    """No object and no descriptor stays of a call, whatever its end."""
    await flat(tmp_path, 1_000)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_20_000_calls_leave_nothing(tmp_path: Path) -> None:
    """The same over 20,000 calls."""
    await flat(tmp_path, 20_000)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_20_000_calls_take_no_memory(tmp_path: Path, long_run: Callable[[str, str], None]) -> None:
    """A server in a process of its own: after the first 10,000 calls, 10,000 more add next to nothing to it."""
    path = tmp_path / "runtime.sock"
    config = f'backend = "memory"\n[runtime]\nendpoint = "unix://{path}"\n'
    async with ScriptedRuntime(path) as runtime:
        with criimage(config) as server:
            async with raw_client(server.socket) as client:
                seen = []
                for count in (2_000, 8_000, 10_000):
                    await many_calls(client, runtime, count)
                    seen.append((_resident(server.process.pid), _descriptors(server.process.pid)))
    after = ", ".join(f"{size / 2**20:.1f} MiB and {files} descriptors" for size, files in seen)
    long_run(f"Linux {platform.release()}", f"after 2,000, 10,000 and 20,000 calls: {after}")
    assert len({files for _, files in seen}) == 1
    assert seen[2][0] - seen[1][0] < 2**20

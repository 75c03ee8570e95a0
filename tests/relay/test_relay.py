"""The relay between real sockets: what passes through it, unchanged and without holding up anything else."""

from __future__ import annotations

import asyncio
import os
import struct
from typing import TYPE_CHECKING, Any
from unittest.mock import create_autospec

import grpc
from grpclib.const import Status

from criimage import tracing, wire
from criimage.metrics import PrometheusMetrics
from criimage.testing.scripted_runtime import Script, ScriptedRuntime
from parts.google_client import google_client
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import serving, until
from relay.between import SERVICE, STATUS, UNKNOWN_METHOD, relayed

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

    import pytest

    from criimage.testing.scripted_runtime import ServedCall


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


async def test_a_request_that_goes_on_for_hours_holds_nothing_here(tmp_path: Path) -> None:
    """What is passed on counts as no incomplete request of ours: many may stay open (relay-and-cri 1)."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(echo=True))
        call = await there.client.send(grpc_headers(STATUS), framed(b"x" * 1000), end=False)
        await until(lambda: call.messages == [b"x" * 1000])
        limits = there.server.server.limits
        assert (limits.requests, limits.bytes) == (0, 0)
        there.client.h2.send_data(call.stream, framed(b"y" * 1000), end_stream=True)
        await there.client.flush()
        await call.finished()
        assert call.messages == [b"x" * 1000, b"y" * 1000]
        assert (limits.requests, limits.bytes) == (0, 0)


async def test_a_relayed_calls_span_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 14 B: one for each call, with the runtime's code, and an error where it is one."""
    span = create_autospec(tracing.Span, instance=True)
    traces = create_autospec(tracing.Traces, instance=True)
    traces.call.return_value = span
    monkeypatch.setattr(tracing, "_traces", traces)
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script())
        await there.client.call(STATUS, changes={"traceparent": "00-1-2-01"})
        await until(lambda: span.end.called)
        await there.client.call(f"{SERVICE}/RuntimeConfig")
        await until(lambda: span.end.call_count == 2)

    assert [one.args[0] for one in traces.call.call_args_list] == [STATUS[1:], f"{SERVICE[1:]}/RuntimeConfig"]
    assert traces.call.call_args_list[0].args[2]("traceparent") == "00-1-2-01"
    codes = [one.args[0]["rpc.grpc.status_code"] for one in span.tell.call_args_list]
    assert codes == [Status.OK.value, Status.UNIMPLEMENTED.value]
    assert [one.args[0] for one in span.end.call_args_list] == ["", "UNIMPLEMENTED"]


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

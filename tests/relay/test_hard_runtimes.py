"""The relay before runtimes that keep to HTTP/2 in ways that are seldom seen: no answer is lost, none is made up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grpclib.const import Status
from h2.settings import SettingCodes

from criimage.testing.scripted_runtime import Script
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import serving, until
from relay.between import STATUS, UNKNOWN_METHOD, relayed

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.testing.scripted_runtime import ServedCall


async def test_calls_above_a_goodbyes_last_stream(tmp_path: Path) -> None:
    """They are refused in the word that lets a client make them again, as grpc-go does by itself (RFC 9113 8.7)."""
    streams: list[int] = []

    async def stall(call: ServedCall) -> None:
        streams.append(call.stream)
        await call.runtime.released.wait()
        await call.send(b"looked at")
        await call.finish()

    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, stall)
        first = await there.client.send(grpc_headers(STATUS), framed(b"first"))
        await until(lambda: len(streams) == 1)
        second = await there.client.send(grpc_headers(STATUS), framed(b"second"))
        await until(lambda: len(streams) == 2)
        there.runtime.on(STATUS, Script(messages=(b"elsewhere",)))
        there.runtime.say_goodbye(looked_at=streams[0])
        await second.finished()
        assert (await there.client.call(STATUS)).messages == [b"elsewhere"]
        there.runtime.release()
        await first.finished()
    assert (first.messages, first.status) == ([b"looked at"], 0)
    assert (second.status, second.reset) == (None, 7)


async def test_an_answer_that_ends_before_the_request(tmp_path: Path) -> None:
    """The client gets it while it still sends, is told to send no more, and nothing of the request stays here."""
    async with relayed(tmp_path, settings={SettingCodes.INITIAL_WINDOW_SIZE: 100}) as there:
        there.runtime.on(UNKNOWN_METHOD, Script(status=8, text="too much"))
        for _ in range(20):
            call = await there.client.send(grpc_headers(UNKNOWN_METHOD), framed(bytes(300_000)))
            await call.finished()
            await until(lambda: call.reset is not None or call.ended)  # noqa: B023 - awaited within this round
            assert (call.status, call.message) == (8, "too much")
        await there.server.quiet()
        assert there.server.assembly.relay is not None
        assert there.server.assembly.relay._held.size == 0
        # The connection's window is whole: as much again goes up.
        there.runtime.on(UNKNOWN_METHOD, Script(echo=True))
        echoed = await there.client.call(UNKNOWN_METHOD, bytes(2**20))
        assert [len(message) for message in echoed.messages] == [2**20]


async def test_resets_without_an_error(tmp_path: Path) -> None:
    """One in place of an answer is passed on as it is: there is no status to tell, and none is invented."""
    async with relayed(tmp_path) as there:
        there.runtime.on(STATUS, Script(messages=(b"half",), reset=0))
        call = await there.client.call(STATUS)
        assert (call.messages, call.status, call.reset) == ([b"half"], None, 0)
        there.runtime.on(STATUS, Script(messages=(b"whole",)))
        assert (await there.client.call(STATUS)).messages == [b"whole"]


async def test_a_runtime_that_ends_its_side_only(tmp_path: Path) -> None:
    """It sends nothing more but reads on: what waits is told so at once, and the runtime is hung up on."""
    path = tmp_path / "runtime.sock"
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0\0\0\x04\0\0\0\0\0")
        while await reader.read(2**16):
            if may_end.is_set() and writer.can_write_eof():
                writer.write_eof()
        ended.set()
        writer.close()

    async with (
        await asyncio.start_unix_server(serve, str(path)),
        serving(tmp_path, runtime={"endpoint": f"unix://{path}"}) as server,
        raw_client(server.path) as client,
    ):
        assert server.assembly.relay is not None
        channel = server.assembly.relay._channel.links
        await until(lambda: channel.generation == 1)
        may_end.set()
        answer = await client.call(STATUS)
        assert answer.status == Status.UNAVAILABLE.value
        assert answer.message == f"lost the connection to {path}: the peer closed the connection"
        await ended.wait()


async def test_requests_that_the_runtime_opens_no_window_for(tmp_path: Path) -> None:
    """They wait alone, and go when their clients go; the same clients' other calls are answered."""
    async with relayed(tmp_path, settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}) as there:
        waiting = [await there.client.send(grpc_headers(UNKNOWN_METHOD), framed(bytes(1000))) for _ in range(5)]
        image = await there.client.call("/runtime.v1.ImageService/ImageFsInfo")
        assert image.status == 0
        for call in waiting:
            there.client.cancel(call)
        await there.client.flush()
        await there.server.quiet()
        there.runtime.tell({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        there.runtime.on(STATUS, Script(echo=True))
        assert (await there.client.call(STATUS, b"now")).messages == [b"now"]

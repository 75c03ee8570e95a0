"""A channel on real sockets to peers that are hard to talk to: goodbyes, few places, none, another server's socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status
from h2.settings import SettingCodes

from criimage.channel import CallError, Channel, link, links
from criimage.testing.scripted_runtime import Script, ScriptedRuntime
from parts.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from criimage.testing.scripted_runtime import ServedCall

METHOD = "/runtime.v1.RuntimeService/Status"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "peer.sock"


@contextlib.asynccontextmanager
async def kept(channel: Channel) -> AsyncIterator[None]:
    """While its connection is kept, as the relay does."""
    keeping = asyncio.create_task(channel.links.keep())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


def calls(channel: Channel, count: int) -> list[asyncio.Task[bytes]]:
    return [asyncio.create_task(channel.unary(METHOD, b"%d" % number)) for number in range(count)]


async def test_a_call_that_was_not_looked_at_is_made_again(path: Path) -> None:
    """On another connection, once; those before the last stream that was looked at go on (RFC 9113 6.8, 8.7)."""
    async with ScriptedRuntime(path) as peer, Channel(path) as channel:
        peer.on(METHOD, Script(stall_after=0, messages=(b"first",)))
        first, second = calls(channel, 2)
        await until(lambda: len(peer.calls) == 2)
        peer.on(METHOD, Script(messages=(b"again",)))
        peer.say_goodbye(looked_at=1)
        assert await second == b"again"
        peer.release()
        assert await first == b"first"
        assert (peer.connections, [call.messages for call in peer.calls]) == (2, [[b"0"], [b"1"], [b"1"]])
        # The old connection is let go when its last call is over.
        await until(lambda: len(peer.open) == 1)


async def test_a_call_is_made_again_only_once(path: Path) -> None:
    """A peer that looks at nothing is not asked for ever."""
    async with ScriptedRuntime(path) as peer, Channel(path) as channel:
        peer.on(METHOD, Script(reset=7))
        with pytest.raises(CallError) as caught:
            await channel.unary(METHOD, b"")
        assert (caught.value.status, caught.value.untouched) == (Status.UNAVAILABLE, True)
        assert len(peer.calls) == 2


async def test_a_connection_that_said_goodbye_is_let_go_when_its_last_call_is_cancelled(path: Path) -> None:
    """By us, as a peer may wait for that."""
    async with ScriptedRuntime(path) as peer, Channel(path) as channel:
        peer.on(METHOD, Script(stall_after=0))
        (call,) = calls(channel, 1)
        await until(lambda: peer.calls)
        peer.say_goodbye()
        await until(lambda: not channel.links._is_connected())
        assert len(peer.open) == 1
        call.cancel()
        await until(lambda: not peer.open)
        assert peer.calls[0].cancelled


async def test_places_that_come_later_are_used(path: Path) -> None:
    """Calls that a peer takes none of wait, that is told, and they begin when its settings allow."""
    told: list[str | None] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(links, "CROWDED_SECONDS", 0.05)
        patched.setattr(links, "LINKS_LIMIT", 2)
        async with (
            ScriptedRuntime(path, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 0}) as peer,
            Channel(path, told.append) as channel,
        ):
            peer.on(METHOD, Script(messages=(b"answer",)))
            waiting = calls(channel, 3)
            text = f"{path} takes no more calls: some wait for their turn"
            await until(lambda: told[-1:] == [text])
            assert not any(call.done() for call in waiting)
            peer.tell({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
            assert await asyncio.gather(*waiting) == [b"answer"] * 3
            await until(lambda: told[-1] is None)
            assert peer.connections <= 2


async def test_requests_for_which_there_is_no_window(path: Path) -> None:
    """They wait for the peer to open one for each; what is over before that takes nothing with it."""

    async def opens(call: ServedCall) -> None:
        await may_open.wait()
        call.open_window(100)
        await call.receive()
        await call.send(b"answer")
        await call.finish()

    may_open = asyncio.Event()
    async with (
        ScriptedRuntime(path, settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}) as peer,
        Channel(path) as channel,
    ):
        peer.on(METHOD, opens)
        waiting = calls(channel, 3)
        await until(lambda: len(peer.calls) == 3)
        waiting[1].cancel()
        await until(lambda: peer.calls[1].cancelled)
        assert [bytes(call.body) for call in peer.calls] == [b""] * 3
        may_open.set()
        assert [await waiting[0], await waiting[2]] == [b"answer"] * 2


async def test_a_peer_without_a_table_of_headers(path: Path) -> None:
    """Its settings say so in any order with the first call."""
    async with (
        ScriptedRuntime(path, settings={SettingCodes.HEADER_TABLE_SIZE: 0}) as peer,
        Channel(path) as channel,
    ):
        peer.on(METHOD, Script(messages=(b"answer",)))
        for _ in range(3):
            assert await channel.unary(METHOD, b"") == b"answer"
        assert peer.connections == 1


async def test_a_socket_that_another_server_has_taken(path: Path) -> None:
    """New calls go to the server that has the path now, those under way stay where they are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(links, "LOOK_SECONDS", 0.02)
        async with ScriptedRuntime(path) as old, Channel(path) as channel, kept(channel):
            old.on(METHOD, Script(stall_after=0, messages=(b"old",)))
            (before,) = calls(channel, 1)
            await until(lambda: old.calls)
            await asyncio.to_thread(path.rename, path.with_name("old.sock"))
            async with ScriptedRuntime(path) as new:
                new.on(METHOD, Script(messages=(b"new",)))
                await until(lambda: channel.links.generation == 2)
                assert await channel.unary(METHOD, b"") == b"new"
                old.release()
                assert await before == b"old"
                await until(lambda: not old.open)
                assert (len(new.open), new.connections) == (1, 1)


async def test_a_socket_without_a_listener_keeps_the_connection_to_the_old_one(path: Path) -> None:
    """A file that nobody listens at takes no calls away from the server that still answers."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(links, "LOOK_SECONDS", 0.02)
        told: list[str | None] = []
        async with ScriptedRuntime(path) as old, Channel(path, told.append) as channel, kept(channel):
            old.on(METHOD, Script(messages=(b"old",)))
            await until(lambda: old.connections)
            await asyncio.to_thread(path.unlink)
            with socket.socket(socket.AF_UNIX) as nobody:
                nobody.bind(str(path))
            await until(lambda: told[-1:] == [f"cannot reach {path}: Connection refused"])
            assert await channel.unary(METHOD, b"") == b"old"


async def test_a_server_that_hangs_up_after_every_handshake(path: Path) -> None:
    """However often: each call is told so, and the next server at the path is found."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0\0\0\x04\0\0\0\0\0")
        writer.close()

    async with Channel(path) as channel:
        async with await asyncio.start_unix_server(hang_up, str(path)):
            for _ in range(links.LINKS_LIMIT + 1):
                with pytest.raises(CallError) as caught:
                    await channel.unary(METHOD, b"")
                assert caught.value.status is Status.UNAVAILABLE
                assert caught.value.text.endswith(f"{path}: the peer closed the connection")
        async with ScriptedRuntime(path) as peer:
            peer.on(METHOD, Script(messages=(b"answer",)))
            assert await channel.unary(METHOD, b"") == b"answer"


async def test_a_server_that_accepts_no_more_connections(path: Path) -> None:
    """A queue that is full, as a stopped process leaves it, is told as that."""
    with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as stack:
        server.bind(str(path))
        server.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(path))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(links, "HANDSHAKE_SECONDS", 0.2)
            async with Channel(path) as channel:
                with pytest.raises(CallError) as caught:
                    await channel.unary(METHOD, b"")
    assert caught.value.status is Status.UNAVAILABLE
    assert caught.value.text == f"cannot reach {path}: its queue of connections is full"


async def test_a_peer_that_asks_and_does_not_read(path: Path) -> None:
    """Answers to its PINGs are kept only up to a bound; then it is hung up on."""
    asked = b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"\0\0\0\x04\0\0\0\0\0")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(asked * 1000)
                await writer.drain()
        ended.set_result(None)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(link, "UNSENT_LIMIT", 2**18)
        async with await asyncio.start_unix_server(serve, str(path)), Channel(path) as channel:
            with pytest.raises(CallError) as caught:
                await channel.unary(METHOD, b"")
            await ended
    assert "takes none of the answers that it asks for" in caught.value.text

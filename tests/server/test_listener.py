"""How many connections there may be, and what those beyond are told (settings `[limits]`)."""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import TYPE_CHECKING

import pytest

from criimage.server.listening import listener
from criimage.server.listening.listener import connection_limit
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import serving, until
from server.test_limits import frame

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path
    from typing import Any


VERSION = "/runtime.v1.RuntimeService/Version"
PULL = "/runtime.v1.ImageService/PullImage"
PULL_A1 = b"\x0a\x11\x0a\x0fexample.com/a:1"


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sees its own lines: they are said once a second."""
    monkeypatch.setattr(listener._log, "_next", 0.0)


async def test_connections_that_come_at_once_have_the_same_cap(tmp_path: Path) -> None:
    """A burst is accepted before any of it has begun: those that are about to count as well."""
    async with serving(tmp_path, limits={"connections": 3}) as running:
        burst = []
        for _ in range(40):
            # Without the loop: all of them wait in the queue when the server looks.
            one = socket.socket(socket.AF_UNIX)
            one.connect(str(running.path))
            one.settimeout(10)
            burst.append(one)
        refused = [one for one in burst if await asyncio.to_thread(_says_too_many, one)]
        assert len(burst) - len(refused) == len(running.server.connections) == 3
        for one in burst:
            one.close()
        await until(lambda: not running.server.connections)
        # What was counted for those that began is given back.
        clients = [await _connected(running.path) for _ in range(3)]
        await until(lambda: len(running.server.connections) == 3)
        for _, writer in clients:
            writer.close()


def _says_too_many(one: socket.socket) -> bool:
    """Whether what comes first is the end of the connection and its reason."""
    said = one.recv(2**16)
    return b"too many connections" in said


async def test_connections_have_a_cap_that_idle_ones_make_room_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused with a reason, told once a second; whoever asked nothing for long gives way."""
    async with serving(tmp_path, limits={"connections": 3}) as running:
        clients = [await _connected(running.path) for _ in range(3)]
        await until(lambda: len(running.server.connections) == 3)
        async with raw_client(running.path) as refused:
            await refused.closed.wait()
        monkeypatch.setattr("criimage.server.server.IDLE_SECONDS", 0)
        async with raw_client(running.path) as admitted:
            assert (await admitted.call(VERSION)).status == 0
        for _, writer in clients:
            writer.close()


async def test_a_refused_client_can_read_why(tmp_path: Path) -> None:
    """Whatever it has sent before and sends afterwards: GOAWAY with the reason, the end, and no reset instead."""
    async with serving(tmp_path, limits={"connections": 1}) as running, raw_client(running.path) as holder:
        running.backend.open.clear()
        under_way = await holder.send(grpc_headers(PULL), framed(PULL_A1))
        await until(lambda: running.backend.downloads)
        for _ in range(listener.FAREWELLS + 5):
            reader, writer = await _connected(running.path)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
            said = await reader.read(2**16)
            writer.write(frame(6, 0, 0, bytes(8)) * 1000)
            await writer.drain()
            assert b"too many connections" in said + await reader.read()
            writer.close()
            await writer.wait_closed()
        farewells = running.server._listener._farewells  # type: ignore[union-attr]
        await until(lambda: not farewells._leaving)
        running.backend.open.set()
        await under_way.finished()
        assert under_way.status == 0


async def test_refused_clients_that_stay_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few are waited for, and not for long; a server that stops waits for none."""
    monkeypatch.setattr("criimage.server.server.IDLE_SECONDS", 600.0)
    monkeypatch.setattr(listener, "FAREWELLS", 3)
    monkeypatch.setattr(listener, "FAREWELL_SECONDS", 60.0)
    async with serving(tmp_path, limits={"connections": 1}) as running, raw_client(running.path) as holder:
        assert (await holder.call(VERSION)).status == 0
        farewells = running.server._listener._farewells  # type: ignore[union-attr]
        staying = [await _connected(running.path) for _ in range(5)]
        await until(lambda: len(farewells._leaving) == 3)
        for reader, writer in staying:
            assert b"too many connections" in await reader.read()
            writer.close()
        await until(lambda: not farewells._leaving)
        monkeypatch.setattr(listener, "FAREWELL_SECONDS", 0.01)
        _, deaf = await _connected(running.path)
        await until(lambda: farewells._leaving)
        await until(lambda: not farewells._leaving)
        monkeypatch.setattr(listener, "FAREWELL_SECONDS", 60.0)
        _, last = await _connected(running.path)
        await until(lambda: farewells._leaving)
    assert not farewells._leaving
    deaf.close()
    last.close()


async def _connected(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(str(path))


async def test_without_descriptors_connected_clients_are_served(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """EMFILE: a line in the log and a pause, not a loop; when there are descriptors again, so are connections."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        assert (await client.call(VERSION)).status == 0
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        began = asyncio.get_running_loop().time()
        waiting = asyncio.open_unix_connection(str(running.path))
        reader, writer = await waiting
        await until(lambda: len(running.server.connections) == 2)
        one_more = await _socket_before_the_limit(running.path)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            running.server._listener._admit = lambda _coming: True  # type: ignore[union-attr]
            one_more.connect(str(running.path))
            await until(lambda: any("no connection can be accepted" in event["event"] for event in events))
            for _ in range(100):
                assert (await client.call(VERSION)).status == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await until(lambda: len(running.server.connections) == 3)
        # It looks once a pause, however long all of this takes here.
        looked = (asyncio.get_running_loop().time() - began) / listener.PAUSE_SECONDS + 1
        assert 1 <= len([event for event in events if "no connection can be accepted" in event["event"]]) <= looked
        one_more.close()
        writer.close()
        del reader


async def _socket_before_the_limit(_path: Path) -> Any:  # noqa: ANN401
    import socket

    return socket.socket(socket.AF_UNIX)


def test_the_cap_leaves_descriptors_for_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are kept back, and a few connections there always are."""
    for soft, expected in ((1024, 768), (2**20, 1000), (100, 8), (resource.RLIM_INFINITY, 1000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert connection_limit(1000) == expected

"""The server's end: goodbye, what has begun ends well or is cut off, and streams that never end by themselves end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status

from criimage.server import app
from parts.criimage_process import listens
from parts.google_client import google_client
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import PATIENCE, WatchedBackend, serving, stocked, until
from server.methods import LIST, PULL, REMOVE, spec
from server.raw_calls import NAME, answers, auth, begin, held

if TYPE_CHECKING:
    from pathlib import Path


PATHS = ("/grpc.health.v1.Health/Watch", "/criimage.v1.PullService/WatchPulls")


@pytest.mark.parametrize("path", PATHS)
async def test_a_watcher_does_not_hold_up_the_end(tmp_path: Path, path: str) -> None:
    """A stream that watches ends with OK when the server stops: nothing has to be cut off for it."""
    async with serving(tmp_path) as running:
        with google_client(running.path) as client:
            found: list[bytes] = []
            watching = asyncio.create_task(client.stream(path, found=found))
            await until(lambda: found)
            tasks = [task for one in running.server.connections for task in one.calls.tasks]
            await running.assembly.stop()

            assert [task.done() and not task.cancelled() for task in tasks] == [True]
            assert len(await watching) == 1


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
        await client.send(grpc_headers(PULL), framed(spec(NAME)))
        await until(lambda: backend.downloads)
        running.server.stop_accepting()
        await running.server.finish(grace=0)
        assert not running.left()
        await client.closed.wait()
        await until(lambda: backend.cancelled)
        assert not running.server.connections


async def test_stopping_ends_every_pull(tmp_path: Path) -> None:
    """Waiters are told, the backend is stopped, and nothing is left; removals under way end well."""
    backend = held()
    async with serving(tmp_path, backend) as running, raw_client(running.path) as client:
        answers = [await begin(client), await begin(client), await begin(client, auth("u"))]
        await until(lambda: len(backend.downloads) == 2)
        await running.assembly.stop()
        for answer in answers:
            await answer.finished()
            assert answer.status == Status.UNKNOWN.value
            assert answer.message == "the image service is stopping"
        assert len(backend.cancelled) == 2
        assert not running.work._tasks
        await until(lambda: not running.server.connections)
        await client.closed.wait()
        assert client.goaway == (answers[-1].stream, 0)


async def test_a_real_client_ends_its_call_while_the_server_stops(tmp_path: Path) -> None:
    """Grpcio takes the GOAWAY, the answer to what is under way, and the end, in this order."""
    with google_client(tmp_path / "criimage.sock") as client:
        async with serving(tmp_path) as running:
            await client.raw(PULL, spec(NAME))
            running.backend.open.clear()
            removal = asyncio.create_task(client.raw(REMOVE, spec(NAME)))
            await until(lambda: running.backend.removals == 1)
            stopping = asyncio.create_task(running.assembly.stop())
            await until(lambda: running.server.stopping)
            running.backend.open.set()
            assert await removal == b""
            await stopping
        # Once the socket is gone: as long as somebody holds it open, grpcio would wait there for an answer.
        code, _ = await client.error(LIST)
        assert code.name == "UNAVAILABLE"


async def test_stopping_waits_for_nobody_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removal that hangs is cut off after its grace, with or without a client."""
    monkeypatch.setattr(app, "GRACE", 0.01)
    async with serving(tmp_path, held()) as running, raw_client(running.path) as client:
        await client.send(grpc_headers(REMOVE), framed(spec(NAME)))
        await until(lambda: running.backend.removals == 1)
        await running.assembly.stop()
        await until(lambda: not running.server.connections)
        assert running.work._tasks
    assert not running.work._tasks


async def test_sigterm_with_pulls_running(tmp_path: Path) -> None:
    """The process ends by itself after SIGTERM with clients connected; socket and lock are gone."""
    path = tmp_path / "s.sock"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "criimage", "serve", "--backend", "memory", "--listen", f"unix://{path}"),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await until(lambda: listens(path))
        async with raw_client(path) as client:
            watch = await client.send(grpc_headers("/grpc.health.v1.Health/Watch"), framed(b""))
            await until(lambda: watch.messages)
            os.kill(process.pid, signal.SIGTERM)
            await until(lambda: client.goaway)
            await client.closed.wait()
        _, log = await process.communicate()
        assert process.returncode == 0, log
        assert not await asyncio.to_thread(os.listdir, tmp_path)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

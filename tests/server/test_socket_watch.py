"""Clients find the socket as long as the server lives, or are told why not."""

from __future__ import annotations

import asyncio
import shutil
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from criimage import problems
from criimage.errors import ConfigurationError
from criimage.lasting import lasting
from criimage.metrics import NoMetrics
from criimage.server.app import Assembly
from criimage.server.listening.socket import BoundSocket
from criimage.server.listening.socket_watch import watch_socket
from criimage.settings import Settings
from criimage.testing.memory import MemoryBackend
from criimage.work import Work
from parts.criimage_process import listens
from parts.raw_client import raw_client
from parts.serving import until
from server.test_socket import VERSION, listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is looked at all the time."""
    monkeypatch.setattr("criimage.server.listening.socket_watch.LOOK_SECONDS", 0.01)


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[tuple[Path, BoundSocket, Assembly]]:
    """A server whose socket is watched."""
    path = folder / "run" / "c.sock"
    bound = await asyncio.to_thread(BoundSocket.open, f"unix://{path}")
    async with Work() as work:
        assembly = Assembly(MemoryBackend(), work, Settings(), lambda _: NoMetrics(), {})
        assembly.server.start(bound.socket)
        async with lasting(lambda: watch_socket(bound, assembly.server.start), "socket"):
            yield path, bound, assembly
        await assembly.stop()
    problems.over("socket")
    await asyncio.to_thread(bound.close)


async def told(text: str) -> None:
    """Wait until the standing problem says so."""
    await until(lambda: "socket" in problems.standing() and text in problems.standing()["socket"].text)


@pytest.mark.usefixtures("looks_at_once")
@pytest.mark.parametrize("gone", ["file", "file and lock", "folder"])
async def test_a_socket_that_was_deleted_is_bound_again(tmp_path: Path, gone: str) -> None:
    """New clients find it, those connected notice nothing, no problem stands, and the lock is held as before."""
    async with watched(tmp_path) as (path, _, _), raw_client(path) as connected:
        await asyncio.to_thread(_delete, path, gone)
        # There is a moment between its file and its listening.
        await until(lambda: listens(path))
        async with raw_client(path) as fresh:
            assert (await fresh.call(VERSION)).status == 0
        assert (await connected.call(VERSION)).status == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with pytest.raises(ConfigurationError, match="in use by another criimage, which holds"):
            await asyncio.to_thread(BoundSocket.open, f"unix://{path}")
        assert "socket" not in problems.standing()
    assert not path.exists()


def _delete(path: Path, gone: str) -> None:
    if gone == "folder":
        shutil.rmtree(path.parent)
        return
    path.unlink()
    if gone == "file and lock":
        path.with_name("c.sock.lock").unlink()


async def test_a_path_that_somebody_else_took_is_left_to_them_and_told(tmp_path: Path) -> None:
    """Another criimage's socket and lock stay as they are, at our end too; Status tells meanwhile."""
    async with watched(tmp_path) as (path, _, _), raw_client(path) as connected:
        await asyncio.to_thread(_delete, path, "folder")
        await asyncio.to_thread(path.parent.mkdir)
        theirs = await asyncio.to_thread(BoundSocket.open, f"unix://{path}")
        await told("another file is at")
        status = await connected.call("/runtime.v1.RuntimeService/Status")
        assert b"another file is at" in bytes(status.data)
        assert b"ServiceNotReady" in bytes(status.data)
        health = await connected.call("/grpc.health.v1.Health/Check")
        assert health.messages == [b"\x08\x02"]
        await asyncio.to_thread(path.unlink)
        await told("in use by another criimage, which holds")
        await asyncio.to_thread(theirs.close)


async def test_systemds_socket_is_only_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fd://`: whoever made it binds it again."""
    path = tmp_path / "c.sock"
    with await asyncio.to_thread(listener, path) as passed:
        monkeypatch.setattr("criimage.server.listening.socket._passed_socket", lambda: passed)
        bound = await asyncio.to_thread(BoundSocket.open, "fd://")
        assert await asyncio.to_thread(bound.check) is None
        await asyncio.to_thread(path.unlink)
        with pytest.raises(ConfigurationError, match="that systemd passed is gone"):
            await asyncio.to_thread(bound.check)

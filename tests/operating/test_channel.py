"""The client's channel: a server that stops, comes back, or is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status

from criimage.channel import CallError, Channel
from criimage.cri.runtime import v1
from parts.serving import serving, until

if TYPE_CHECKING:
    from pathlib import Path

LIST = "/runtime.v1.ImageService/ListImages"
PULL = "/runtime.v1.ImageService/PullImage"


def pull_request(name: str) -> bytes:
    """An encoded PullImageRequest."""
    return bytes(v1.PullImageRequest(image=v1.ImageSpec(image=name)))


async def test_a_call_under_way_is_answered_by_a_stopping_server(tmp_path: Path) -> None:
    """A goodbye ends no call that the server still answers: the caller learns why its pull ended."""
    async with serving(tmp_path) as server, Channel(server.path) as channel:
        server.backend.open.clear()
        pull = asyncio.create_task(channel.unary(PULL, pull_request("example.com/a:1")))
        await until(lambda: server.backend.downloads)
        server.server.stop_accepting()
        await asyncio.sleep(0)
        server.backend.open.set()

        assert v1.PullImageResponse().parse(await pull).image_ref


async def test_the_channel_connects_again(tmp_path: Path) -> None:
    """One channel outlives the servers behind it, whether they said goodbye in the middle of a call or not."""
    async with Channel(tmp_path / "criimage.sock") as channel:
        for _ in range(3):
            async with serving(tmp_path) as server:
                assert await channel.unary(LIST, b"") == b""
                server.backend.open.clear()
                pull = asyncio.create_task(channel.unary(PULL, pull_request("example.com/a:1")))
                await until(server.backend.downloads.__len__)
            with pytest.raises(CallError, match="the image service is stopping"):
                await pull
            with pytest.raises(CallError, match="cannot reach") as caught:
                await channel.unary(LIST, b"")
            assert caught.value.status is Status.UNAVAILABLE


async def test_a_deadline_is_told_as_one(tmp_path: Path) -> None:
    """The call ends with DEADLINE_EXCEEDED, the server is told, and the channel goes on."""
    async with serving(tmp_path) as server, Channel(server.path) as channel:
        server.backend.open.clear()
        with pytest.raises(CallError) as caught:
            await channel.unary(PULL, pull_request("example.com/a:1"), seconds=0.2)
        await server.quiet()

        assert caught.value.status is Status.DEADLINE_EXCEEDED
        assert await channel.unary(LIST, b"") == b""


async def test_a_cancelled_call_is_over_at_the_server(tmp_path: Path) -> None:
    """P13: who is cancelled leaves no pull behind that nobody waits for."""
    async with serving(tmp_path) as server, Channel(server.path) as channel:
        server.backend.open.clear()
        pull = asyncio.create_task(channel.unary(PULL, pull_request("example.com/a:1")))
        await until(lambda: server.backend.downloads)
        pull.cancel()
        await until(lambda: server.backend.cancelled)
        await server.quiet()


async def test_a_closed_channel_takes_no_calls(tmp_path: Path) -> None:
    """A call outside of `async with` is a fault of the caller's, and says so."""
    with pytest.raises(RuntimeError, match="not open"):
        await Channel(tmp_path / "none.sock").unary(LIST, b"")

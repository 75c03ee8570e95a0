"""Removals as clients see them over the socket: finished whoever leaves, and nothing of an image in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status

from criimage.testing.memory import RemoteImage
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import serving, until
from server.methods import LIST, PULL, REMOVE, spec
from server.raw_calls import NAME, pulled, settled

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("how", ["reset", "hang up", "deadline"])
async def test_a_removal_finishes_without_its_client(tmp_path: Path, how: str) -> None:
    """Crictl gives up after 2 s; the removal it began is not left half done."""
    async with serving(tmp_path) as running, raw_client(running.path) as other:
        pulled(await other.call(PULL, spec(NAME)))
        running.backend.open.clear()
        async with raw_client(running.path) as client:
            timeout = "300m" if how == "deadline" else None
            answer = await client.send(grpc_headers(REMOVE, {"grpc-timeout": timeout}), framed(spec(NAME)))
            await until(lambda: running.backend.removals == 1)
            if how == "deadline":
                assert (await answer.finished()).status == Status.DEADLINE_EXCEEDED.value
            elif how == "reset":
                client.cancel(answer)
                await client.flush()
        await running.quiet()
        assert (await other.call(LIST)).messages != [b""]
        running.backend.open.set()
        await until(lambda: not running.work._tasks)
        assert (await other.call(LIST)).messages == [b""]


async def test_an_image_in_use_stays(tmp_path: Path) -> None:
    """FAILED_PRECONDITION and nothing removed; an unknown image is OK (section 4)."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        pulled(await client.call(PULL, spec(NAME)))
        running.backend.in_use.add(RemoteImage("a1").id)
        before = await client.call(LIST)
        answer = await client.call(REMOVE, spec(NAME))
        assert answer.status == Status.FAILED_PRECONDITION.value
        assert (await client.call(LIST)).messages == before.messages
        assert (await client.call(REMOVE, spec("example.com/other:1"))).status == 0


async def test_a_removal_that_fails_unheard_does_no_harm(tmp_path: Path) -> None:
    """The error of a removal whose client has left is dropped, not raised into nowhere."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        pulled(await client.call(PULL, spec(NAME)))
        running.backend.in_use.add(RemoteImage("a1").id)
        running.backend.open.clear()
        answer = await client.send(grpc_headers(REMOVE), framed(spec(NAME)))
        await until(lambda: running.backend.removals == 1)
        client.cancel(answer)
        await client.flush()
        await running.quiet()
        running.backend.open.set()
        await until(lambda: not running.work._tasks)
        await settled(client)

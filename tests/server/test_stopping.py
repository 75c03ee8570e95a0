"""The end of streams that never end by themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from parts.google_client import google_client
from parts.serving import serving, until

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

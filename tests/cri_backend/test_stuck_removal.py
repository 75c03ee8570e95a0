"""A removal that the runtime never answers ends, tells why, and holds up nobody else; a whole server in its process."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from grpclib.const import Status

from cli.command import at_once
from cri_backend.written_runtime import ONE, OTHER, Stored, an_image, spelled, written_runtime
from criimage.testing.scripted_runtime import Script
from parts.criimage_process import criimage
from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import until
from server.methods import LIST, REMOVE, STATUS, spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from parts.criimage_process import Criimage

HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"

LIMIT = 5
"""Seconds for a removal: enough for a busy machine to come as far as the runtime."""


@asynccontextmanager
async def serving(endpoint: Path) -> AsyncIterator[Criimage]:
    """A server before a runtime that lives in this very loop."""
    config = f'backend = "cri"\n[pulls]\nremove_timeout = "{LIMIT}s"\n[backends.cri]\nendpoint = "unix://{endpoint}"\n'
    running = criimage(config)
    server = await asyncio.to_thread(running.__enter__)
    try:
        yield server
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


async def removals(server: Criimage) -> list[tuple[str, str]]:
    """What `criimage removals` shows: each image, and what is waited for."""
    shown = await asyncio.to_thread(at_once, "removals", "--endpoint", server.endpoint, "--output", "json")
    return [(one["image"], one["waiting_for"]) for one in json.loads(shown)["removals"]]


async def test_a_runtime_that_never_answers_a_removal(socket: Path) -> None:
    """It accepts RemoveImage and is silent: at `remove_timeout` the caller is told and the call reset at the runtime.

    Meanwhile all others are answered, and another image can be removed; then the removal is gone from the list, the
    server is healthy, and the next removal of the image takes it.
    """
    async with written_runtime(socket) as runtime, serving(socket) as server, raw_client(server.socket) as client:
        runtime.images = [an_image("containerd"), Stored(spelled("", OTHER), ["reg.example/b:1"])]
        runtime.server.on(REMOVE, Script(stall_after=0))
        stuck = await client.send(grpc_headers(REMOVE), framed(spec("reg.example/a:1")))
        await until(lambda: runtime.server.called("RemoveImage"))
        assert await removals(server) == [("reg.example/a:1", "the container runtime")]
        runtime.server.on(REMOVE, runtime._remove)
        assert (await client.call(HEALTH)).messages == [SERVING]
        assert (await client.call(STATUS, spec("reg.example/a:1"))).messages != [b""]
        assert (await client.call(REMOVE, spec("reg.example/b:1"))).status == 0
        assert [image.id for image in runtime.images] == [spelled("", ONE)]

        told = await stuck.finished()
        assert told.status == Status.UNKNOWN.value
        what = f"waited for the container runtime, not complete within {LIMIT}s"
        assert told.message == f"removal cut off: {what}: reg.example/a:1; the image is still there"
        await until(lambda: [one.cancelled for one in runtime.server.called("RemoveImage")] == [True, False])
        assert await removals(server) == []
        assert (await client.call(HEALTH)).messages == [SERVING]
        assert (await client.call(REMOVE, spec("reg.example/a:1"))).status == 0
        assert (await client.call(LIST)).messages == [b""]

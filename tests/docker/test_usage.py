"""ImageFsInfo on real engines (docker F1-F6)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from criimage.testing.oci import image, layer, noise_layer
from parts.docker_backend import docker_backend, pull, remove
from parts.engine import Kind

if TYPE_CHECKING:
    from criimage.backend import FilesystemUsage
    from criimage_docker.backend import DockerBackend
    from parts.engine import Engine
    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


async def measured(backend: DockerBackend) -> FilesystemUsage:
    """What the engine says now: an answer that waits for no round of measuring may be the one before."""
    async with asyncio.timeout(60):
        while True:
            found = (await backend.usage()).images[0]
            last = backend._meter._last
            if last is not None and last.usage is found and last.snapshot is await backend._view.snapshot():
                return found
            await asyncio.sleep(0.05)


async def test_true_bytes_of_shared_layers(docker: Engine, hub: Registry) -> None:
    """F5, F6: what images share counts once, where the sum of their sizes counts it for each."""
    shared = noise_layer(1_000_000, seed="usage")
    async with docker_backend(docker.host) as backend:
        for number in range(10):
            await pull(backend, hub.push(image(shared, layer({"n": str(number).encode()})), f"usage/{number}"))
        images = await backend.images()
        usage = await measured(backend)

    assert sum(entry.size for entry in images) >= 10_000_000
    # containerd counts blocks, what earlier tests had until it collects its garbage, and from 28.5 on (not in 26.1) the
    # compressed layers too.
    limit = sum(entry.size for entry in images) if docker.kind.containerd_store else 1_200_000
    assert 1_000_000 <= usage.used_bytes < limit


async def test_both_lists_and_a_mountpoint(docker: Engine, hub: Registry) -> None:
    """F2, F4: both lists are filled, and the mountpoint is where the engine keeps its data."""
    async with docker_backend(docker.host) as backend:
        await pull(backend, hub.push(image(noise_layer(10_000)), "usage/lists"))
        before = time.time_ns()
        usage = await backend.usage()

    assert usage.images == usage.containers
    (entry,) = usage.images
    assert entry.mountpoint == docker.ask("GET", "/info").json()["DockerRootDir"]
    assert before - 60 * 10**9 < entry.timestamp <= time.time_ns()
    if docker.kind is Kind.DEBIAN12:
        # F2: of the whole file system, where the folder is this machine's.
        assert entry.mountpoint.startswith(str(docker.folder))
        assert entry.inodes_used is not None
        assert entry.inodes_used > 0
    else:
        assert entry.inodes_used is None


async def test_an_empty_engine(docker: Engine) -> None:
    """F4: nothing stored is a figure too."""
    async with docker_backend(docker.host) as backend:
        usage = await backend.usage()

    if not docker.kind.containerd_store:  # where garbage is collected later
        assert usage.images[0].used_bytes == 0


async def test_a_removal_shows(docker: Engine, hub: Registry) -> None:
    """F3: a change of the images makes the figures new at once, whatever their age."""
    async with docker_backend(docker.host) as backend:
        held = await pull(backend, hub.push(image(noise_layer(2_000_000, seed="gone")), "usage/gone"))
        full = await measured(backend)
        await remove(backend, str(held.id))
        if docker.kind.containerd_store:
            # containerd's garbage collection takes the layers away later.
            return
        empty = await measured(backend)

    assert full.used_bytes >= 2_000_000
    assert empty.used_bytes < 100_000


async def test_many_at_once_ask_once(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """F3, F5: callers at the same time share one question; 20.10 refuses a second."""
    async with docker_backend(docker.host) as backend:
        asked = 0
        ask = backend._engine.disk_usage

        async def count() -> dict[str, object]:
            nonlocal asked
            asked += 1
            return await ask()

        monkeypatch.setattr(backend._engine, "disk_usage", count)
        found = await asyncio.gather(*(backend.usage() for _ in range(50)))

    assert asked == 1
    assert len({usage.images for usage in found}) == 1


async def test_another_mountpoint(docker: Engine) -> None:
    """The setting `mountpoint` names the place where the engine itself cannot."""
    async with docker_backend(docker.host, mountpoint="/var") as backend:
        usage = await backend.usage()

    assert usage.images[0].mountpoint == "/var"

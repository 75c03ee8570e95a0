"""Two servers, skopeo, buildah and podman on one store at random, some of them killed: then everything is looked at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from containers_storage.by_chance import ByChance
from containers_storage.crio import read
from containers_storage.opened import until
from criimage.testing.oci import image, layer, noise_layer
from parts.criimage_process import Criimage, criimage, store_config
from parts.google_client import GoogleClient, message
from parts.missing import need
from parts.registry import registry
from parts.skopeos import Version, version_text
from parts.store import store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from parts.store import Store

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

AT_ONCE = 4
SHARED = [noise_layer(60_000, seed=number) for number in range(3)]
IMAGES = [image(*SHARED[: 1 + number % 3], layer({"n": bytes([number])})) for number in range(6)]
IMAGE_SERVICE = "/runtime.v1.ImageService"


class Server:
    """A server that can be killed and started again."""

    def __init__(self, local: Store) -> None:
        self._config = store_config(local)
        self._stack = contextlib.ExitStack()
        self._busy = asyncio.Lock()
        self._running: Criimage | None = None

    async def start(self) -> None:
        """Starts it."""
        self._running = await asyncio.to_thread(self._stack.enter_context, criimage(self._config))

    async def kill(self) -> None:
        """`kill -9`, and another one in its place."""
        async with self._busy:
            assert self._running is not None
            self._running.process.process.kill()
            await asyncio.to_thread(self._running.process.process.wait)
            await asyncio.to_thread(self._stack.close)
            await self.start()

    async def stop(self) -> str:
        """Ends it as a service manager does, and returns what it has logged to its very end."""
        assert self._running is not None
        try:
            await asyncio.to_thread(self._running.stop)
            return self.log_text()
        finally:
            await asyncio.to_thread(self._stack.close)

    async def call(self, method: str, name: str, seconds: float = 60.0) -> bool:
        """Makes a call about an image; whether it succeeded."""
        assert self._running is not None
        spec = message("runtime.v1.ImageSpec", image=name)
        request = message(f"runtime.v1.{method}Request", image=spec).SerializeToString()
        try:
            with grpc.insecure_channel(self._running.endpoint) as channel:
                await GoogleClient(channel).raw(f"{IMAGE_SERVICE}/{method}", request, seconds)
        except grpc.RpcError:
            return False
        return True

    def log_text(self) -> str:
        """What it has logged."""
        assert self._running is not None
        return self._running.log_text()


@dataclass(slots=True)
class Node(ByChance):
    """A store and all who work on it.

    Attributes:
        local: the store.
        servers: two of criimage's.
        names: of the images in the registry.
        chance: decides everything.
        done: how often each operation succeeded, and how often it did not.
        given_up: layers of copies by other tools that failed: those do not write down what they leave.
    """

    local: Store
    servers: list[Server]
    names: list[str]
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    given_up: set[str] = field(default_factory=set)

    @property
    def operations(self) -> list[tuple[int, Callable[[str], Awaitable[bool]]]]:
        """Each with its weight."""
        return [
            (8, self.pull),
            (4, self.cancelled_pull),
            (4, self.remove),
            (1, self.kill),
            (3, self.skopeo_copy),
            (2, self.skopeo_delete),
            (2, self.buildah_tag),
            (2, self.buildah_commit),
            (2, self.podman_container),
            (1, self.podman_untag),
        ]

    async def pull(self, name: str) -> bool:
        """By a server."""
        return await self.chance.choice(self.servers).call("PullImage", name)

    async def cancelled_pull(self, name: str) -> bool:
        """By a server, given up somewhere on the way."""
        return await self.chance.choice(self.servers).call("PullImage", name, 0.02 + self.chance.random() / 2)

    async def remove(self, name: str) -> bool:
        """By a server."""
        return await self.chance.choice(self.servers).call("RemoveImage", name)

    async def kill(self, _: str) -> bool:
        """A server, whatever it does."""
        await self.chance.choice(self.servers).kill()
        return True

    async def skopeo_copy(self, name: str) -> bool:
        """By skopeo, from the registry."""
        well = await tool(self.local.skopeo, "copy", "-q", f"docker://{name}", self.local.reference(name))
        if not well:
            self.given_up |= {one.digest for one in IMAGES[self.names.index(name)].layers}
        return well

    async def skopeo_delete(self, name: str) -> bool:
        """By skopeo: the image with all its names."""
        return await tool(self.local.skopeo, "delete", self.local.reference(name))

    async def buildah_tag(self, name: str) -> bool:
        """One more name."""
        return await tool(self._buildah, "tag", name, f"{name}-{self.chance.randrange(3)}")

    async def buildah_commit(self, name: str) -> bool:
        """A container, an image of it without a name, and both are gone again."""
        container = f"c{self.chance.getrandbits(40)}"
        begun = await tool(self._buildah, "from", "--pull-never", "--name", container, name)
        committed = begun and await tool(self._buildah, "commit", "-q", container)
        return await tool(self._buildah, "rm", container) and committed

    async def podman_container(self, name: str) -> bool:
        """A container that uses an image for a moment."""
        container = f"p{self.chance.getrandbits(40)}"
        begun = await tool(self._podman, "create", "--pull=never", "--network=none", "--name", container, name, "/x")
        await asyncio.sleep(self.chance.random() / 10)
        return await tool(self._podman, "rm", container) and begun

    async def podman_untag(self, name: str) -> bool:
        """One name less."""
        return await tool(self._podman, "untag", name, name)

    def _buildah(self, *arguments: str, check: bool) -> subprocess.CompletedProcess[str]:
        return self._on_the_store("buildah", *arguments, check=check)

    def _podman(self, *arguments: str, check: bool) -> subprocess.CompletedProcess[str]:
        return self._on_the_store("podman", "--tmpdir", str(self.local.folder / "podman"), *arguments, check=check)

    def _on_the_store(self, *command: str, check: bool) -> subprocess.CompletedProcess[str]:
        where = ["--root", str(self.local.root), "--runroot", str(self.local.run_root)]
        environment = {**os.environ, "CONTAINERS_REGISTRIES_CONF": str(self.local.registries_conf)}
        arguments = [command[0], *where, "--storage-driver", self.local.driver, *command[1:]]
        return subprocess.run(arguments, check=check, capture_output=True, text=True, timeout=120, env=environment)


async def tool(run: Callable[..., subprocess.CompletedProcess[str]], *arguments: str) -> bool:
    """Runs a tool; whether it succeeded."""
    ended = await asyncio.to_thread(lambda: run(*arguments, check=False))
    assert ended.returncode >= 0, ended
    assert "panic" not in ended.stderr
    return ended.returncode == 0


@pytest.mark.parametrize("seconds", [10, pytest.param(120, marks=pytest.mark.long)])
async def test_then_every_image_is_whole_and_every_layer_has_an_owner(
    each_skopeo: Version, seconds: int, long_run: Callable[[str, str], None]
) -> None:
    """Whatever was pulled, removed, cancelled and killed: no image is half, and no layer is nobody's (A1 to A5)."""
    need("buildah", "podman")
    seed = int(os.environ.get("STORE_TEST_SEED", "5"))
    with registry() as hub, store() as local:
        names = [hub.push(made, f"app{number}", "1") for number, made in enumerate(IMAGES)]
        servers = [Server(local), Server(local)]
        for server in servers:
            await server.start()
        node = Node(local, servers, names, random.Random(f"{seed} {each_skopeo}"))  # noqa: S311 - to be repeated
        end = time.monotonic() + seconds

        async def worker() -> None:
            while time.monotonic() < end:
                await node.any()

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        for name in names[:2]:
            assert await servers[0].call("PullImage", name), servers[0].log_text()[-4000:]
        await asyncio.to_thread(until, lambda: not half_images(local))
        for log in [await server.stop() for server in servers]:
            assert "Traceback" not in log
        await asyncio.to_thread(audit, local, node.given_up)
    if seconds > 10:
        done = ", ".join(f"{count} {name}" for name, count in sorted(node.done.items()))
        long_run(f"skopeo {version_text()}", f"{node.done.total()} operations, everything whole: {done}")


def half_images(local: Store) -> list[str]:
    """The records that are no image: without a manifest."""
    records = read(local.root / f"{local.driver}-images/images.json")
    return [record["id"] for record in records if "manifest" not in (record.get("big-data-names") or ())]


def audit(local: Store, given_up: set[str]) -> None:
    """Looks at everything: each image comes out of the store whole, each layer is somebody's."""
    images = read(local.root / f"{local.driver}-images/images.json")
    layers = {record["id"]: record for record in read(local.root / f"{local.driver}-layers/layers.json")}
    containers = read(local.root / f"{local.driver}-containers/containers.json")
    assert len(images) >= 2
    owned: set[str] = set()
    for record in [*images, *containers]:
        at = record.get("layer", "")
        while at:
            assert at in layers, f"{record.get('names')} has lost a layer"
            owned.add(at)
            at = layers[at].get("parent", "")
    for record in images:
        with tempfile.TemporaryDirectory() as folder:
            local.skopeo("copy", "-q", local.reference(f"@{record['id']}"), f"dir:{folder}")
            manifest = json.loads((Path(folder) / "manifest.json").read_bytes())
            assert manifest["config"]["digest"] == f"sha256:{record['id']}"
    written_down = "".join(file.read_text() for file in local.root.glob("criimage/*/*/copied"))
    for identity in set(layers) - owned:
        blob = layers[identity].get("compressed-diff-digest", "")
        incomplete = (layers[identity].get("flags") or {}).get("incomplete")
        assert incomplete or blob in given_up or (blob and blob in written_down), f"nobody knows layer {identity}"

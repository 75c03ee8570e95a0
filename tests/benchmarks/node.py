"""What is measured: a registry, the parts that stand behind criimage, and criimage on each of them."""

from __future__ import annotations

import contextlib
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from benchmarks.client import PULL, Client, clients
from criimage.testing.oci import Config, image, layer, noise_layer
from parts.containerd import containerd
from parts.criimage_process import criimage, store_config
from parts.engine import Kind, engine
from parts.missing import need
from parts.registry import Registry, registry
from parts.store import Store, store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from parts.containerd import Containerd
    from parts.engine import Engine

STORAGE, DOCKER, CRI, PEER = "containers-storage", "docker", "cri", "containerd"

_REPOSITORIES = 40
_PUSHERS = 4
_FILLING = 4
_BASE_SIZE = 200_000
_OWN_LAYERS = 1000
"""So many images have a layer of their own; of those behind them each forty share one, as a program's versions do."""
_VERSIONS = 40
_MANY = 200
"""Images that one podman pulls; it reads the store's records once, and writes them for each."""
_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Server:
    """Somebody who answers CRI.

    Attributes:
        name: a backend's, or that of the peer.
        endpoint: `unix:///PATH`.
        process: its process ID.
    """

    name: str
    endpoint: str
    process: int


@dataclass(slots=True)
class Node:
    """All of it.

    Attributes:
        images: the registry.
        storage: a store for containers-storage.
        runtime: containerd: the peer, and what stands behind the cri backend.
        engine: what stands behind the docker backend; None where it cannot be had.
        servers: the peer and the criimages, by their names.
        names: of the images that every store has.
        missing: why a server is not there, by its name.
    """

    images: Registry
    storage: Store
    runtime: Containerd
    engine: Engine | None = None
    servers: dict[str, Server] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def config(self, backend: str, storage: Store | None = None) -> str:
        """The configuration of a criimage.

        Args:
            backend: its name.
            storage: another store than the node's, for containers-storage.
        """
        if backend == STORAGE:
            return store_config(storage or self.storage)
        if backend == DOCKER:
            assert self.engine is not None
            return f'backend = "docker"\n[backends.docker]\nhost = "{self.engine.host}"\n'
        return f'backend = "cri"\n[backends.cri]\nendpoint = "{self.runtime.endpoint}"\n'

    @property
    def backends(self) -> list[str]:
        """The backends that a criimage runs on."""
        return [name for name in self.servers if name != PEER]

    def fill(self, count: int) -> dict[str, float]:
        """Pulls until every store has so many images of two layers each, one of them common to all.

        Returns:
            how many seconds each store took, by its server's name, all of them at once.
        """
        fresh = range(len(self.names), count)
        base = noise_layer(_BASE_SIZE, seed="base")
        with ThreadPoolExecutor(_PUSHERS) as pool:
            names = list(pool.map(lambda number: self._push(number, base), fresh))
        places = {name: self.servers[name].endpoint for name in (STORAGE, DOCKER, PEER) if name in self.servers}

        def pull(client: Client, name: str) -> float:
            began = time.monotonic()
            if name == STORAGE and count > _OWN_LAYERS:
                _pull_by_podman(self.storage, names)
            else:
                _pull(client, places[name], names)
            return time.monotonic() - began

        with clients(len(places)) as pullers, ThreadPoolExecutor(len(places)) as pool:
            seconds = dict(zip(places, pool.map(pull, pullers, places), strict=True))
        self.names += names
        return seconds

    def _push(self, number: int, base: object) -> str:
        layered = number if number < _OWN_LAYERS else number // _VERSIONS * _VERSIONS
        own = layer({f"app/{layered}": str(layered).encode()})
        made = image(base, own, config=Config(user="1000", cmd=("app",), labels={"number": str(number)}))  # type: ignore[arg-type]
        return self.images.push(made, f"team/app-{number % _REPOSITORIES}", f"v{number}")

    def tiny(self, kind: str, count: int) -> list[str]:
        """Pushes images of one tiny layer each; the same kind gives the same ones."""
        return [
            self.images.push(image(layer({kind: str(number).encode()})), f"new/{kind}-{number}", "1")
            for number in range(count)
        ]

    def large(self, layers: int, mebibytes: int) -> str:
        """Pushes an image of such layers."""
        parts = [noise_layer(mebibytes * _MEBIBYTE, seed=f"large {one}", path=f"{one}") for one in range(layers)]
        return self.images.push(image(*parts), "new/large", "1")


def _pull(client: Client, endpoint: str, names: Sequence[str]) -> None:
    if names:
        client.each(endpoint, PULL, names, in_flight=_FILLING)


def _pull_by_podman(storage: Store, names: Sequence[str]) -> None:
    """Pulls by processes that pull many images each, and so do not read all records of a large store for every one."""
    need("podman")
    where = ["--root", str(storage.root), "--runroot", str(storage.run_root), "--storage-driver", storage.driver]
    command = ["podman", *where, "--tmpdir", str(storage.tmp), "pull", "-q", "--tls-verify=false"]
    command += ["--signature-policy", str(storage.policy)]
    for first in range(0, len(names), _MANY):
        subprocess.run([*command, *names[first : first + _MANY]], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def node() -> Iterator[Node]:
    """Runs everything until the block is left; nothing of it is left behind."""
    with contextlib.ExitStack() as stack:
        made = Node(stack.enter_context(registry()), stack.enter_context(store()), stack.enter_context(containerd()))
        try:
            made.engine = stack.enter_context(engine(Kind.DEBIAN12))
        except pytest.skip.Exception as reason:
            made.missing[DOCKER] = str(reason)
        made.servers[PEER] = Server(PEER, made.runtime.endpoint, made.runtime.pid)
        for backend in (STORAGE, DOCKER, CRI):
            if backend not in made.missing:
                running = stack.enter_context(criimage(made.config(backend)))
                made.servers[backend] = Server(backend, running.endpoint, running.process.pid)
        yield made

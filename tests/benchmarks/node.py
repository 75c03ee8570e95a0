"""What is measured: a registry, the parts that stand behind criimage, and criimage on each of them."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from benchmarks.client import PULL, Client, clients
from criimage.testing.oci import Config, image, layer, noise_layer
from parts.containerd import containerd
from parts.criimage_process import criimage, store_config
from parts.engine import Kind, engine
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

    def fill(self, count: int) -> None:
        """Pulls until every store has so many images of two layers each, one of them common to all."""
        fresh = range(len(self.names), count)
        base = noise_layer(_BASE_SIZE, seed="base")
        with ThreadPoolExecutor(_PUSHERS) as pool:
            names = list(pool.map(lambda number: self._push(number, base), fresh))
        places = [self.servers[name].endpoint for name in (STORAGE, DOCKER, PEER) if name in self.servers]
        with clients(len(places)) as pullers, ThreadPoolExecutor(len(places)) as pool:
            list(pool.map(lambda client, place: _pull(client, place, names), pullers, places))
        self.names += names

    def _push(self, number: int, base: object) -> str:
        own = layer({f"app/{number}": str(number).encode()})
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

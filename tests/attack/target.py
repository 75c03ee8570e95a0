"""The servers that are attacked: one for each backend, in a process of its own, as its users run it."""

from __future__ import annotations

import base64
import contextlib
import json
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from criimage.testing.oci import Config, image, layer
from criimage.testing.scripted_registry import ScriptedRegistry, scripted_registry
from parts.child import free_port
from parts.containerd import Containerd, containerd
from parts.criimage_process import Criimage, criimage, store_config
from parts.echo_registry import EchoPair, echoes
from parts.engine import Engine, Kind, engine
from parts.raw_client import Answer, RawClient, raw_client
from parts.store import Store, store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

__all__ = ["BACKENDS", "MACHINE_SECRET", "Target", "opened"]

MACHINE_SECRET = "gatehouse/lanterns+and keys"  # noqa: S105 - of nobody
"""What the machine of containers-storage has for `machine` on the echoing registries."""

_SERVING_SECONDS = 30.0
LIST = "/runtime.v1.ImageService/ListImages"
PULL = "/runtime.v1.ImageService/PullImage"
HEALTH = "/grpc.health.v1.Health/Check"


def field(number: int, content: bytes | str) -> bytes:
    """A length-delimited field of protobuf."""
    data = content.encode() if isinstance(content, str) else content
    length, rest = bytearray(), len(data)
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((number << 3 | 2,)) + bytes((*length, rest)) + data


def pull_request(name: str, auth: bytes = b"") -> bytes:
    """A PullImageRequest; `auth` is an AuthConfig."""
    return field(1, field(1, name)) + (field(2, auth) if auth else b"")


@dataclass(slots=True)
class Target:
    """A server under attack.

    Attributes:
        backend: its name.
        server: the process.
        registry: one that does what it is told.
        image: the name of an image there.
        store: of containers-storage, else None.
        engine: of docker, else None.
        runtime: of cri, else None.
        echoes: registries that send back what they get; None where the backend asks none.
        metrics: `HOST:PORT` of the metrics.
        images: how many fresh ones have been made.
    """

    backend: str
    server: Criimage
    registry: ScriptedRegistry
    image: str
    store: Store | None = None
    engine: Engine | None = None
    runtime: Containerd | None = None
    echoes: EchoPair | None = None
    metrics: str = ""
    images: int = 0

    @asynccontextmanager
    async def client(self) -> AsyncIterator[RawClient]:
        """Connect."""
        async with raw_client(self.server.socket) as made:
            yield made

    async def call(self, path: str, request: bytes = b"") -> Answer:
        """Make one call on a connection of its own."""
        async with self.client() as client:
            return await client.call(path, request)

    async def pull(self, name: str = "", auth: bytes = b"") -> Answer:
        """Pull an image, the one that is there if no name is given."""
        return await self.call(PULL, pull_request(name or self.image, auth))

    def fresh(self) -> str:
        """Put an image into the registry that nobody has pulled, and return its name."""
        self.images += 1
        made = image(layer({"hello": f"attack {self.images}".encode()}), config=Config(cmd=(str(self.images),)))
        return self.registry.put(made, "attack/image", f"t{self.images}")

    def memory(self) -> int:
        """Bytes that the server's process has in memory."""
        with open(f"/proc/{self.server.process.pid}/statm") as file:  # noqa: PTH123 - no path of a file
            return int(file.read().split()[1]) * 4096


@contextlib.contextmanager
def _memory(_stack: ExitStack, _echoes: EchoPair) -> Iterator[tuple[str, dict[str, object]]]:
    yield 'backend = "memory"\n', {}


@contextlib.contextmanager
def _containers_storage(stack: ExitStack, echoes: EchoPair) -> Iterator[tuple[str, dict[str, object]]]:
    made = stack.enter_context(store())
    # What the machine itself has for them, which no client knows.
    entry = {"auth": base64.b64encode(f"machine:{MACHINE_SECRET}".encode()).decode()}
    token = {"auth": base64.b64encode(b"machine:").decode(), "identitytoken": MACHINE_SECRET}
    auths = {f"{echoes.basic.address}/machine": entry, f"{echoes.bearer.address}/machine": token}
    file = made.folder / "auth.json"
    file.write_text(json.dumps({"auths": auths}))
    yield store_config(made, keys=f"auth_file = {json.dumps(str(file))}\n"), {"store": made}


@contextlib.contextmanager
def _docker(stack: ExitStack, _echoes: EchoPair) -> Iterator[tuple[str, dict[str, object]]]:
    made = stack.enter_context(engine(Kind.DEBIAN12))
    yield f'backend = "docker"\n[backends.docker]\nhost = {json.dumps(made.host)}\n', {"engine": made}


@contextlib.contextmanager
def _cri(stack: ExitStack, _echoes: EchoPair) -> Iterator[tuple[str, dict[str, object]]]:
    made = stack.enter_context(containerd())
    # Without the relay, so that Version is the server's own answer, as on the other backends.
    relay = '[runtime]\nendpoint = "none"\n'
    yield f'backend = "cri"\n{relay}[backends.cri]\nendpoint = {json.dumps(made.endpoint)}\n', {"runtime": made}


BACKENDS: dict[
    str, Callable[[ExitStack, EchoPair], contextlib.AbstractContextManager[tuple[str, dict[str, object]]]]
] = {
    "memory": _memory,
    "containers-storage": _containers_storage,
    "docker": _docker,
    "cri": _cri,
}
"""By name: prepares a backend's store, and yields the settings and what a target has of it."""


@asynccontextmanager
async def opened(
    backend: str, *, environment: Mapping[str, str] | None = None, level: str = "info"
) -> AsyncIterator[Target]:
    """Run a server on one backend until the block is left; then it must end well and leave nothing.

    Args:
        backend: its name.
        environment: variables of the server, on top of this process's own.
        level: of its log.
    """
    async with AsyncExitStack() as stack:
        parts = stack.enter_context(ExitStack())
        pair = parts.enter_context(echoes())
        config, known = parts.enter_context(BACKENDS[backend](parts, pair))
        hub = parts.enter_context(scripted_registry())
        name = hub.put(image(layer({"hello": b"attack"})), "attack/image")
        metrics = f"127.0.0.1:{free_port()}"
        settings = ["--log-level", level, "--set", f"metrics.address={metrics}"]
        server = parts.enter_context(criimage(config, arguments=settings, environment=environment))
        server.process.wait_until(lambda: "serving" in server.log_text(), seconds=_SERVING_SECONDS)
        asked = None if backend == "memory" else pair
        yield Target(backend, server, hub, name, echoes=asked, metrics=metrics, **known)  # type: ignore[arg-type]

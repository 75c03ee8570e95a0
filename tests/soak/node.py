"""The parts of the run, all of which can be restarted: registry, engine, runtime and a criimage on each backend."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.calls import bare_server
from criimage.testing.scripted_registry import ScriptedRegistry, Stage, Trickle, scripted_registry
from parts.child import Child, child, free_port
from parts.containerd import containerd
from parts.criimage_process import STOP_SECONDS, store_config
from parts.engine import Kind, engine
from parts.registry import Registry, registry
from parts.store import store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from parts.containerd import Containerd
    from parts.engine import Engine

__all__ = ["BACKENDS", "Node", "Outage", "Server", "node"]

BACKENDS = ("containers-storage", "docker", "cri")
START_SECONDS = 60.0
SETTLE_SECONDS = 10.0
"""How long after a part is back a call may still fail for it: others keep its connections, and wait before they try."""


@dataclass(slots=True)
class Outage:
    """A restart of a part.

    Attributes:
        part: its name; a backend's for the server itself.
        begun: by `time.monotonic`.
        ended: when it answered again; infinity before.
    """

    part: str
    begun: float
    ended: float = float("inf")

    def excuses(self, begun: float, ended: float) -> bool:
        """Whether a call that went on between these moments may have failed for it."""
        return begun < self.ended + SETTLE_SECONDS and ended > self.begun


@dataclass(slots=True)
class Server:
    """A criimage of the run.

    Attributes:
        backend: its name.
        folder: its settings, socket and log.
        metrics: `HOST:PORT`.
        needs: the parts that it works with.
        process: of the life that it lives now.
    """

    backend: str
    folder: Path
    metrics: str
    needs: frozenset[str]
    process: Child | None = None
    _running: ExitStack = field(default_factory=ExitStack)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "criimage.sock"

    @property
    def pid(self) -> int:
        """Of its process; 0 between two lives."""
        return self.process.pid if self.process is not None else 0

    def start(self) -> None:
        """Start it, and wait until it listens."""
        config, listen = str(self.folder / "config.toml"), f"unix://{self.socket}"
        command = [sys.executable, "-m", "criimage", "serve", "--config", config, "--listen", listen]
        made = self._running.enter_context(child("criimage", command, self.folder / f"log{time.monotonic():.0f}"))
        made.wait_until(lambda: _listens(self.socket), seconds=START_SECONDS)
        self.process = made

    def stop(self) -> None:
        """End it as a service manager does; it must end well and in time."""
        made, self.process = self.process, None
        if made is not None:
            code = made.terminate(seconds=STOP_SECONDS)
            assert code == 0, f"criimage on {self.backend} ended with {code}:\n{made.log_text()[-4000:]}"
        self._running.close()

    def log_text(self) -> str:
        """What all its lives have logged."""
        logs = sorted(self.folder.glob("log*"), key=lambda log: log.stat().st_mtime)
        return "".join(log.read_text(errors="replace") for log in logs)

    def faults(self) -> list[str]:
        """Lines of its logs that tell of faults of criimage itself; that a part is down is none."""
        lines = self.log_text().splitlines()
        errors = [line for line in lines if "[error" in line and "a problem stands" not in line]
        return [*errors, *(line for line in lines if line.startswith("Traceback"))]


@dataclass(slots=True)
class Node:
    """Everything that runs.

    Attributes:
        servers: one for each backend.
        registry: a real one, which may be down.
        hub: one that sends layers slowly, for pulls that are cancelled.
        bare: socket of a bare server in Python, the yardstick of latency; it is left alone.
        outages: the restarts until now.
    """

    servers: list[Server]
    registry: Registry
    hub: ScriptedRegistry
    bare: Path
    outages: list[Outage] = field(default_factory=list)
    engine: Engine | None = None
    runtime: Containerd | None = None
    _registries: ExitStack = field(default_factory=ExitStack)

    def parts(self) -> list[str]:
        """What can be restarted beside the servers."""
        needed = frozenset().union(*(server.needs for server in self.servers))
        return [name for name in ("registry", "engine", "runtime") if name in needed]

    def restart(self, part: str) -> None:
        """Kill a part, or end a server, and start it again; returns when it answers."""
        outage = Outage(part, time.monotonic())
        self.outages.append(outage)
        server = next((one for one in self.servers if one.backend == part), None)
        if server is not None:
            server.stop()
            server.start()
        elif part == "registry":
            self._again()
        else:
            made = self.engine if part == "engine" else self.runtime
            assert made is not None
            made.kill()
            made.start()
        outage.ended = time.monotonic()

    def _again(self) -> None:
        self.registry.process.process.send_signal(signal.SIGKILL)
        self._registries.close()
        folder = self.registry.folder
        command = ("docker-registry", "serve", str(folder / "config.yml"))
        made = self._registries.enter_context(child("docker-registry", command, folder / "log"))
        made.wait_until(lambda: _accepts(self.registry.port), seconds=START_SECONDS)

    def excused(self, server: Server, begun: float, ended: float) -> bool:
        """Whether a call of a server may have failed for a restart."""
        own = {server.backend, *server.needs}
        return any(outage.part in own and outage.excuses(begun, ended) for outage in self.outages)


@contextlib.contextmanager
def node(backends: Sequence[str]) -> Iterator[Node]:
    """Run everything for these backends until the block is left; then every server must end well."""
    with ExitStack() as stack:
        hub = stack.enter_context(scripted_registry())
        # Not one that says nothing at all: an engine of 20.10 holds a download's place until the registry's headers
        # have come, whoever cancels, and has three places.
        hub.script(Stage.LAYER, Trickle(1000, 0.2), repository="slow/image")
        endpoint, _ = stack.enter_context(bare_server())
        made = Node([], stack.enter_context(registry()), hub, Path(endpoint.removeprefix("unix://")))
        stack.enter_context(made._registries)
        for backend in backends:
            config, needs = _prepared(backend, made, stack)
            folder = Path(tempfile.mkdtemp(prefix="criimage-soak-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            metrics = f"127.0.0.1:{free_port()}"
            (folder / "config.toml").write_text(f'{config}\n[metrics]\naddress = "{metrics}"\n')
            server = Server(backend, folder, metrics, frozenset(needs))
            server.start()
            stack.callback(server.stop)
            made.servers.append(server)
        yield made


def _prepared(backend: str, made: Node, stack: ExitStack) -> tuple[str, set[str]]:
    if backend == "containers-storage":
        return store_config(stack.enter_context(store())), {"registry"}
    if backend == "docker":
        made.engine = stack.enter_context(engine(Kind.DEBIAN12))
        return f'backend = "docker"\n[backends.docker]\nhost = {json.dumps(made.engine.host)}', {"registry", "engine"}
    made.runtime = stack.enter_context(containerd())
    endpoint = json.dumps(made.runtime.endpoint)
    return f'backend = "cri"\n[backends.cri]\nendpoint = {endpoint}', {"registry", "runtime"}


def _listens(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(place)) == 0


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

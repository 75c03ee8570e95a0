"""Writes the published reports: `python -m conformance.reports FOLDER [NAME ...]`, called in the folder `tests`.

For each service `NAME.html`, what `criimage conformance` found; for our backends also `NAME.txt`, where they stand on
the scale for backends (docs/writing-a-backend.md), by that run and by one of the suite for backends.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from parts.containerd import containerd
from parts.criimage_process import criimage, restarting, store_config
from parts.engine import Kind, engine
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@dataclass(frozen=True, slots=True)
class Running:
    """A service.

    Attributes:
        endpoint: its socket.
        restart: a command that restarts it; empty for none.
    """

    endpoint: str
    restart: str = ""


@contextlib.contextmanager
def _serving(config: str) -> Iterator[Running]:
    with criimage(config) as server, restarting(server) as restart:
        yield Running(server.endpoint, restart)


@contextlib.contextmanager
def _memory() -> Iterator[Running]:
    with _serving('backend = "memory"\n[backends.memory]\nregistry = "127.0.0.1:5000"\n') as running:
        yield running


@contextlib.contextmanager
def _containers_storage() -> Iterator[Running]:
    with store(registries=insecure_registries("127.0.0.1")) as images, _serving(store_config(images)) as running:
        yield running


@contextlib.contextmanager
def _docker(kind: Kind) -> Iterator[Running]:
    with (
        engine(kind) as daemon,
        _serving(f'backend = "docker"\n[backends.docker]\nhost = "unix://{daemon.socket}"\n') as running,
    ):
        yield running


@contextlib.contextmanager
def _cri() -> Iterator[Running]:
    with (
        containerd() as runtime,
        _serving(f'backend = "cri"\n[backends.cri]\nendpoint = "{runtime.endpoint}"\n') as running,
    ):
        yield running


@contextlib.contextmanager
def _containerd() -> Iterator[Running]:
    with containerd() as runtime:
        yield Running(runtime.endpoint)


@dataclass(frozen=True, slots=True)
class Service:
    """What is reported of.

    Attributes:
        running: starts it.
        arguments: of `criimage conformance`.
        contract: of pytest, for the suite for backends; empty where that is not ours to run.
        backend: its name, where the report has another.
    """

    running: Callable[[], AbstractContextManager[Running]]
    arguments: tuple[str, ...] = ()
    contract: tuple[str, ...] = ()
    backend: str = ""


SERVICES = {
    "memory": Service(
        _memory, ("--known", "criimage-memory"), ("contract/test_memory.py", "-k", "TestMemoryWithARegistry")
    ),
    "containers-storage": Service(_containers_storage, (), ("contract/test_containers_storage.py",)),
    "docker": Service(
        partial(_docker, Kind.DEBIAN12),
        ("--known", "criimage-docker"),
        ("docker/test_conformance.py", "-k", "debian12 and not uncached"),
    ),
    "docker-containerd-store": Service(
        partial(_docker, Kind.DEBIAN13_CONTAINERD),
        ("--known", "criimage-docker-containerd-store"),
        ("docker/test_conformance.py", "-k", "debian13-containerd and not uncached"),
        "docker",
    ),
    "cri": Service(_cri, ("--known", "criimage-cri"), ("cri_backend/test_conformance.py",)),
    "containerd": Service(_containerd, ("--hostile", "--known", "containerd-1.6")),
}
"""By the name of the report."""

TESTS = Path(__file__).parents[1]

MOST_SECONDS = 240.0
"""What a run against any service is promised to take at most; one that takes longer is ended, and is no report."""


def report(name: str, folder: Path) -> str:
    """Write the report of one service into a folder, and return where it stands on the scale, if it is ours.

    Raises:
        subprocess.TimeoutExpired: the command took longer than it may.
    """
    service = SERVICES[name]
    page, wire, contract = (folder / f"{name}.{form}" for form in ("html", "json", "xml"))
    with service.running() as running:
        command = [sys.executable, "-m", "criimage", "conformance", "--endpoint", running.endpoint, *service.arguments]
        command += ["--restart", running.restart] if running.restart else []
        subprocess.run([*command, "--html", str(page), "--json", str(wire)], check=False, timeout=MOST_SECONDS)
    # Where it lay says nothing to anybody.
    place = str(Path(running.endpoint.removeprefix("unix://")).parent)
    page.write_text(page.read_text("utf-8").replace(place, "/FOLDER"), "utf-8")
    if not service.contract:
        return ""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *service.contract]
    subprocess.run([*command, "--junit-xml", str(contract)], cwd=TESTS, check=False)
    command = [sys.executable, "-m", "criimage.testing.scale", service.backend or name]
    command += ["--contract", str(contract), "--wire", str(wire)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout


def main(folder: Path, names: list[str]) -> None:
    """Write a report of each service, or of those that are named."""
    for name in names or list(SERVICES):
        print(name, flush=True)  # noqa: T201 - it is a command
        with tempfile.TemporaryDirectory() as place:
            scale = report(name, Path(place))
            (folder / f"{name}.html").write_bytes((Path(place) / f"{name}.html").read_bytes())
        if scale:
            (folder / f"{name}.txt").write_text(f"{datetime.now(UTC):%Y-%m-%d}\n{scale}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])

"""Writes the published reports: `python -m conformance.reports FOLDER [NAME ...]`, called in the folder `tests`."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from parts.containerd import containerd
from parts.criimage_process import criimage, store_config
from parts.engine import Kind, engine
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@contextlib.contextmanager
def _memory() -> Iterator[str]:
    with criimage('backend = "memory"\n[backends.memory]\nregistry = "127.0.0.1:5000"\n') as server:
        yield server.endpoint


@contextlib.contextmanager
def _containers_storage() -> Iterator[str]:
    with store(registries=insecure_registries("127.0.0.1")) as images, criimage(store_config(images)) as server:
        yield server.endpoint


@contextlib.contextmanager
def _docker() -> Iterator[str]:
    with engine(Kind.DEBIAN12) as running:
        config = f'backend = "docker"\n[backends.docker]\nhost = "unix://{running.socket}"\n'
        with criimage(config) as server:
            yield server.endpoint


@contextlib.contextmanager
def _cri() -> Iterator[str]:
    with containerd() as runtime:
        config = f'backend = "cri"\n[backends.cri]\nendpoint = "{runtime.endpoint}"\n'
        with criimage(config) as server:
            yield server.endpoint


@contextlib.contextmanager
def _containerd() -> Iterator[str]:
    with containerd() as runtime:
        yield runtime.endpoint


SERVICES: dict[str, tuple[Callable[[], AbstractContextManager[str]], tuple[str, ...]]] = {
    "memory": (_memory, ()),
    "containers-storage": (_containers_storage, ()),
    "docker": (_docker, ("--known", "criimage-docker")),
    "cri": (_cri, ("--known", "criimage-cri")),
    "containerd": (_containerd, ("--hostile", "--known", "containerd-1.6")),
}
"""By the name of the report: what runs the service, and arguments of the command."""


def main(folder: Path, names: list[str]) -> None:
    """Write a report of each service, or of those that are named."""
    for name in names or list(SERVICES):
        serving, arguments = SERVICES[name]
        with serving() as endpoint:
            command = [sys.executable, "-m", "criimage", "conformance", "--endpoint", endpoint, *arguments]
            print(name, flush=True)  # noqa: T201 - it is a command
            subprocess.run([*command, "--html", str(folder / f"{name}.html")], check=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])

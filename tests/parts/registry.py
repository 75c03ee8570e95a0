"""A real registry: Docker's own `docker-registry`, in a folder of its own on a port of its own."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import secrets
import shutil
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criimage.testing.certificates import Certificates
from criimage.testing.registry_client import RegistryClient
from parts.child import Child, StartError, child, free_port
from parts.missing import need
from parts.password_file import bcrypt_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from criimage.testing.oci import Image, Index

_MARK = "nobodys-"
_LOG_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry.

    Attributes:
        port: of 127.0.0.1.
        folder: its configuration, storage and log.
        process: the child process, for tests that stop (SIGSTOP) or kill it.
        username: who may use it; anybody if empty.
        password: with which password.
        ca_folder: a folder with `ca.crt` as `--src-cert-dir` wants it, None for plain HTTP.
    """

    port: int
    folder: Path
    process: Child
    username: str = ""
    password: str = field(default="", repr=False)
    ca_folder: Path | None = None

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`, the first part of its images' names."""
        return f"127.0.0.1:{self.port}"

    @property
    def client(self) -> RegistryClient:
        """Somebody who may push to it."""
        tls = ssl.create_default_context(cafile=str(self.ca_folder / "ca.crt")) if self.ca_folder else None
        return RegistryClient(self.address, self.username, self.password, tls)

    def push(self, item: Image | Index, repository: str, *tags: str) -> str:
        """Pushes an image.

        Args:
            item: what to push.
            repository: the path below the address.
            tags: its names there; `latest` if none is given.

        Returns:
            the image's name at the first tag, such as `127.0.0.1:5000/team/app:latest`.
        """
        tags = tags or ("latest",)
        self.client.push(item, repository, *tags)
        return f"{self.address}/{repository}:{tags[0]}"

    def requests(self) -> list[str]:
        """`METHOD path` of every request so far, without queries, from its access log, the oldest first.

        The log may be behind the answers: one more request is made, and waited for in it.
        """
        mark = f"{_MARK}{secrets.token_hex(8)}"
        self.client.tags(mark)
        self.process.wait_until(lambda: f"/{mark}/" in self.process.log_text(), seconds=_LOG_SECONDS)
        quoted = (line.split('"') for line in self.process.log_text().splitlines() if line.startswith("127.0.0.1 - "))
        found = [" ".join(parts[1].split()[:2]).partition("?")[0] for parts in quoted if len(parts) > 1]
        return [one for one in found if f"/{_MARK}" not in one]


@contextlib.contextmanager
def registry(
    *, port: int = 0, username: str = "", password: str = "", tls: bool = False, seconds: float = 45.0
) -> Iterator[Registry]:
    """Runs a registry until the block is left; it may delete, and everything it had is gone afterwards.

    Args:
        port: of 127.0.0.1; a free one if 0.
        username: asks for basic authentication if not empty.
        password: the password then.
        tls: whether it speaks HTTPS, with a certificate for 127.0.0.1 and localhost by a CA of its own.
        seconds: how long it may take to answer.

    Yields:
        the registry, which answers already.

    Raises:
        StartError: it did not start.
    """
    need("docker-registry", *(["openssl"] if tls else []))
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="criimage-registry-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if username:
            (folder / "htpasswd").write_text(bcrypt_line(username, password) + "\n")
        ca_folder = Certificates.make(folder).ca_folder if tls else None
        # Somebody else may take the free port before the registry does: then another one is tried.
        for attempts_left in (0,) if port else (2, 1, 0):
            chosen = port or free_port()
            config = folder / "config.yml"
            config.write_text(json.dumps(_config(folder, chosen, authenticated=bool(username), tls=tls)))
            command = ("docker-registry", "serve", str(config))
            process = stack.enter_context(child("docker-registry", command, folder / "log"))
            started = Registry(chosen, folder, process, username, password, ca_folder)
            try:
                process.wait_until(functools.partial(_answers, started.client), seconds=seconds)
            except StartError:
                if not attempts_left or "address already in use" not in process.log_text():
                    raise
            else:
                yield started
                return


def _answers(client: RegistryClient) -> bool:
    connection = (
        http.client.HTTPSConnection(client.address, timeout=1, context=client.tls)
        if client.tls
        else http.client.HTTPConnection(client.address, timeout=1)
    )
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in {http.HTTPStatus.OK, http.HTTPStatus.UNAUTHORIZED}
        except OSError:
            return False


def _config(folder: Path, port: int, *, authenticated: bool, tls: bool) -> dict[str, Any]:
    # JSON is YAML, which the standard library does not write.
    listen: dict[str, Any] = {"addr": f"127.0.0.1:{port}"}
    if tls:
        listen["tls"] = {"certificate": str(folder / "server.crt"), "key": str(folder / "server.key")}
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "storage")},
            "delete": {"enabled": True},
            # Several pushes of the same layer at once are usual in tests; the purge of old uploads only costs time.
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": listen,
    }
    if authenticated:
        config["auth"] = {"htpasswd": {"realm": "criimage tests", "path": str(folder / "htpasswd")}}
    return config

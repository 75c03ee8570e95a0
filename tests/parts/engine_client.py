"""What somebody else does with a real Docker engine, over its API: as `docker` at a shell would, and never as we do."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import json
import socket
import tarfile
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from criimage.testing.oci import layer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SAFE = "/:@"
_CLEAR_SECONDS = 60.0


class EngineClient(ABC):
    """The calls of another client of the engine that listens on `socket`."""

    __slots__ = ()

    @property
    @abstractmethod
    def socket(self) -> Path:
        """Where the engine listens."""

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        *,
        seconds: float = 60,
    ) -> Reply:
        """One request, as any other client would send it.

        Args:
            method: of HTTP.
            path: with its version or without any, escaped.
            query: the parameters.
            body: sent as JSON, or as it is if it is bytes.
            seconds: how long to wait at most.
        """
        connection = _UnixConnection(self.socket, seconds)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json", "X-Registry-Auth": "e30K"}
            text = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path + (f"?{urlencode(query)}" if query else ""), text, headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read().decode("utf-8", "replace"))

    def ask_bytes(self, method: str, path: str) -> bytes:
        """One request whose answer is no text, such as a saved image."""
        with contextlib.closing(_UnixConnection(self.socket, 60)) as connection:
            connection.request(method, path)
            return connection.getresponse().read()

    def pull(self, name: str, tag: str) -> str:
        """Pulls an image as another client, and returns the stream's text."""
        reply = self.ask("POST", "/images/create", {"fromImage": name, "tag": tag})
        assert reply.status == http.client.OK, reply.text
        return reply.text

    def tag(self, image: str, repository: str, tag: str) -> None:
        """Gives an image another name as another client."""
        query = {"repo": repository, "tag": tag}
        reply = self.ask("POST", f"/images/{quote(image, safe=_SAFE)}/tag", query)
        assert reply.status == http.client.CREATED, reply.text

    def delete(self, image: str, *, force: bool = False) -> None:
        """Deletes an image or one of its names as another client."""
        reply = self.ask("DELETE", f"/images/{quote(image, safe=_SAFE)}", {"force": "1" if force else "0"})
        assert reply.status == http.client.OK, reply.text

    def import_untagged(self, text: str) -> str:
        """Makes an image without any name, as a build without `-t` leaves it, and returns its ID."""
        data = gzip.decompress(layer({"text": text.encode()}).data)
        made: str = self.ask("POST", "/images/create", {"fromSrc": "-"}, data).json()["status"]
        return made

    def hold(self, image: str, name: str) -> None:
        """Makes a container of an image without starting it: the image is in use then."""
        reply = self.ask("POST", "/containers/create", {"name": name}, {"Image": image, "Cmd": ["nothing"]})
        assert reply.status == http.client.CREATED, reply.text

    def build(self, base: str, *labels: str, name: str = "") -> str:
        """Builds an image with one layer of nothing for each label, and returns its ID.

        Args:
            base: an image that is here.
            labels: `key=value`; several leave nameless parents behind.
            name: its tag; none if empty.
        """
        text = "\n".join([f"FROM {base}", *(f"LABEL {label}" for label in labels)]).encode()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
        reply = self.ask("POST", "/build", {"t": name} if name else {}, packed.getvalue())
        made = [json.loads(line).get("aux", {}).get("ID") for line in reply.text.splitlines() if line.strip()]
        assert any(made), reply.text
        return str(next(one for one in made if one))

    def commit(self, container: str, name: str = "") -> str:
        """Makes an image of a container, and returns its ID.

        Args:
            container: its name.
            name: `repository:tag` for the image; none if empty.
        """
        repository, _, tag = name.partition(":")
        query = {"container": container} | ({"repo": repository, "tag": tag} if name else {})
        reply = self.ask("POST", "/commit", query, {})
        assert reply.status == http.client.CREATED, reply.text
        made: str = reply.json()["Id"]
        return made

    def prune(self, *, all_unused: bool = True) -> None:
        """Deletes the images that no container uses, or of these only the nameless ones."""
        filters = json.dumps({"dangling": ["false" if all_unused else "true"]})
        reply = self.ask("POST", "/images/prune", {"filters": filters})
        assert reply.status == http.client.OK, reply.text

    def push(self, repository: str, tag: str) -> None:
        """Pushes an image as another client."""
        reply = self.ask("POST", f"/images/{quote(repository, safe=_SAFE)}/push", {"tag": tag})
        assert reply.status == http.client.OK, reply.text
        assert '"error"' not in reply.text, reply.text

    def inspect(self, image: str) -> dict[str, Any] | None:
        """What it knows of an image, or None."""
        reply = self.ask("GET", f"/images/{quote(image, safe=_SAFE)}/json")
        if reply.status == http.client.NOT_FOUND:
            return None
        assert reply.status == http.client.OK, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def containers(self) -> list[str]:
        """The names of all containers."""
        return sorted(
            one["Names"][0].removeprefix("/") for one in self.ask("GET", "/containers/json", {"all": "1"}).json()
        )

    def images(self) -> list[dict[str, Any]]:
        """What its list of images says."""
        found: list[dict[str, Any]] = self.ask("GET", "/images/json").json()
        return found

    def clear(self) -> None:
        """Deletes every container and every image."""
        end, left = time.monotonic() + _CLEAR_SECONDS, [object()]
        # Images that others were built on come out in a later round, and those of containers that are still going.
        while left:
            for one in self.ask("GET", "/containers/json", {"all": "1"}).json():
                self.ask("DELETE", f"/containers/{one['Id']}", {"force": "1"})
            left = self.ask("GET", "/images/json", {"all": "1"}).json()
            for one in left:
                self.ask("DELETE", f"/images/{one['Id']}", {"force": "1"})
            assert time.monotonic() < end, f"images cannot be deleted: {left}"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the engine answered.

    Attributes:
        status: of HTTP.
        text: the body.
    """

    status: int
    text: str

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """The body as JSON."""
        return json.loads(self.text)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("engine", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

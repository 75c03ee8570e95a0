"""Pushes images of `criimage.testing.oci` to a registry and reads from one, with the standard library only."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import socket
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from criimage import foreign_json
from criimage.testing.oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Blob, Image, Index

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

_ACCEPT = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"}

_PARAMETER = re.compile(r'([a-z]+)="([^"]*)"')


class RegistryError(RuntimeError):
    """The registry answered something else than was asked for.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, method: str, path: str, status: int, body: bytes) -> None:
        super().__init__(f"{method} {path}: HTTP {status}: {body[:500].decode(errors='replace')}")
        self.status = status


@dataclass(frozen=True, slots=True)
class RegistryClient:
    """One registry, seen by somebody who pushes to it.

    The calls block: from a coroutine, use a thread.

    Attributes:
        address: `HOST:PORT`.
        username: for basic authentication; none if empty.
        password: its password.
        tls: for HTTPS; plain HTTP if None.
        timeout: seconds that one request may wait for the next byte.
    """

    address: str
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    timeout: float = 30.0
    _live: set[http.client.HTTPConnection] = field(init=False, default_factory=set, repr=False, compare=False)
    _tokens: dict[str, str] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __hash__(self) -> int:
        return hash(self.address)

    def abort(self) -> None:
        """End every request that is under way; its caller gets an OSError. May be called from any thread."""
        for connection in tuple(self._live):
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def manifest(self, repository: str, name: str) -> Blob:
        """Read the manifest or index of a tag or digest; its digest is that of the bytes that came.

        Raises:
            RegistryError: the registry refused or does not have it.
            OSError: it could not be reached.
        """
        path = f"/v2/{repository}/manifests/{name}"
        headers, body = self._get(repository, path, _ACCEPT)
        return Blob.of(headers.get("Content-Type", "").partition(";")[0].strip(), body)

    def blob(self, repository: str, digest: str) -> bytes:
        """Read a config or layer; whoever calls compares the digest.

        Raises:
            RegistryError: the registry refused or does not have it.
            OSError: it could not be reached.
        """
        return self._get(repository, f"/v2/{repository}/blobs/{digest}", {})[1]

    def _get(self, repository: str, path: str, headers: Mapping[str, str]) -> tuple[http.client.HTTPMessage, bytes]:
        with self._connection() as connection:
            # As clients do it: without the secret first, so that a registry which asks for none is sent none.
            known = self._tokens.get(repository, "")
            status, answer, body = self._ask(connection, "GET", path, headers=headers, authorization=known)
            if status == http.HTTPStatus.UNAUTHORIZED and not known:
                authorization = self._authorization(repository, answer.get("WWW-Authenticate", ""))
                self._tokens[repository] = authorization
                status, answer, body = self._ask(connection, "GET", path, headers=headers, authorization=authorization)
            _expect("GET", path, status, body, http.HTTPStatus.OK)
            return answer, body

    def _authorization(self, repository: str, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        if kind.lower() != "bearer":
            return self._basic()
        asked = dict(_PARAMETER.findall(rest))
        try:
            realm = urllib.parse.urlsplit(asked.get("realm", ""))
        except ValueError:
            raise RegistryError(
                "GET", "", http.HTTPStatus.UNAUTHORIZED, b"a token service without an address"
            ) from None
        query = urllib.parse.urlencode({"service": asked.get("service", ""), "scope": f"repository:{repository}:pull"})
        # A realm elsewhere would get the password.
        if realm.netloc != self.address:
            raise RegistryError("GET", realm.path, http.HTTPStatus.UNAUTHORIZED, b"a token service on another host")
        with self._connection() as connection:
            path = f"{realm.path}?{query}"
            status, _, body = self._ask(connection, "GET", path, authorization=self._basic())
            _expect("GET", realm.path, status, body, http.HTTPStatus.OK)
        try:
            answer = foreign_json.parse_object(body)
        except ValueError:
            answer = {}
        token = answer.get("token") or answer.get("access_token")
        # In a header other characters would be an error of its sender.
        if not (isinstance(token, str) and token.isascii() and token.isprintable()):
            raise RegistryError("GET", realm.path, http.HTTPStatus.UNAUTHORIZED, b"a token service that sends no token")
        return f"Bearer {token}"

    def _basic(self) -> str:
        if not self.username:
            return ""
        return (
            "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode("utf-8", "surrogateescape")).decode()
        )

    def push(self, item: Image | Index, repository: str, *tags: str) -> str:
        """Pushes an image or an index, whatever it refers to first.

        Blobs and manifests that the registry has already are not sent again.

        Args:
            item: what to push.
            repository: the path below the registry's address, such as `team/app`.
            tags: what to call it; without any it is reachable by digest only.

        Returns:
            its digest, `sha256:` and 64 hex digits.

        Raises:
            RegistryError: the registry refused.
            OSError: it could not be reached.
        """
        with self._connection() as connection:
            for image in item.images if isinstance(item, Index) else (item,):
                for blob in (*(Blob("", one.data, one.digest) for one in image.layers), image.config):
                    self._push_blob(connection, repository, blob)
                self._push_manifest(connection, repository, image.manifest, image.digest)
            for name in (item.digest, *tags):
                self._push_manifest(connection, repository, item.manifest, name)
        return item.digest

    def digest(self, repository: str, name: str) -> str | None:
        """The digest that the registry answers for a tag or digest, None if there is none.

        Raises:
            RegistryError: the registry refused.
        """
        with self._connection() as connection:
            path = f"/v2/{repository}/manifests/{name}"
            status, headers, body = self._ask(connection, "HEAD", path, headers=_ACCEPT)
            if status == http.HTTPStatus.NOT_FOUND:
                return None
            _expect("HEAD", path, status, body, http.HTTPStatus.OK)
            return headers["Docker-Content-Digest"]

    def tags(self, repository: str) -> tuple[str, ...]:
        """The repository's tags, sorted; none for an unknown repository.

        Raises:
            RegistryError: the registry refused.
        """
        with self._connection() as connection:
            path = f"/v2/{repository}/tags/list"
            status, _, body = self._ask(connection, "GET", path)
            if status == http.HTTPStatus.NOT_FOUND:
                return ()
            _expect("GET", path, status, body, http.HTTPStatus.OK)
            return tuple(sorted(json.loads(body)["tags"] or ()))

    def delete(self, repository: str, digest: str) -> None:
        """Deletes a manifest with all its tags; blobs stay until the registry collects its garbage.

        Raises:
            RegistryError: the registry refused, does not know the digest, or has deletion turned off.
        """
        with self._connection() as connection:
            path = f"/v2/{repository}/manifests/{digest}"
            status, _, body = self._ask(connection, "DELETE", path)
            _expect("DELETE", path, status, body, http.HTTPStatus.ACCEPTED)

    def _push_blob(self, connection: http.client.HTTPConnection, repository: str, blob: Blob) -> None:
        status, _, _ = self._ask(connection, "HEAD", f"/v2/{repository}/blobs/{blob.digest}")
        if status == http.HTTPStatus.OK:
            return
        path = f"/v2/{repository}/blobs/uploads/"
        status, headers, body = self._ask(connection, "POST", path)
        _expect("POST", path, status, body, http.HTTPStatus.ACCEPTED)
        place = urllib.parse.urlsplit(headers["Location"])
        query = f"{place.query}&digest={blob.digest}" if place.query else f"digest={blob.digest}"
        content = {"Content-Type": "application/octet-stream"}
        status, _, body = self._ask(connection, "PUT", f"{place.path}?{query}", blob.data, content)
        _expect("PUT", place.path, status, body, http.HTTPStatus.CREATED)

    def _push_manifest(
        self, connection: http.client.HTTPConnection, repository: str, manifest: Blob, name: str
    ) -> None:
        path = f"/v2/{repository}/manifests/{name}"
        status, headers, _ = self._ask(connection, "HEAD", path, headers=_ACCEPT)
        if status == http.HTTPStatus.OK and headers.get("Docker-Content-Digest") == manifest.digest:
            return
        status, _, body = self._ask(connection, "PUT", path, manifest.data, {"Content-Type": manifest.media_type})
        _expect("PUT", path, status, body, http.HTTPStatus.CREATED)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        sent = dict(headers or {})
        secret = self._basic() if authorization is None else authorization
        if secret:
            sent["Authorization"] = secret
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        # Read to the end, or the connection cannot carry the next request.
        return answer.status, answer.headers, answer.read()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = (
            http.client.HTTPSConnection(self.address, timeout=self.timeout, context=self.tls)
            if self.tls
            else http.client.HTTPConnection(self.address, timeout=self.timeout)
        )
        self._live.add(connection)
        try:
            with contextlib.closing(connection):
                yield connection
        finally:
            self._live.discard(connection)


def _expect(method: str, path: str, status: int, body: bytes, wanted: int) -> None:
    if status != wanted:
        raise RegistryError(method, path, status, body)

"""What a proxy between engine and registry does to a pull (issue 10.7), and what an engine may ask of us (10.9)."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from containers_storage.nobody import nobody
from criimage.errors import PullError, RegistryUnavailable
from criimage.testing.oci import image, layer
from parts.docker_backend import docker_backend, following, pull, remove, status
from parts.engine import KINDS, Kind, engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from parts.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


class Proxy:
    """Answers everything with one answer.

    Attributes:
        answer: bytes; nothing to close the connection at once.
        asked: the first line of each request.
        port: of 127.0.0.1.
    """

    def __init__(self) -> None:
        self.answer = b""
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head.decode("latin-1").partition("\r\n")[0])
            writer.write(self.answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def proxy() -> AsyncIterator[Proxy]:
    made = Proxy()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def status_line(code: int, reason: str) -> bytes:
    """An answer with a page, as proxies give it."""
    page = b"<!DOCTYPE html><html><body>proxy</body></html>"
    head = f"HTTP/1.1 {code} {reason}\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n\r\n"
    return head.encode() + page


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
async def test_a_proxy_that_cannot_serve(kind: Kind) -> None:
    """Issue 10.7: 502, 503, 504 and broken connections of a proxy mean that the registry is unavailable.

    For a tunnel to an HTTPS registry and for a plain one, in one line without HTML, the same each time.
    """
    async with proxy() as between:
        address = f"http://127.0.0.1:{between.port}"
        variables = {"HTTP_PROXY": address, "HTTPS_PROXY": address, "http_proxy": address, "https_proxy": address}
        options = ["--insecure-registry=plain.test:5000"]
        hosts = "127.0.0.1 localhost\n192.0.2.1 plain.test secure.test\n"
        with engine(kind, options=options, hosts=hosts, environment=variables) as docker:
            async with docker_backend(docker.host, cache=False) as backend:
                told = {}
                for code, reason in ((502, "Bad Gateway"), (503, "Service Unavailable"), (504, "Gateway Timeout")):
                    between.answer = status_line(code, reason)
                    for name in ("secure.test/a/b:1", "plain.test:5000/a/b:1"):
                        with pytest.raises(PullError) as failed:
                            await pull(backend, name)
                        told[name, code] = failed.value
                between.answer = b""
                for name in ("secure.test/a/b:1", "plain.test:5000/a/b:1"):
                    with pytest.raises(PullError) as failed:
                        await pull(backend, name)
                    told[name, 0] = failed.value

    assert between.asked
    wrong = {
        key: f"{type(one).__name__}: {one.text}" for key, one in told.items() if type(one) is not RegistryUnavailable
    }
    assert wrong == {}
    assert all("<" not in one.text for one in told.values())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
async def test_a_proxy_that_is_not_there(kind: Kind) -> None:
    """Issue 10.7: nobody listens where the proxy should be: unavailable; the proxy is named as the engine does."""
    hosts = "127.0.0.1 localhost\n192.0.2.1 secure.test\n"
    with nobody() as address, engine(kind, hosts=hosts, environment={"HTTPS_PROXY": f"http://{address}"}) as docker:
        async with docker_backend(docker.host, cache=False) as backend:
            with pytest.raises(RegistryUnavailable, match=rf"proxyconnect.*{re.escape(address)}"):
                await pull(backend, "secure.test/a/b:1")


@pytest.mark.parametrize("kind", KINDS[-1:], ids=lambda kind: kind.value)
async def test_an_engine_with_a_newer_least_version(kind: Kind, hub: Registry) -> None:
    """Issue 10.9: an engine that refuses what is older than API 1.44, as 29.0 does, is spoken to all the same."""
    name = hub.push(image(layer({"for": b"least version"})), "least/version", "1")
    with engine(kind, environment={"DOCKER_MIN_API_VERSION": "1.44"}) as docker:
        refused = docker.ask("GET", "/v1.43/images/json")
        async with docker_backend(docker.host) as backend:
            await following(backend)
            pulled = await pull(backend, name)
            found = await status(backend, name)
            await remove(backend, name)
            left = await backend.images()

    assert refused.status == 400
    assert found is not None
    assert found.image == pulled
    assert left == ()

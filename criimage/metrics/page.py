"""Serves `/metrics` over HTTP/1, and nothing else: one page, a few clients at once, each with little time.

prometheus-client's own server has a thread for each connection, no limit of any kind, and answers at every path.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from criimage.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from prometheus_client import CollectorRegistry

    from criimage.metrics import PrometheusMetrics

__all__ = ["check_address", "serve_metrics"]

CLIENTS_LIMIT = 16
CLIENT_SECONDS = 10.0
"""A client that has not asked and taken its answer by then is cut off."""
REQUEST_LIMIT = 16 * 2**10
"""Longest head of a request in bytes."""

_PLAIN = "text/plain; charset=utf-8"


def check_address(address: str) -> None:
    """See whether this machine has the address, whoever may have the port at the moment. Blocks; may ask DNS.

    Raises:
        ConfigurationError: it has not.
    """
    host, _, port = address.rpartition(":")
    try:
        for family, kind, _, _, place in socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind) as tried:
                tried.bind((place[0], 0, *place[2:]))
    except (OSError, ValueError) as error:
        raise _unusable(address, error) from error


@asynccontextmanager
async def serve_metrics(address: str, metrics: PrometheusMetrics) -> AsyncIterator[None]:
    """Serve `metrics` at `http://ADDRESS/metrics` until the block is left.

    Args:
        address: `HOST:PORT`; an IPv6 host in brackets.
        metrics: what to serve.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    host, _, port = address.rpartition(":")
    page = _Page(metrics)
    try:
        server = await asyncio.start_server(page.serve, host.strip("[]"), int(port), limit=REQUEST_LIMIT)
    except (OSError, ValueError, OverflowError) as error:
        raise _unusable(address, error) from error
    try:
        yield
    finally:
        server.close()
        page.close()
        await server.wait_closed()


def _unusable(address: str, error: Exception) -> ConfigurationError:
    reason = getattr(error, "strerror", None) or error
    return ConfigurationError(f"metrics cannot be served at {address}: {reason}", ("metrics", "address"))


class _Page:
    def __init__(self, metrics: PrometheusMetrics) -> None:
        self._metrics = metrics
        self._clients: set[asyncio.StreamWriter] = set()

    def close(self) -> None:
        for client in self._clients:
            client.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= CLIENTS_LIMIT:
            writer.write(_answer("503 Service Unavailable", _PLAIN, b"too many clients\n"))
            writer.close()
            return
        self._clients.add(writer)
        try:
            async with asyncio.timeout(CLIENT_SECONDS):
                writer.write(await self._answer(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass
        finally:
            # Whatever went wrong: before Python 3.11.7 nobody closes the connection of a handler that has failed.
            writer.transport.abort()
            self._clients.discard(writer)

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _answer("431 Request Header Fields Too Large", _PLAIN, b"the request is too long\n")
        except asyncio.IncompleteReadError:
            return b""
        lines = head.decode("latin-1").split("\r\n")
        method, _, rest = lines[0].partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if path != "/metrics":
            return _answer("404 Not Found", _PLAIN, b"see /metrics\n")
        if method not in {"GET", "HEAD"}:
            return _answer("405 Method Not Allowed", _PLAIN, b"GET is all there is\n")
        content_type, body = await self._page(_accepted(lines))
        return _answer("200 OK", content_type, body, bodyless=method == "HEAD")

    async def _page(self, accept: str) -> tuple[str, bytes]:
        encode, content_type = _encoder(accept)
        return content_type, await asyncio.to_thread(encode, self._metrics.registry)


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    from prometheus_client.exposition import choose_encoder

    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        # Of a version that is no number (0.26).
        return choose_encoder("")


def _accepted(lines: list[str]) -> str:
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "accept":
            return value.strip()
    return ""


def _answer(status: str, content_type: str, body: bytes, *, bodyless: bool = False) -> bytes:
    lines = f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", "Connection: close"
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if bodyless else body)

"""Serves `/metrics` over HTTP/1, and nothing else: one page, a few clients at once, each with little time.

prometheus-client's own server has a thread for each connection, no limit of any kind, and answers at every path.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

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

_PROBE_SECONDS = 2.0
_PROBE_LIMIT = 2**20
_OURS = b"criimage_build_info"

_PLAIN = "text/plain; charset=utf-8"


def check_address(address: str, *, running: bool) -> None:
    """See whether metrics can be served at an address. Blocks for two seconds at most; may ask DNS.

    Args:
        address: as `serve_metrics` takes it.
        running: whether a criimage may run here: then its page at this address is no fault.

    Raises:
        ConfigurationError: this machine does not have the address, or another process has the port.
    """
    host, _, port = address.rpartition(":")
    try:
        for family, kind, _, _, place in socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind) as tried:
                tried.bind((place[0], 0, *place[2:]))
            with socket.socket(family, kind) as tried:
                # As asyncio does. Who only binds is in nobody's way.
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    tried.bind(place)
                except PermissionError:
                    continue  # a low port: whoever asks may be another user than the service has
                except OSError as error:
                    if error.errno != errno.EADDRINUSE or not (running and _is_ours(family, place)):
                        raise
    except (OSError, ValueError) as error:
        raise _unusable(address, error) from error


def _is_ours(family: socket.AddressFamily, place: tuple[Any, ...]) -> bool:
    """Tell whether the page of a criimage is there."""
    content = b""
    end = time.monotonic() + _PROBE_SECONDS
    try:
        with socket.socket(family, socket.SOCK_STREAM) as asking:
            asking.settimeout(_PROBE_SECONDS)
            asking.connect(place)
            asking.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            while len(content) < _PROBE_LIMIT and (left := end - time.monotonic()) > 0:
                asking.settimeout(left)
                piece = asking.recv(_PROBE_LIMIT)
                content += piece
                if not piece or _OURS in content:
                    break
    except OSError:
        pass
    return _OURS in content


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

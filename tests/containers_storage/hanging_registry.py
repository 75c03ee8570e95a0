"""A registry in this process that can stop in the middle of a layer, or answer what it likes."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from criimage.testing.oci import Image


@dataclass(slots=True)
class HangingRegistry:
    """Serves one image under every name, plain HTTP.

    Attributes:
        image: what it serves.
        hang_after: bytes of each layer that it sends before it stops; None for never.
        status: answers every manifest request with this HTTP status if not 0.
        body: with this text.
        cut: closes the connection in place of hanging.
        corrupt: sends zeros in place of layers.
        reached: set when it hangs.
        port: of 127.0.0.1.
    """

    image: Image
    hang_after: int | None = None
    status: int = 0
    body: bytes = b""
    cut: bool = False
    corrupt: bool = False
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answers one request."""
        path = request.path
        blobs = {one.digest: one.data for one in self.image.layers}
        blobs[self.image.config.digest] = self.image.config.data
        status, body, kind = 200, b"{}", "application/json"
        if "/manifests/" in path:
            body, kind = self.image.manifest.data, self.image.manifest.media_type
            if self.status:
                status, body, kind = self.status, self.body, "text/html"
        elif "/blobs/" in path:
            body, kind = blobs[path.rsplit("/", 1)[1]], "application/octet-stream"
        is_layer = "/blobs/" in path and len(body) > 10_000
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        if status == 200:
            request.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
        request.end_headers()
        if request.command == "HEAD":
            return
        if is_layer and self.corrupt:
            body = bytes(len(body))
        if is_layer and self.hang_after is not None:
            request.wfile.write(body[: self.hang_after])
            request.wfile.flush()
            self.reached.set()
            if not self.cut:
                self.released.wait(60)
            request.close_connection = True
            return
        request.wfile.write(body)


@contextlib.contextmanager
def hanging_registry(registry: HangingRegistry) -> Iterator[HangingRegistry]:
    """Runs it until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                registry.answer(self)

        do_HEAD = do_GET  # noqa: N815 - as the base class names it

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield registry
    finally:
        registry.released.set()
        server.shutdown()
        thread.join()
        server.server_close()

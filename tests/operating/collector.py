"""A collector that takes spans over OTLP/HTTP, in a thread of the test's own."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Collector:
    """What was delivered.

    Attributes:
        endpoint: for the settings.
        bodies: of the requests, as they came.
        paths: that were asked for.
        answers: unset, no request is answered.
        status: of HTTP, of the answers; one but 200 comes with the headers that were sent.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        self.status = 200

    def spans(self) -> list[Any]:
        """Every span so far."""
        return [span for _, span in self._all()]

    def span(self, name: str) -> Any:  # noqa: ANN401 - protobuf
        """The one span of this name."""
        (found,) = (span for span in self.spans() if span.name == name)
        return found

    def resource(self) -> dict[str, str]:
        """What the spans say of their process."""
        resource, _ = next(self._all())
        return attributes(resource)

    def _all(self) -> Iterator[tuple[Any, Any]]:
        for body in list(self.bodies):
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for of_scope in of_resource.scope_spans:
                    for span in of_scope.spans:
                        yield of_resource.resource, span


def attributes(of: Any) -> dict[str, Any]:  # noqa: ANN401 - protobuf
    """Attributes of a span, an event or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


@contextmanager
def collector() -> Iterator[Collector]:
    """Take spans until the block is left."""
    made = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Keep the body; answer when that is wanted."""
            body = self.rfile.read(int(self.headers["content-length"]))
            if made.status == 200:
                made.bodies.append(body)
            made.paths.append(self.path)
            made.answers.wait()
            # Whoever refuses may well say what it got; the exporter tells the words of the status line.
            self.send_response(made.status, None if made.status == 200 else f"refused: {dict(self.headers)}")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    made.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        made.answers.set()
        server.shutdown()
        server.server_close()
        thread.join()

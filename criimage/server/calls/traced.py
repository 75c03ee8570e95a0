"""A span for each call, where somebody wants traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib.const import Status

from criimage import tracing
from criimage.errors import CriimageError
from criimage.server.calls.observe import error_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from criimage.server.calls.connection_calls import Observer
    from criimage.tracing import Span, Traces

__all__ = ["TracedCalls", "begin_span", "end_span"]


def begin_span(traces: Traces, path: str, header: Callable[[str], str]) -> Span:
    """Begin the span of a call (OpenTelemetry's conventions for gRPC)."""
    service, _, method = path[1:200].partition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    return traces.call(f"{service}/{method}", attributes, header)


def end_span(span: Span, status: Status, error: str) -> None:
    """End the span of a call."""
    span.tell({"rpc.grpc.status_code": status.value})
    span.end(error)


class TracedCalls:
    """Makes a span of each call, and tells another observer about it.

    A caller names its trace in a header, so calls that have one take the way on which headers are looked at.

    Args:
        observer: the other one.
        traces: makes the spans.
    """

    reads_headers = frozenset(name.encode() for name in tracing.HEADERS)

    def __init__(self, observer: Observer, traces: Traces) -> None:
        self._observer, self._traces = observer, traces

    def began(self, operation: str, path: str, header: Callable[[str], str]) -> None:
        """Begin a span, which everything belongs to that the call's context does."""
        self._observer.began(operation, path, header)
        tracing.enter(begin_span(self._traces, path, header))

    def ended(self, operation: str, status: Status, error: BaseException | None, seconds: float) -> None:
        """End it."""
        self._observer.ended(operation, status, error, seconds)
        span = tracing.current()
        if span is None:
            return
        kind = error_kind(status, error)
        if kind is not None:
            span.tell({"criimage.error.kind": kind})
        # Texts of our own errors are what the client is told; another's could hold anything.
        told = error.text if isinstance(error, CriimageError) else (kind or "")
        end_span(span, status, "" if status is Status.CANCELLED else told)

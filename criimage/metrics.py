"""Counts and times every call, for Prometheus (cri-o M1, M2; names of our own, `criimage_…`).

prometheus-client is imported only where an address is set. Labels are the backend, the operation and the kind of error:
sets that are known beforehand, so every series is there from the start, at 0. Never an image's name.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from criimage import __version__, errors
from criimage.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Metrics", "NoMetrics", "PrometheusMetrics", "serve_metrics"]

_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300)


class Metrics(Protocol):
    """Takes figures."""

    def observe(self, operation: str, seconds: float, error_kind: str | None) -> None:
        """Count one call of `operation`, and its error if it had one."""


class NoMetrics:
    """Takes figures and drops them: nobody could read them."""

    def observe(self, operation: str, seconds: float, error_kind: str | None) -> None:
        """Do nothing."""


class PrometheusMetrics:
    """Keeps figures in a registry of its own.

    Args:
        backend: value of the label `backend`.
        operations: every operation there is.
        error_kinds: every kind of error there is.
    """

    def __init__(self, backend: str, operations: Iterable[str], error_kinds: Iterable[str]) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram, Info

        self.registry = CollectorRegistry()
        self._backend = backend
        labels = ["backend", "operation"]
        self._total = Counter("criimage_operations", "Calls answered.", labels, registry=self.registry)
        self._errors = Counter(
            "criimage_operations_errors", "Calls that failed, by kind.", [*labels, "kind"], registry=self.registry
        )
        self._seconds = Histogram(
            "criimage_operations_latency_seconds",
            "Time from a call's headers to its status.",
            labels,
            registry=self.registry,
            buckets=_SECONDS,
        )
        Info("criimage_build", "This criimage.", registry=self.registry).info({"version": __version__})
        kinds = tuple(error_kinds)
        for operation in operations:
            self._total.labels(backend, operation)
            self._seconds.labels(backend, operation)
            for kind in kinds:
                self._errors.labels(backend, operation, kind)

    def observe(self, operation: str, seconds: float, error_kind: str | None) -> None:
        """Count one call of `operation`, and its error if it had one."""
        self._total.labels(self._backend, operation).inc()
        self._seconds.labels(self._backend, operation).observe(seconds)
        if error_kind is not None:
            self._errors.labels(self._backend, operation, error_kind).inc()


def error_kinds() -> list[str]:
    """Return every kind that the label `kind` can have."""
    own = {getattr(errors, name).kind for name in errors.__all__}
    return sorted({*own, "cancelled", "deadline", "bad_call", "internal"})


@contextmanager
def serve_metrics(address: str, metrics: PrometheusMetrics) -> Iterator[None]:
    """Serve `metrics` at `http://ADDRESS/metrics` from a thread of its own.

    Args:
        address: `HOST:PORT`; an IPv6 host in brackets.
        metrics: what to serve.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    from prometheus_client import start_http_server

    host, _, port = address.rpartition(":")
    try:
        server, thread = start_http_server(int(port), addr=host.strip("[]"), registry=metrics.registry)
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigurationError(f"metrics cannot be served at {address}: {error}") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

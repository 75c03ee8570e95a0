"""Keeps figures for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage import __version__
from criimage.metrics.pulls import PullMetrics, RemovalMetrics
from criimage.metrics.relay import RelayMetrics
from criimage.metrics.service import ServiceMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Counter, Histogram

__all__ = ["PrometheusMetrics"]

_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300)


class PrometheusMetrics:
    """Keeps figures in a registry of its own.

    Args:
        backend: value of the label `backend`.
        operations: every operation there is.
        error_kinds: every kind of error there is.
        aliases: whether CRI-O's and containerd's names are shown besides.
    """

    def __init__(
        self, backend: str, operations: Iterable[str], error_kinds: Iterable[str], *, aliases: bool = False
    ) -> None:
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
        self._pulls = PullMetrics(backend, self.registry)
        self._removals = RemovalMetrics(backend, self.registry)
        self._relay = RelayMetrics(backend, self.registry)
        self._service = ServiceMetrics(backend)
        self._service.register(self.registry)
        Info("criimage_build", "This criimage.", registry=self.registry).info({"version": __version__})
        kinds = tuple(error_kinds)
        self._pulls.begin(kinds)
        self._removals.begin(kinds)
        self._operations: dict[str, tuple[Counter, Histogram]] = {}
        for operation in operations:
            self._operations[operation] = (
                self._total.labels(backend, operation),
                self._seconds.labels(backend, operation),
            )
            for kind in kinds:
                self._errors.labels(backend, operation, kind)
        if aliases:
            # Imported here for its import of prometheus-client.
            from criimage.metrics.aliases import Aliases

            # A registry of its own: one that has the aliases cannot be what they are made from.
            own, self.registry = self.registry, CollectorRegistry()
            self.registry.register(own)
            self.registry.register(Aliases(own.collect))

    def look_at(
        self, connections: Callable[[], int], lists: Callable[[], tuple[int, int]], denied: Callable[[], int]
    ) -> None:
        """Ask for these figures whenever somebody asks for the page.

        Args:
            connections: how many clients are connected.
            lists: how many lists were answered from what was kept, and how many were made.
            denied: how many connections came from users who may make no calls.
        """
        self._service.connections, self._service.lists, self._service.denied = connections, lists, denied

    def observe(self, operation: str, seconds: float, error_kind: str | None) -> None:
        """Count one call of `operation`, and its error if it had one."""
        total, latency = self._operations[operation]
        total.inc()
        latency.observe(seconds)
        if error_kind is not None:
            self._errors.labels(self._backend, operation, error_kind).inc()

    def pulls_running(self, count: int) -> None:
        """Show how many pulls are running or queued now."""
        self._pulls.running.set(count)

    def pull_ended(self, seconds: float, bytes_done: int, outcome: str) -> None:
        """Count one pull; `outcome` is `pulled`, `unchanged` or an error's kind."""
        self._pulls.ended(seconds, bytes_done, outcome)

    def layers(self, fetched: int, reused: int) -> None:
        """Count the layers of a pull: fetched, and here already."""
        self._pulls.layers(fetched, reused)

    def removals_running(self, count: int) -> None:
        """Show how many removals are running now."""
        self._removals.running.set(count)

    def removal_ended(self, seconds: float, outcome: str) -> None:
        """Count one removal; `outcome` is `removed` or an error's kind."""
        self._removals.ended(seconds, outcome)

    def relayed(self, method: str, status: str) -> None:
        """Count one relayed call."""
        self._relay.relayed(method, status)

    def runtime_connected(self, connected: bool) -> None:
        """Show whether the runtime can be reached now."""
        self._relay.connected.set(connected)

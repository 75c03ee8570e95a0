"""Counts and times every call, for Prometheus (cri-o M1, M2; names of our own, `criimage_…`).

prometheus-client is imported only where an address is set. Labels are the backend, the operation and the kind of error:
sets that are known beforehand, so every series is there from the start, at 0. Never an image's name.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from grpclib.const import Status

from criimage import __version__, errors, lasting, logs, problems, tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import CollectorRegistry, Counter, Histogram, Metric

__all__ = ["Metrics", "NoMetrics", "PrometheusMetrics"]

_PULL_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_REMOVAL_SECONDS = (0.025, 0.1, 0.5, 2.5, 10, 30, 60, 100, 120)
_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300)

_RELAYED = frozenset(
    {
        "Attach",
        "CheckpointContainer",
        "CheckpointPod",
        "ContainerStats",
        "ContainerStatus",
        "CreateContainer",
        "Exec",
        "ExecSync",
        "GetContainerEvents",
        "ListContainerStats",
        "ListContainers",
        "ListMetricDescriptors",
        "ListPodSandbox",
        "ListPodSandboxMetrics",
        "ListPodSandboxStats",
        "PodSandboxStats",
        "PodSandboxStatus",
        "PortForward",
        "RemoveContainer",
        "RemovePodSandbox",
        "ReopenContainerLog",
        "RestorePod",
        "RunPodSandbox",
        "RuntimeConfig",
        "StartContainer",
        "Status",
        "StopContainer",
        "StopPodSandbox",
        "StreamContainerStats",
        "StreamContainers",
        "StreamPodSandboxMetrics",
        "StreamPodSandboxStats",
        "StreamPodSandboxes",
        "UpdateContainerResources",
        "UpdatePodSandboxResources",
        "UpdateRuntimeConfig",
        "Version",
    }
)
_OTHER_METHOD = "other"
"""Every method that is not in the API as it is known (cri-protocol 1.3): relayed all the same, counted together."""


class Metrics(Protocol):
    """Takes figures."""

    def observe(self, operation: str, seconds: float, error_kind: str | None) -> None:
        """Count one call of `operation`, and its error if it had one."""

    def pulls_running(self, count: int) -> None:
        """Take how many pulls are running or queued now."""

    def pull_ended(self, seconds: float, bytes_done: int, outcome: str) -> None:
        """Count one pull; `outcome` is `pulled`, `unchanged` or an error's kind."""

    def layers(self, fetched: int, reused: int) -> None:
        """Count the layers of a pull that has ended: those that were fetched, and those that were here already."""

    def removals_running(self, count: int) -> None:
        """Take how many removals are running now."""

    def removal_ended(self, seconds: float, outcome: str) -> None:
        """Count one removal; `outcome` is `removed` or an error's kind."""

    def relayed(self, method: str, status: str) -> None:
        """Count one call that was relayed to a runtime: its bare name and the name of its gRPC status."""

    def runtime_connected(self, connected: bool) -> None:
        """Take whether the runtime that calls are relayed to can be reached now."""


class NoMetrics:
    """Takes figures and drops them: nobody could read them."""

    def pulls_running(self, count: int) -> None:
        """Do nothing."""

    def pull_ended(self, seconds: float, bytes_done: int, outcome: str) -> None:
        """Do nothing."""

    def layers(self, fetched: int, reused: int) -> None:
        """Do nothing."""

    def removals_running(self, count: int) -> None:
        """Do nothing."""

    def removal_ended(self, seconds: float, outcome: str) -> None:
        """Do nothing."""

    def observe(self, operation: str, seconds: float, error_kind: str | None) -> None:
        """Do nothing."""

    def relayed(self, method: str, status: str) -> None:
        """Do nothing."""

    def runtime_connected(self, connected: bool) -> None:
        """Do nothing."""


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
        self._pulls = _PullMetrics(backend, self.registry)
        self._removals = _RemovalMetrics(backend, self.registry)
        self._relay = _RelayMetrics(backend, self.registry)
        self._service = _ServiceMetrics(backend)
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
            from criimage.metric_aliases import Aliases

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


class _PullMetrics:
    """What is measured of pulls, apart from the calls that ask for them: one pull can serve several."""

    def __init__(self, backend: str, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        labels = ["backend"]
        running = Gauge("criimage_pulls_in_progress", "Pulls running or queued.", labels, registry=registry)
        done = Counter("criimage_pulls_success", "Pulls that succeeded.", labels, registry=registry)
        unchanged = Counter("criimage_pulls_unchanged", "Pulls that had nothing to fetch.", labels, registry=registry)
        fetched = Counter("criimage_pulls_bytes", "Compressed bytes fetched.", labels, registry=registry)
        seconds = Histogram(
            "criimage_pulls_seconds", "Time that a pull took.", labels, registry=registry, buckets=_PULL_SECONDS
        )
        self.running, self._done, self._unchanged = (
            running.labels(backend),
            done.labels(backend),
            unchanged.labels(backend),
        )
        self._bytes, self._seconds = fetched.labels(backend), seconds.labels(backend)
        self._failed = Counter(
            "criimage_pulls_failures", "Pulls that failed, by kind.", ["backend", "kind"], registry=registry
        )
        kept = Counter("criimage_pulls_layers_reused", "Layers that were here already.", labels, registry=registry)
        layers = Counter("criimage_pulls_layers_fetched", "Layers fetched.", labels, registry=registry)
        self._reused, self._fetched = kept.labels(backend), layers.labels(backend)
        self._backend = backend

    def begin(self, kinds: Iterable[str]) -> None:
        """Show every kind of failure at 0."""
        for kind in kinds:
            self._failed.labels(self._backend, kind)

    def layers(self, fetched: int, reused: int) -> None:
        self._fetched.inc(fetched)
        self._reused.inc(reused)

    def ended(self, seconds: float, bytes_done: int, outcome: str) -> None:
        self._seconds.observe(seconds)
        self._bytes.inc(bytes_done)
        if outcome in {"pulled", "unchanged"}:
            self._done.inc()
            self._unchanged.inc(outcome == "unchanged")
        else:
            self._failed.labels(self._backend, outcome).inc()


class _RemovalMetrics:
    """What is measured of removals, apart from the calls that ask for them: one removal can serve several."""

    def __init__(self, backend: str, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        labels = ["backend"]
        running = Gauge("criimage_removals_in_progress", "Removals that run.", labels, registry=registry)
        done = Counter("criimage_removals_success", "Removals that succeeded.", labels, registry=registry)
        seconds = Histogram(
            "criimage_removals_seconds",
            "Time that a removal took.",
            labels,
            registry=registry,
            buckets=_REMOVAL_SECONDS,
        )
        self.running, self._done, self._seconds = running.labels(backend), done.labels(backend), seconds.labels(backend)
        self._failed = Counter(
            "criimage_removals_failures", "Removals that failed, by kind.", ["backend", "kind"], registry=registry
        )
        self._backend = backend

    def begin(self, kinds: Iterable[str]) -> None:
        """Show every kind of failure at 0."""
        for kind in kinds:
            self._failed.labels(self._backend, kind)

    def ended(self, seconds: float, outcome: str) -> None:
        self._seconds.observe(seconds)
        if outcome == "removed":
            self._done.inc()
        else:
            self._failed.labels(self._backend, outcome).inc()


class _RelayMetrics:
    """What is measured of another runtime's calls, apart from our own: how long those take is not ours to judge."""

    def __init__(self, backend: str, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge

        self._backend = backend
        self._calls = Counter(
            "criimage_relayed_calls", "Calls relayed to the runtime.", ["backend", "method"], registry=registry
        )
        self._errors = Counter(
            "criimage_relayed_calls_errors",
            "Relayed calls that did not end with OK.",
            ["backend", "code"],
            registry=registry,
        )
        connected = Gauge(
            "criimage_runtime_connected", "1 if the runtime that is relayed to answers.", ["backend"], registry=registry
        )
        self.connected = connected.labels(backend)
        for method in (*_RELAYED, _OTHER_METHOD):
            self._calls.labels(backend, method)
        for status in Status:
            if status is not Status.OK:
                self._errors.labels(backend, status.name)

    def relayed(self, method: str, status: str) -> None:
        self._calls.labels(self._backend, method if method in _RELAYED else _OTHER_METHOD).inc()
        if status != Status.OK.name:
            self._errors.labels(self._backend, status).inc()


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _ServiceMetrics:
    """What the process itself knows, read when somebody asks."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._loop = asyncio.get_running_loop() if _in_a_loop() else None
        self.connections: Callable[[], int] = lambda: 0
        self.lists: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.denied: Callable[[], int] = lambda: 0

    def register(self, registry: CollectorRegistry) -> None:
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        found = problems.standing()
        standing = GaugeMetricFamily("criimage_problems", "Problems that stand now.", labels=["backend"])
        standing.add_metric([self._backend], len(found))
        yield standing
        ready = GaugeMetricFamily(
            "criimage_backend_ready", "1 while the backend's own check finds nothing missing.", labels=["backend"]
        )
        ready.add_metric([self._backend], not any(source.startswith("backend: ") for source in found))
        yield ready
        tasks = GaugeMetricFamily("criimage_tasks", "Tasks of the event loop.", labels=["backend"])
        # What reads this may be another thread; the set copes with that.
        tasks.add_metric([self._backend], len(asyncio.all_tasks(self._loop)) if self._loop is not None else 0)
        yield tasks
        connected = GaugeMetricFamily("criimage_connections", "Clients that are connected.", labels=["backend"])
        connected.add_metric([self._backend], self.connections())
        yield connected
        denied = CounterMetricFamily(
            "criimage_connections_denied", "Connections of users who may make no calls.", labels=["backend"]
        )
        denied.add_metric([self._backend], self.denied())
        yield denied
        answers = CounterMetricFamily(
            "criimage_lists", "Lists of all images answered, by what they were made from.", labels=["backend", "cache"]
        )
        for result, count in zip(("hit", "miss"), self.lists(), strict=True):
            answers.add_metric([self._backend, result], count)
        yield answers
        failed = CounterMetricFamily(
            "criimage_task_failures", "Failures of tasks that live as long as the server.", labels=["backend", "task"]
        )
        for task, count in lasting.failures().items():
            failed.add_metric([self._backend, task], count)
        yield failed
        dropped = CounterMetricFamily("criimage_log_lines_dropped", "Log lines dropped.", labels=["backend"])
        dropped.add_metric([self._backend], logs.dropped())
        yield dropped
        spans = CounterMetricFamily("criimage_spans_lost", "Spans that the collector did not take.", labels=["backend"])
        spans.add_metric([self._backend], tracing.lost())
        yield spans


def error_kinds() -> list[str]:
    """Return every kind that the label `kind` can have."""
    own = {getattr(errors, name).kind for name in errors.__all__}
    return sorted({*own, "cancelled", "deadline", "denied", "bad_call", "internal"})

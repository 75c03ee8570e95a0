"""The process itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from criimage import lasting, logs, problems, tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry, Metric

__all__ = ["ServiceMetrics"]


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class ServiceMetrics:
    """What the process itself knows, read when somebody asks."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._loop = asyncio.get_running_loop() if _in_a_loop() else None
        self.connections: Callable[[], int] = lambda: 0
        self.lists: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.denied: Callable[[], int] = lambda: 0

    def register(self, registry: CollectorRegistry) -> None:
        """Be asked with all others of the registry."""
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield what is true now, as prometheus-client asks for it; perhaps in another thread."""
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

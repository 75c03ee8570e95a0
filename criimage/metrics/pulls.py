"""Pulls and removals: one of them can serve several calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry

__all__ = ["PullMetrics", "RemovalMetrics"]

_PULL_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_REMOVAL_SECONDS = (0.025, 0.1, 0.5, 2.5, 10, 30, 60, 100, 120)


class PullMetrics:
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
        """Count the layers of a pull that has ended."""
        self._fetched.inc(fetched)
        self._reused.inc(reused)

    def ended(self, seconds: float, bytes_done: int, outcome: str) -> None:
        """Count one pull; `outcome` is `pulled`, `unchanged` or an error's kind."""
        self._seconds.observe(seconds)
        self._bytes.inc(bytes_done)
        if outcome in {"pulled", "unchanged"}:
            self._done.inc()
            self._unchanged.inc(outcome == "unchanged")
        else:
            self._failed.labels(self._backend, outcome).inc()


class RemovalMetrics:
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
        """Count one removal; `outcome` is `removed` or an error's kind."""
        self._seconds.observe(seconds)
        if outcome == "removed":
            self._done.inc()
        else:
            self._failed.labels(self._backend, outcome).inc()

"""Calls that are relayed to a runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib.const import Status

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["RelayMetrics"]

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


class RelayMetrics:
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
        """Count one call by its bare name and the name of its gRPC status."""
        self._calls.labels(self._backend, method if method in _RELAYED else _OTHER_METHOD).inc()
        if status != Status.OK.name:
            self._errors.labels(self._backend, status).inc()

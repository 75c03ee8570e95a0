"""The same figures under the names that CRI-O and containerd give theirs, for dashboards that are there already.

Only figures that mean the same are here, as sums over what their labels tell apart and ours do not: CRI-O's bytes by
media type have one series without such a label, and containerd's throughput has none. Names and labels are those of
CRI-O 1.33's `internal/server/metrics` and containerd 2.0's `internal/cri/server/images`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

__all__ = ["Aliases"]

_CRIO = "container_runtime_crio"
_CONTAINERD = "containerd_cri_sandboxed"


class Aliases:
    """A collector of figures that others' collectors have.

    Args:
        own: gives the figures under our names.
    """

    def __init__(self, own: Callable[[], Iterable[Metric]]) -> None:
        self._own = own

    def collect(self) -> Iterator[Metric]:
        """Yield the figures under CRI-O's names, then those under containerd's."""
        samples: dict[str, list[Sample]] = {}
        for family in self._own():
            for sample in family.samples:
                samples.setdefault(sample.name, []).append(sample)
        yield from _crio(samples)
        yield from _containerd(samples)


def _crio(samples: dict[str, list[Sample]]) -> Iterator[Metric]:
    for name, own in (
        ("operations", "criimage_operations_total"),
        ("operations_errors", "criimage_operations_errors_total"),
    ):
        counter = CounterMetricFamily(f"{_CRIO}_{name}", f"As {own}.", labels=["operation"])
        for operation, value in _sums(samples[own], "operation").items():
            counter.add_metric([operation], value)
        yield counter
    seconds = SummaryMetricFamily(
        f"{_CRIO}_operations_latency_seconds_total", "As criimage_operations_latency_seconds.", labels=["operation"]
    )
    counts = _sums(samples["criimage_operations_latency_seconds_count"], "operation")
    for operation, value in _sums(samples["criimage_operations_latency_seconds_sum"], "operation").items():
        seconds.add_metric([operation], int(counts[operation]), value)
    yield seconds
    failures = CounterMetricFamily(
        f"{_CRIO}_image_pulls_failure", "As criimage_pulls_failures_total.", labels=["error"]
    )
    for kind, value in _sums(samples["criimage_pulls_failures_total"], "kind").items():
        failures.add_metric([kind], value)
    yield failures
    for name, own in (
        ("success", "criimage_pulls_success_total"),
        ("bytes", "criimage_pulls_bytes_total"),
    ):
        yield CounterMetricFamily(f"{_CRIO}_image_pulls_{name}", f"As {own}.", _sum(samples[own]))
    reused = "criimage_pulls_layers_reused_total"
    yield CounterMetricFamily(f"{_CRIO}_image_layer_reuse", f"As {reused}.", _sum(samples[reused]))


def _containerd(samples: dict[str, list[Sample]]) -> Iterator[Metric]:
    pulls = CounterMetricFamily(f"{_CONTAINERD}_image_pulls", "Pulls that ended.", labels=["status"])
    pulls.add_metric(["success"], _sum(samples["criimage_pulls_success_total"]))
    pulls.add_metric(["failure"], _sum(samples["criimage_pulls_failures_total"]))
    yield pulls
    own = "criimage_pulls_in_progress"
    yield GaugeMetricFamily(f"{_CONTAINERD}_in_progress_image_pulls_total", f"As {own}.", _sum(samples[own]))


def _sum(samples: Iterable[Sample]) -> float:
    return sum(sample.value for sample in samples)


def _sums(samples: Iterable[Sample], label: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for sample in samples:
        found[sample.labels[label]] = found.get(sample.labels[label], 0) + sample.value
    return found

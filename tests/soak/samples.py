"""What a server has and how fast it answers, every few seconds."""

from __future__ import annotations

import asyncio
import statistics
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import resident

if TYPE_CHECKING:
    from collections import deque

    from soak.traffic import Traffic

__all__ = ["MEASURES", "Sample", "percentiles", "sampled"]

MEASURES = ("memory", "descriptors", "threads", "tasks", "median", "tail")
"""What is judged."""
PAGE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a server.

    Attributes:
        at: seconds since the run began.
        memory: resident, in MiB.
        descriptors: that are open.
        threads: of the process.
        tasks: of its event loop, as it says itself.
        p50: median of the lists and statuses since the look before, in ms.
        p99: their 99th percentile.
        bare50: median of the same client's calls to a bare server at the same time, in ms.
        bare99: their 99th percentile.
        life: the process ID: another life of the server, another number.
    """

    at: float
    memory: float
    descriptors: int
    threads: int
    tasks: int
    p50: float
    p99: float
    bare50: float
    bare99: float
    life: int

    @property
    def median(self) -> float:
        """The median over the bare server's: what else the machine does makes both slow."""
        return self.p50 / self.bare50

    @property
    def tail(self) -> float:
        """The same of the 99th percentiles."""
        return self.p99 / self.bare99


def percentiles(latencies: deque[tuple[float, float]]) -> tuple[float, float] | None:
    """Take the latencies since the last look, and return their median and 99th percentile in ms; None for too few."""
    answers = [seconds * 1000 for _, seconds in latencies]
    latencies.clear()
    if len(answers) < 2:
        return None
    cuts = statistics.quantiles(answers, n=100, method="inclusive")
    return cuts[49], cuts[98]


async def sampled(traffic: Traffic, bare: tuple[float, float] | None, begun: float) -> Sample | None:
    """Look at a server now; None while it is being restarted, or where nothing was answered since the last look."""
    pid, own = traffic.server.pid, percentiles(traffic.latencies)
    if not pid or own is None or bare is None:
        return None
    try:
        tasks = await asyncio.to_thread(_tasks, traffic.server.metrics)
        process = Path(f"/proc/{pid}")
        descriptors, threads = len([*(process / "fd").iterdir()]), len([*(process / "task").iterdir()])
        memory = resident(pid)
    except (OSError, RuntimeError):
        return None  # it is being restarted
    return Sample(time.monotonic() - begun, memory, descriptors, threads, tasks, *own, *bare, pid)


def _tasks(metrics: str) -> int:
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=PAGE_SECONDS) as page:
        lines = page.read().decode().splitlines()
    return int(float(next(line for line in lines if line.startswith("criimage_tasks{")).rpartition(" ")[2]))

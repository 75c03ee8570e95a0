"""Lets everything run together, and says what it came to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from criimage.channel import Channel
from soak.judge import judged
from soak.node import node
from soak.samples import percentiles, sampled
from soak.traffic import CALL_SECONDS, READ_PAUSE, VERSION, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from soak.judge import Verdict
    from soak.node import Node
    from soak.samples import Sample

__all__ = ["Run", "soaked"]

SAMPLE_SECONDS = 5.0
LAST_LIFE = 1 / 3
"""From here on no server is restarted, so that its last life is long enough to be judged."""
QUIET = 0.92
"""From here on nothing is restarted."""
RESTARTS = 12


@dataclass(slots=True)
class Run:
    """What came of a run.

    Attributes:
        seconds: how long it was.
        samples: by backend.
        restarts: when each was, in seconds since the beginning, and of what.
        traffic: what the clients had done, by backend.
        faults: lines in the servers' logs that tell of faults of criimage.
        logs: of all lives of each server, by backend.
    """

    seconds: float
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    restarts: list[tuple[float, str]] = field(default_factory=list)
    traffic: dict[str, Traffic] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)

    def verdicts(self) -> list[Verdict]:
        """Judge every measure of every server."""
        return [verdict for backend, samples in self.samples.items() for verdict in judged(backend, samples)]

    def complaints(self) -> list[str]:
        """Everything that should not be."""
        found = [
            f"{one.backend}: {one.measure} grew from {one.before:.1f} to {one.after:.1f}"
            for one in self.verdicts()
            if not one.flat
        ]
        for traffic in self.traffic.values():
            found += traffic.unexpected
        return [*found, *self.faults]


async def soaked(
    seconds: float,
    backends: Sequence[str],
    say: Callable[[str], None] = lambda _: None,
    *,
    pause: float = SAMPLE_SECONDS,
    watched: Callable[[Node], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Run:
    """Run everything for so long.

    Args:
        seconds: how long.
        backends: of the servers.
        say: takes a line now and then.
        pause: seconds between two looks at a server.
        watched: what goes on while everything runs, such as a Prometheus.
    """
    made = Run(seconds)
    with node(backends) as parts, watched(parts):
        begun = time.monotonic()
        made.traffic = {server.backend: Traffic(parts, server) for server in parts.servers}
        made.samples = {backend: [] for backend in backends}
        tasks = [asyncio.create_task(traffic.run()) for traffic in made.traffic.values()]
        tasks.append(asyncio.create_task(_restarting(parts, seconds, say)))
        bare: deque[tuple[float, float]] = deque()
        tasks.append(asyncio.create_task(_yardstick(parts.bare, bare)))
        try:
            while (now := time.monotonic() - begun) < seconds:
                await asyncio.sleep(min(pause, seconds - now))
                for task in tasks:
                    if task.done():
                        task.result()  # raises what ended it; the restarts end by themselves
                beside = percentiles(bare)
                for backend, traffic in made.traffic.items():
                    sample = await sampled(traffic, beside, begun)
                    made.samples[backend] += [sample] if sample is not None else []
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        made.restarts = [(outage.begun - begun, outage.part) for outage in parts.outages]
        made.faults = [line for server in parts.servers for line in server.faults()]
        made.logs = {server.backend: server.log_text() for server in parts.servers}
    return made


async def _yardstick(path: Path, latencies: deque[tuple[float, float]]) -> None:
    """Call a bare server as often as the others: how long that takes is the machine's doing, not ours."""
    async with Channel(path) as channel:
        while True:
            for _ in range(2):
                begun = time.monotonic()
                await channel.unary(VERSION, b"", CALL_SECONDS)
                latencies.append((begun, time.monotonic() - begun))
            await asyncio.sleep(READ_PAUSE)


async def _restarting(parts: Node, seconds: float, say: Callable[[str], None]) -> None:
    begun = time.monotonic()
    for share, part in _plan(parts):
        await asyncio.sleep(max(0.0, begun + share * seconds - time.monotonic()))
        await asyncio.to_thread(parts.restart, part)
        took = parts.outages[-1].ended - parts.outages[-1].begun
        say(f"{time.monotonic() - begun:6.0f} s: {part} was restarted, in {took:.1f} s")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


def _plan(parts: Node) -> Iterator[tuple[float, str]]:
    """When, as a share of the run, and what: each server twice while the run is young, the others all along."""
    servers = [server.backend for server in parts.servers]
    plan = [(LAST_LIFE * (1 + number) / (2 * len(servers) + 1), name) for number, name in enumerate(servers * 2)]
    names = parts.parts()
    plan += [(QUIET * (1 + number) / (RESTARTS + 1), names[number % len(names)]) for number in range(RESTARTS)]
    yield from sorted(plan)

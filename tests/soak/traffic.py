"""What clients do to one server all the time: lists, statuses, pulls of every kind, removals, watches, short visits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from criimage import wire
from criimage.channel import CallError, Channel
from criimage.testing.oci import Config, image, noise_layer

if TYPE_CHECKING:
    from soak.node import Node, Server

__all__ = ["CALL_SECONDS", "READ_PAUSE", "VERSION", "Traffic"]

_IMAGES = "/runtime.v1.ImageService"
VERSION = "/runtime.v1.RuntimeService/Version"
_WATCH = "/criimage.v1.PullService/WatchPulls"

READ_PAUSE = 0.1
PULL_PAUSE = 1.0
VISIT_PAUSE = 1.0
WATCH_SECONDS = 7.0
CALL_SECONDS = 30.0
COMPLAINTS = 20
KEPT = 4
"""So many images stay in the store; the oldest is removed when there are more."""


@dataclass(slots=True)
class Traffic:
    """The clients of one server.

    Attributes:
        tally: operation and outcome to how often: `ok`, `in vain` for what must fail, `in a restart`, `unexpected`.
        unexpected: what came of those, the first few.
        latencies: when each read was answered, and after how many seconds.
    """

    node: Node
    server: Server
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    latencies: deque[tuple[float, float]] = field(default_factory=deque)
    _images: deque[str] = field(default_factory=deque)
    _made: int = 0

    async def run(self) -> None:
        """Go on until cancelled."""
        async with Channel(self.server.socket) as channel, asyncio.TaskGroup() as group:
            for work in (self._read, self._pull, self._watch):
                group.create_task(work(channel))
            group.create_task(self._visit())

    async def _call(self, channel: Channel, operation: str, request: bytes, *, fails: bool = False) -> bytes:
        path = VERSION if operation == "Version" else f"{_IMAGES}/{operation.split()[0]}"
        begun = time.monotonic()
        reply, fault = b"", ""
        try:
            reply = await channel.unary(path, request, CALL_SECONDS)
        except CallError as error:
            fault = str(error)
        ended = time.monotonic()
        if bool(fault) == fails:
            outcome = "in vain" if fails else "ok"
        elif self.node.excused(self.server, begun, ended):
            outcome = "in a restart"
        else:
            outcome = "unexpected"
            self._complain(f"{operation}: {fault or 'it did not fail'}")
        self.tally[operation, outcome] += 1
        if outcome == "ok" and operation in {"ListImages", "ImageStatus"}:
            self.latencies.append((ended, ended - begun))
        return reply

    async def _read(self, channel: Channel) -> None:
        rounds = 0
        while True:
            await self._call(channel, "ListImages", b"")
            await self._call(channel, "ImageStatus", _about(self._images[-1] if self._images else "x.example/none"))
            await self._call(channel, "Version", b"")
            rounds += 1
            if rounds % 50 == 0:
                await self._call(channel, "ImageFsInfo", b"")
            await asyncio.sleep(READ_PAUSE)

    async def _pull(self, channel: Channel) -> None:
        while True:
            name = await self._fresh()
            if name:
                await self._call(channel, "PullImage", _about(name))
                self._images.append(name)
                await asyncio.sleep(PULL_PAUSE)
                await self._call(channel, "PullImage unchanged", _about(name))
                await asyncio.sleep(PULL_PAUSE)
            missing = f"{self.node.registry.address}/soak/missing:{self._made}"
            await self._call(channel, "PullImage missing", _about(missing), fails=True)
            await self._cancelled(channel)
            while len(self._images) > KEPT:
                await self._call(channel, "RemoveImage", _about(self._images.popleft()))
            await asyncio.sleep(PULL_PAUSE)

    async def _fresh(self) -> str:
        """Put an image that nobody has into the registry; nothing if it is down."""
        self._made += 1
        seed = f"{self.server.backend} {self._made}"
        made = image(noise_layer(200_000, seed=seed), config=Config(cmd=(seed,)))
        repository = f"soak/{self.server.backend}"
        begun = time.monotonic()
        try:
            return await asyncio.to_thread(self.node.registry.push, made, repository, f"t{self._made}")
        except Exception:
            if not self.node.excused(self.server, begun, time.monotonic()):
                raise
            await asyncio.sleep(PULL_PAUSE)
            return ""

    async def _cancelled(self, channel: Channel) -> None:
        hub = self.node.hub
        name = hub.put(image(noise_layer(50_000, seed=f"slow {self.server.backend} {self._made}")), "slow/image", "t")
        pull = asyncio.create_task(channel.unary(f"{_IMAGES}/PullImage", _about(name), CALL_SECONDS))
        try:
            await asyncio.wait({pull}, timeout=PULL_PAUSE)
        finally:
            pull.cancel()
            await asyncio.gather(pull, return_exceptions=True)
        self.tally["PullImage cancelled", "ok"] += 1

    async def _watch(self, channel: Channel) -> None:
        while True:
            begun = time.monotonic()
            outcome = "ok"
            try:
                async with asyncio.timeout(WATCH_SECONDS), contextlib.aclosing(channel.stream(_WATCH, b"")) as pulls:
                    async for _ in pulls:
                        pass
            except TimeoutError:
                pass
            except CallError as error:
                outcome = "in a restart" if self.node.excused(self.server, begun, time.monotonic()) else "unexpected"
                if outcome == "unexpected":
                    self._complain(f"WatchPulls: {error}")
                await asyncio.sleep(1)
            self.tally["WatchPulls", outcome] += 1

    def _complain(self, text: str) -> None:
        if len(self.unexpected) < COMPLAINTS:
            self.unexpected.append(f"{self.server.backend}: {text}"[:300])

    async def _visit(self) -> None:
        while True:
            async with Channel(self.server.socket) as channel:
                await self._call(channel, "ListImages on a connection of its own", b"")
            await asyncio.sleep(VISIT_PAUSE)


def _about(name: str) -> bytes:
    return wire.length_delimited(1, wire.text_field(1, name))

"""The server in the test's own process: every service on a backend in memory, over a real unix socket."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from criimage.backend import User
from criimage.metrics import NoMetrics
from criimage.server.app import Assembly
from criimage.server.listening.socket import BoundSocket
from criimage.settings import Settings
from criimage.testing.memory import MemoryBackend, Registry, RemoteImage
from criimage.work import Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from criimage.backend import (
        Image,
        ImageDetails,
        Problem,
        ProgressReporter,
        PullContext,
        Usage,
    )
    from criimage.credentials import Credentials
    from criimage.metrics import Metrics
    from criimage.reference import Lookup, Name, Pattern, Reference
    from criimage.server.server import Server

PATIENCE = 30.0
"""Seconds that nothing here takes; only there so that a failing test ends."""


async def until(condition: Callable[[], object]) -> None:
    """Waits until the condition holds, giving every other task its turns."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - anything at all may be waited for
            await asyncio.sleep(0.001)


class WatchedBackend(MemoryBackend):
    """A backend in memory that counts its calls, and whose work waits where a test says so.

    Attributes:
        calls: how often each method was called.
        pulls: reference and credentials of every pull.
        downloads: images whose download has begun.
        cancelled: images whose download was cancelled.
        open: downloads and removals go on while this is set; it is, at first.
        removals: how many removals have begun.
    """

    def __init__(self, registry: Registry | None = None, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(registry, problems)
        self.calls: Counter[str] = Counter()
        self.pulls: list[tuple[Reference, Credentials | None]] = []
        self.contexts: list[PullContext] = []
        self.downloads: list[RemoteImage] = []
        self.cancelled: list[RemoteImage] = []
        self.removals = 0
        self.open = asyncio.Event()
        self.open.set()

    async def check(self) -> tuple[Problem, ...]:
        """Count."""
        self.calls["check"] += 1
        return await super().check()

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        """Count."""
        self.calls["resolve"] += 1
        return await super().resolve(name)

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        """Count."""
        self.calls["images"] += 1
        return await super().images(pattern)

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        """Count."""
        self.calls["status"] += 1
        return await super().status(lookup, verbose=verbose)

    async def pull(
        self,
        reference: Reference,
        credentials: Credentials | None,
        context: PullContext,
        report: ProgressReporter,
    ) -> Image:
        """Count, and note what was asked for."""
        self.calls["pull"] += 1
        self.pulls.append((reference, credentials))
        self.contexts.append(context)
        return await super().pull(reference, credentials, context, report)

    async def download(self, remote: RemoteImage) -> None:
        """Wait while `open` is not set."""
        self.downloads.append(remote)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.append(remote)
            raise

    async def remove(self, lookup: Lookup) -> None:
        """Count, and wait while `open` is not set."""
        self.calls["remove"] += 1
        self.removals += 1
        await self.open.wait()
        await super().remove(lookup)

    async def usage(self) -> Usage:
        """Count."""
        self.calls["usage"] += 1
        return await super().usage()


def stocked() -> Registry:
    """A registry with a few images: `example.com/a:1`, `a:2`, `b:1`, and `docker.io/library/busybox:latest`."""
    registry = Registry()
    registry.put("example.com/a:1", RemoteImage("a1", 1000, User(uid=0), {"k": "v", "a": "b"}))
    registry.put("example.com/a:2", RemoteImage("a2", 2000, User(uid=65_534)))
    registry.put("example.com/b:1", RemoteImage("b1", 3000, User(name="nobody")))
    registry.put("busybox", RemoteImage("bb", 4000))
    return registry


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server.

    Attributes:
        path: of its socket.
        backend: what it serves.
        assembly: it.
        work: what outlives calls.
    """

    path: Path
    backend: WatchedBackend
    assembly: Assembly
    work: Work

    @property
    def server(self) -> Server:
        """The part that has the connections."""
        return self.assembly.server

    def left(self) -> list[object]:
        """Every task of a call and every stream that there is now."""
        found: list[object] = []
        for connection in self.server.connections:
            found += connection.calls.tasks
            found += connection.processor.streams.values()
        return found

    async def quiet(self) -> None:
        """Waits until no task of a call and no stream is left."""
        await until(lambda: not self.left())


@asynccontextmanager
async def serving(
    folder: Path, backend: WatchedBackend | None = None, figures: Metrics | None = None, **settings: object
) -> AsyncIterator[Serving]:
    """Runs the server until the block is left, and ends it as SIGTERM does.

    Args:
        folder: for the socket.
        backend: one with `stocked()` behind it where it is None.
        figures: takes what is measured.
        settings: the core's.

    Yields:
        the server, listening.
    """
    backend = backend or WatchedBackend(stocked())
    path = folder / "criimage.sock"
    bound = await asyncio.to_thread(BoundSocket.open, f"unix://{path}")
    try:
        async with Work() as work:
            chosen = Settings.model_validate(settings)
            measured = figures or NoMetrics()
            runtime = chosen.runtime_path()
            assembly = Assembly(backend, work, chosen, lambda _: measured, {"listen": "here"}, runtime)
            async with assembly.relay or nullcontext():
                assembly.server.start(bound.socket)
                try:
                    yield Serving(path, backend, assembly, work)
                finally:
                    await assembly.stop()
    finally:
        await asyncio.to_thread(bound.close)

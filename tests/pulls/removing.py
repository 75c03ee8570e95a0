"""Removals on a backend that is slow, hangs or stops late, as a test says; on a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from criimage.backend import PullContext, waiting_for
from criimage.reference import Lookup
from criimage.removals import Removals
from criimage.testing.memory import MemoryBackend, RemoteImage
from criimage.work import Work
from pulls.clock import settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from criimage import errors
    from criimage.backend import ImageDetails


NAME = "example.com/a:1"


OTHER = "example.com/a:2"


REMOTE = RemoteImage("a")


class SlowBackend(MemoryBackend):
    """Its removals wait for their turn, and then do what a test says.

    Attributes:
        go: lets removals go on.
        may_stop: a cancelled one ends when this is set; it is, at first.
        may_end: one that has removed the image ends when this is set; it is, at first.
        begun: how many removals have come.
        on_cancel: done to the store by one that is cancelled.
        look_hangs: the next looks never answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.begun = 0
        self.on_cancel: Callable[[], object] | None = None
        self.look_hangs = False

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        """May hang."""
        if self.look_hangs:
            await asyncio.Event().wait()
        return await super().status(lookup, verbose=verbose)

    def lose(self) -> None:
        """The images are gone, as if somebody else had removed them."""
        self._stored.clear()
        self._images = None

    async def remove(self, lookup: Lookup) -> None:
        """Waits, then removes."""
        self.begun += 1
        try:
            with waiting_for("the store's lock"):
                await self.go.wait()
            await super().remove(lookup)
            await self.may_end.wait()
        except asyncio.CancelledError:
            await self.may_stop.wait()
            if self.on_cancel is not None:
                self.on_cancel()
            raise


class At:
    """Removals on that backend, which holds one image with two names."""

    def __init__(self, backend: SlowBackend, work: Work) -> None:
        self.backend = backend
        self.work = work
        self.removals = Removals(backend, work, 100)
        self.ended: list[str] = []
        self.most = 0
        self.removals.measure_with(self)

    def removals_running(self, count: int) -> None:
        """Keeps the highest."""
        self.most = max(self.most, count)

    def removal_ended(self, seconds: float, outcome: str) -> None:
        """Keeps all."""
        self.ended.append(outcome)

    async def pull(self, *names: str) -> None:
        """Puts the image there under these names."""
        for name in names:
            reference = self.backend.registry.put(name, REMOTE)
            await self.backend.pull(reference, None, PullContext(), lambda _: None)

    async def call(self, text: str = NAME) -> asyncio.Task[None]:
        """Begins a call, and returns when it can do nothing more by itself."""
        task = asyncio.create_task(self.removals.remove(Lookup.parse(text)))
        await settle()
        return task


@contextlib.asynccontextmanager
async def setting() -> AsyncIterator[At]:
    async with Work() as work:
        made = At(SlowBackend(), work)
        await made.pull(NAME, OTHER)
        yield made
        made.backend.may_stop.set()


def now() -> float:
    return asyncio.get_running_loop().time()


async def failure(task: asyncio.Task[None], kind: type[errors.CriimageError]) -> str:
    with pytest.raises(kind) as caught:
        await task
    return caught.value.text

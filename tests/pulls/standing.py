"""A real backend with pulls on it, and what is seen of them: where the scenarios play."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from criimage import errors
from criimage.backend import PullContext
from criimage.pulls.sharing import Pulls
from criimage.reference import Lookup, Name
from criimage.work import Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.backend import Backend, PullProgress
    from criimage.pulls.policy import PullPolicy
    from criimage.pulls.running import Pulled, PullView

PATIENCE = 120.0
"""Seconds that nothing here takes; only there so that a failing test ends."""

STILL = 1.5
"""The progress timeout of the scenarios, seconds."""

LONG = 9.0
"""The one for a machine on which what does go on may stand still for longer than that."""

T = TypeVar("T")


async def patiently(scene: Callable[[float], Awaitable[T]]) -> T:
    """Plays what has to show a deadline, with STILL, and where that is no success once more with LONG.

    A progress timeout is real time. On a busy machine a tool that only begins, or a byte on its way, may take longer
    than a short one, and then is cut off rightly; with the long one nothing but a fault fails.
    """
    try:
        return await scene(STILL)
    except (AssertionError, errors.PullError, TimeoutError):
        return await scene(LONG)


@dataclass(frozen=True, slots=True)
class Place:
    """A backend on an empty store of its own.

    Attributes:
        backend: open.
        leftovers: names everything that a pull has put somewhere and that belongs to no image; blocks.
    """

    backend: Backend
    leftovers: Callable[[], list[str]]


Opener = Callable[[], AbstractAsyncContextManager[Place]]
"""Opens a backend that takes every registry on 127.0.0.1 for one of plain HTTP."""


@dataclass(slots=True)
class Stand:
    """A backend, pulls on it, and what is seen of them.

    Attributes:
        place: the backend.
        pulls: on it.
        seen: every state of every pull, by ID.
    """

    place: Place
    pulls: Pulls
    seen: dict[str, list[PullProgress]] = field(default_factory=dict)

    def pull(self, name: str) -> asyncio.Task[Pulled]:
        """Begins to pull."""
        return asyncio.create_task(self.pulls.pull(Name.parse(name), None, PullContext("ns", "pod")))

    async def pulled(self, name: str) -> Pulled:
        """Pulls to the end."""
        async with asyncio.timeout(PATIENCE):
            return await self.pull(name)

    async def nothing_left(self, name: str = "") -> None:
        """Nothing runs, no file is left, and no image has the name."""
        async with asyncio.timeout(PATIENCE):
            while await asyncio.to_thread(self.place.leftovers):  # noqa: ASYNC110 - files change without an event
                await asyncio.sleep(0.05)
        assert self.pulls.running() == ()
        if name:
            assert await self.place.backend.status(Lookup.parse(name)) is None

    async def watch(self) -> None:
        """Keeps every state that it sees, until cancelled."""
        mark = 0
        while True:
            ended = self.pulls.ended_since(mark)
            mark = self.pulls.ended_count
            for view in (*self.pulls.running(), *ended):
                self._keep(view)
            await asyncio.sleep(0.02)

    def _keep(self, view: PullView) -> None:
        states = self.seen.setdefault(view.id, [])
        if not states or states[-1] != view.progress:
            states.append(view.progress)


@asynccontextmanager
async def standing(opener: Opener, policy: PullPolicy | None = None) -> AsyncIterator[Stand]:
    """Opens a backend with pulls on it, under this policy."""
    async with opener() as place, Work() as work:
        stand = Stand(place, Pulls(place.backend, work, policy))
        watching = asyncio.create_task(stand.watch())
        try:
            yield stand
        finally:
            stand.pulls.cancel_all()
            await asyncio.sleep(0.05)
            watching.cancel()


async def gone(tasks: list[asyncio.Task[Pulled]]) -> None:
    """Has callers leave, and waits until they have."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

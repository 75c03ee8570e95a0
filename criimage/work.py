"""Work that outlives the request that began it.

A client's reset or deadline cancels the task of its call, and nothing shields a task from that (python-stack 4). What
several callers share, or what must not stop half-way, therefore runs here, in tasks of the server's own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["Work"]

CANCEL_SECONDS = 3.0
"""How long the end of what was cancelled is waited for; with `app.GRACE` it stays below the 5 s of a SIGTERM."""

T = TypeVar("T")


class Work:
    """A group of tasks that ends with the server; an async context manager.

    Leaving it cancels what is still running and waits until that has stopped, some seconds at most: a backend stops its
    tools within one.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_SECONDS)

    def start(self, work: Coroutine[object, object, T], name: str) -> asyncio.Task[T]:
        """Run `work` in a task of its own and return that; its error is the caller's to look at.

        Raises:
            RuntimeError: the group has ended.
        """
        if self._closed:
            work.close()
            raise RuntimeError("the server has stopped")
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def finish(self, work: Coroutine[object, object, T], name: str) -> T:
        """Run `work` to its end, whatever happens to the caller, and return its result.

        After a cancel of the caller the work goes on; its result, error included, is then dropped.
        """
        return await asyncio.shield(self.start(work, name))

    async def drain(self) -> None:
        """Wait until nothing is running."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # mark as seen: whoever waited has got it

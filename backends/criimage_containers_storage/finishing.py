"""Work that has to come to its end although whoever began it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["BackgroundTasks", "finish", "settled"]

T = TypeVar("T")


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end in a task of its own, however often the caller is cancelled, and return its result.

    Raises:
        asyncio.CancelledError: the caller was cancelled meanwhile; the work has ended all the same, its result or error
            is lost.
        Exception: whatever the work raised.
    """
    task = asyncio.ensure_future(work)
    with anyio.CancelScope(shield=True):
        cancelled = await settled(task)
    if cancelled:
        if not task.cancelled():
            task.exception()  # looking at it keeps asyncio from complaining
        raise asyncio.CancelledError
    return task.result()


async def settled(task: asyncio.Task[Any]) -> bool:
    """Wait until a task has ended, however often the waiting one is cancelled, and tell whether it was.

    A native cancel passes through anyio's shields (python-stack 4). A caller that is told so raises CancelledError in
    the end. The task's own result or error stays in it.
    """
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


class BackgroundTasks:
    """Tasks of the server's own: whoever waits for one may leave, and the task ends in its own time."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waited_for: set[asyncio.Task[Any]] = set()

    async def result(self, work: Coroutine[Any, Any, T], leave: float) -> T:
        """Run `work` in a task of its own and return its result.

        A cancelled caller cancels the work, waits for its end for `leave` seconds, and goes; what the work cannot leave
        undone it does afterwards.

        Raises:
            asyncio.CancelledError: the caller was cancelled.
            Exception: whatever the work raised.
        """
        task = self.start(work)
        self._waited_for.add(task)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            end = asyncio.get_running_loop().time() + leave
            with anyio.CancelScope(shield=True):
                while not task.done() and (left := end - asyncio.get_running_loop().time()) > 0:
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait({task}, timeout=left)
            raise
        return task.result()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` in a task of its own."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self, seconds: float) -> None:
        """Cancel what somebody waited for, and wait for the end of all, for so long at most; the rest is cancelled."""
        for task in self._waited_for:
            task.cancel()
        end = asyncio.get_running_loop().time() + seconds
        while self._tasks and (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left)
        for task in self._tasks:
            task.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._waited_for.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it; looking at it keeps asyncio from complaining where nobody does

"""A question that many put at about the same time, asked in rounds: one at a time, and one answer for all who wait.

What is asked may hang: a file system that is gone, an engine that stands still. Put once for each caller, it would
leave a thread or a connection behind for each of them, until there are none left for anybody.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from criimage.errors import CriimageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Rounds"]

T = TypeVar("T")


class Rounds(Generic[T]):
    """The rounds of one question, in tasks of their own.

    Args:
        ask: asks once.
        name: of the tasks.
    """

    def __init__(self, ask: Callable[[], Coroutine[object, object, T]], name: str) -> None:
        self._ask = ask
        self._name = name
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    def begin(self, *, current: bool = False) -> asyncio.Task[T]:
        """Return the round that begins after this call, and so sees all that was true before it; nobody need wait.

        Args:
            current: one that runs will do as well: whoever asks knows that nothing has changed since it began.
        """
        if current and self._running is not None:
            return self._running
        return self._next or self._queued()

    async def answer(self, *, current: bool = False) -> T:
        """Return the answer of the round that `begin` tells of.

        After a cancel of the caller the round goes on, for the others.

        Raises:
            CriimageError: as `ask` raised it, an object for each caller.
            Exception: anything else that `ask` raised.
            asyncio.CancelledError: the rounds were closed.
        """
        task = self.begin(current=current)
        await asyncio.wait({task})
        try:
            return task.result()
        except CriimageError as error:
            raise error.for_another_waiter() from error.__cause__

    def close(self) -> set[asyncio.Task[T]]:
        """Cancel what is asked now, and return it; whoever waits for it is cancelled as well."""
        ending = {task for task in (self._next, self._running) if task is not None}
        for task in ending:
            task.cancel()
        return ending

    def _queued(self) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(self._round(self._running), name=self._name)
        self._next = task
        task.add_done_callback(self._ended)
        return task

    async def _round(self, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait({before})
        # From here on it may miss what happens: whoever comes now waits for another one.
        self._running, self._next = self._next, None
        return await self._ask()

    def _ended(self, task: asyncio.Task[T]) -> None:
        if self._running is task:
            self._running = None
        if self._next is task:
            self._next = None
        if not task.cancelled():
            task.exception()  # mark as seen: whoever waited has got it

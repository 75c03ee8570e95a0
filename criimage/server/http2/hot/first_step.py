"""The first step of a handler, made at once instead of in a task; most answers need no other.

A handler that waits for something goes on in a task, and the task is the one that it was in from its beginning: a task
that has nothing to do stands by, and is the current one during the step (asyncio.timeout, anyio's scopes and whatever
else asks for the current task find what they will still find later). If the handler ends, the task stands by for the
next; if it waits, the task takes it over.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from asyncio import tasks
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

__all__ = ["Begun", "FirstSteps"]

ResultT = TypeVar("ResultT")


class Begun(Generic[ResultT]):
    """A coroutine after its first step; awaited once, in its own task, it gives or raises what it ends with.

    Attributes:
        began: when, by `time.perf_counter`.
        context: that it runs in.
        ended: whether it has ended already.
        result: what it returned, if it has ended well.
        error: what it raised, if it has ended so.
    """

    def __init__(self, context: contextvars.Context) -> None:
        self.began = time.perf_counter()
        self.context = context
        self.ended = False
        self.result: ResultT | None = None
        self.error: BaseException | None = None
        self.cancelled = False
        self._coroutine: Coroutine[Any, Any, ResultT] | None = None
        self._waits_for: asyncio.Future[Any] | None = None

    def started(self, coroutine: Coroutine[Any, Any, ResultT]) -> None:
        """Make the first step of a coroutine."""
        self._coroutine = coroutine
        try:
            waits_for = coroutine.send(None)
        except StopIteration as stop:
            self.ended, self.result = True, stop.value
            return
        if waits_for is not None:
            # Whoever else waits for it meanwhile must not be taken for us; set again when the task gets it.
            waits_for._asyncio_future_blocking = False
        self._waits_for = waits_for

    def close(self) -> None:
        """End a coroutine that nobody will await."""
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, ResultT]:
        """Go on where the first step has led to."""
        if self.error is not None:
            raise self.error
        if self.ended or self._coroutine is None:
            return self.result  # type: ignore[return-value]
        if self.cancelled and (self._waits_for is None or not self._waits_for.cancel()):
            # As a task that is cancelled while it waits: first what it waits for, and itself if that cannot be.
            return (yield from _rest(self._coroutine, None, asyncio.CancelledError()))
        return (yield from _rest(self._coroutine, self._waits_for))


def _rest(
    coroutine: Coroutine[Any, Any, ResultT],
    waits_for: asyncio.Future[Any] | None,
    error: BaseException | None = None,
) -> Generator[Any, Any, ResultT]:
    """Step a coroutine to its end, with what it waits for or with an error first; asyncio gets what it waits for."""
    if waits_for is not None:
        waits_for._asyncio_future_blocking = True
    value, stepped = None, error is None
    while True:
        if not stepped:
            try:
                waits_for = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
        stepped, error = False, None
        try:
            value = yield waits_for
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as thrown:  # noqa: BLE001 - it is the coroutine's to handle
            error = thrown


class _InContext:
    """Awaits a coroutine in a context of its own, whatever the task's is."""

    def __init__(self, context: contextvars.Context, coroutine: Coroutine[Any, Any, None]) -> None:
        self._context, self._coroutine = context, coroutine

    def __await__(self) -> Generator[Any, Any, None]:
        run, step, argument = self._context.run, self._coroutine.send, None
        while True:
            try:
                waits_for = run(step, argument)
            except StopIteration:
                return
            try:
                argument = yield waits_for
                step = self._coroutine.send
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as thrown:  # noqa: BLE001 - it is the coroutine's to handle
                argument, step = thrown, self._coroutine.throw


class _StandBy:
    """A task that has nothing to do until it takes a begun coroutine over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ready = False
        self._given: asyncio.Future[None] = loop.create_future()
        self._begun: Begun[Any] | None = None
        self._rest: Coroutine[Any, Any, None] | None = None
        self.task = loop.create_task(self._live(), name="answers at once")

    def take_over(self, begun: Begun[Any], rest: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `rest`, which awaits `begun`, in this task."""
        self._begun, self._rest = begun, rest
        self._given.set_result(None)
        return self.task

    async def _live(self) -> None:
        self.ready = True
        try:
            await self._given
        except asyncio.CancelledError:
            self.ready = False
            if self._begun is None:
                raise
            self._begun.cancelled = True
        if self._begun is not None and self._rest is not None:
            await _InContext(self._begun.context, self._rest)


class FirstSteps:
    """Makes first steps; one for a server, in its event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stand_by = _StandBy(self._loop)

    @property
    def possible(self) -> bool:
        """Whether a step can be made now: the task stands by, and no other task is running."""
        return self._stand_by.ready and asyncio.current_task(self._loop) is None

    def make(self, begin: Callable[[], Awaitable[ResultT]]) -> Begun[ResultT]:
        """Make the first step of what `begin` returns, in a context of its own; only where `possible`.

        An error of it is kept, to be raised where the result is awaited.
        """
        stand_by = self._stand_by
        task = stand_by.task
        begun: Begun[ResultT] = Begun(contextvars.copy_context())
        tasks._enter_task(self._loop, task)
        try:
            begun.context.run(lambda: begun.started(begin()))  # type: ignore[arg-type]
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - raised where it is awaited
            begun.ended, begun.error = True, error
        finally:
            tasks._leave_task(self._loop, task)
        if begun.ended and (task.cancelling() or task.done()):
            # It has cancelled its task, which was too late for it and must not meet another.
            self._stand_by = _StandBy(self._loop)
        return begun

    def go_on(self, begun: Begun[Any], rest: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let `rest`, which awaits `begun`, run in the task that its first step was made in."""
        task = self._stand_by.take_over(begun, rest)
        self._stand_by = _StandBy(self._loop)
        return task

    def close(self) -> None:
        """End the task that stands by."""
        self._stand_by.task.cancel()

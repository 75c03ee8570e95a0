"""Tasks that live as long as the server: an exception is logged and counted, and their work goes on.

A bare `asyncio.create_task` ends at the first exception that nobody thought of, in silence. The work of a lasting task
is begun again after a pause; one that fails again and again, or that has ended, is a standing problem
(`criimage.problems`) until it has run well for a while.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from criimage import problems
from criimage.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["END_SECONDS", "failures", "lasting"]

_log = structlog.get_logger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
SOUND_SECONDS = 10.0
"""Work that has run for so long, and no shorter than the pause before it, counts as well again."""
FAILURES_TOLD = 3
"""So many failures in a row are a standing problem."""
END_SECONDS = 2.0
"""How long the end of a task's work is waited for."""

_REMEDY = "the log has the fault; restarting the service may help"
_failures: dict[str, int] = {}


def failures() -> dict[str, int]:
    """Return how often the work of each lasting task has failed, by name; a task that never failed has 0."""
    return dict(_failures)


@asynccontextmanager
async def lasting(work: Callable[[], Awaitable[object]], name: str) -> AsyncIterator[None]:
    """Keep `work` running until the block is left; then it is cancelled and waited for, END_SECONDS at most.

    Args:
        work: called again after every failure; neither returns nor raises by itself. Returning, and a cancellation that
            came from within, count as failures.
        name: unique in the process and known beforehand: it becomes the label `task` of a metric.
    """
    _failures.setdefault(name, 0)
    task = _Lasting(work, name)
    try:
        yield
    finally:
        await task.end()


@dataclass(slots=True)
class _Streak:
    """Failures without a sound run between them."""

    count: int = 0
    pause: float = FIRST_PAUSE


class _Lasting:
    def __init__(self, work: Callable[[], Awaitable[object]], name: str) -> None:
        self._work, self._name, self._source = work, name, f"task {name}"
        self._streak = _Streak()
        self._ending = False
        self._task = self._started()

    def _started(self) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._run(), name=self._name)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        if self._ending:
            return
        # Somebody has cancelled the keeper itself, or it has failed: whoever it was had no business to.
        fault = None if task.cancelled() else task.exception()
        self._failed(fault or asyncio.CancelledError())
        self._task = self._started()

    async def end(self) -> None:
        self._ending = True
        self._task.cancel()
        _, late = await asyncio.wait({self._task}, timeout=END_SECONDS)
        if late:
            _log.warning("a task did not end in time", task=self._name)
        problems.forget(self._source)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sound = loop.call_later(max(SOUND_SECONDS, self._streak.pause), self._sound)
            fault: BaseException | None = None
            try:
                await self._work()
            except asyncio.CancelledError as cancelled:
                if self._ending:
                    raise
                # One that came from within is a fault like any other; the count would let it strike again.
                _uncancel()
                fault = cancelled
            except Exception as error:  # noqa: BLE001 - to outlive whatever it is, is what this is for
                fault = error
            finally:
                sound.cancel()
            self._failed(fault)
            await asyncio.sleep(self._streak.pause)
            self._streak.pause = min(2 * self._streak.pause, LONGEST_PAUSE)

    def _sound(self) -> None:
        self._streak = _Streak()
        problems.over(self._source)

    def _failed(self, fault: BaseException | None) -> None:
        _failures[self._name] += 1
        self._streak.count += 1
        kind = "it returned" if fault is None else type(fault).__name__
        _log.error("a task failed and is begun again", task=self._name, fault=kind, exc_info=fault)
        if self._streak.count >= FAILURES_TOLD:
            text = f"the task {self._name} fails again and again: {kind}"
            problems.tell(self._source, Problem(text, _REMEDY))


def _uncancel() -> None:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()

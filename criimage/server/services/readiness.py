"""Whether the service can do its work: what its backend's check finds, and what stands in `criimage.problems`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from criimage import problems
from criimage.problems import Problem
from criimage.rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Callable

    from criimage.backend import Backend

__all__ = ["CHECK_SECONDS", "WATCH_SECONDS", "Readiness"]

_BACKEND = "backend"

WATCH_SECONDS = 5.0
"""Between two looks of `watch`; whoever asks for health or a status has a look of his own."""

CHECK_SECONDS = 5.0
"""A backend that has not said by then whether it can work, cannot."""


class Readiness:
    """The one answer that health, `Status` and `criimage status` give.

    However often it is asked for, the backend makes one check at a time: one that hangs is no more than one.

    Args:
        backend: is asked each time.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._looks = Rounds(self._look, "look at the backend")
        self._check: asyncio.Task[tuple[Problem, ...]] | None = None
        self._told: set[str] = set()
        self._watching = False

    async def problems(self) -> list[tuple[str, Problem]]:
        """Return what is wrong now, each with its source; those of the backend have the source `backend`.

        Never fails and always ends: a check that raises or hangs is a problem itself. The check has begun after the
        call, unless it was hanging before.
        """
        found = await self._looks.answer()
        own = {source: problem for source, problem in problems.standing().items() if source not in self._told}
        return [*((_BACKEND, problem) for problem in found), *own.items()]

    async def watch(self, after: float = 0.0, settled: Callable[[], None] | None = None) -> None:
        """Look again and again, until cancelled: log and metric tell what a check finds as well, whoever asked for it.

        Args:
            after: seconds before the first look of its own.
            settled: is called once, after that look.
        """
        self._watching = True
        try:
            await asyncio.sleep(after)
            await self._looks.answer()
            if settled is not None:
                settled()
            while True:
                await asyncio.sleep(WATCH_SECONDS)
                await self._looks.answer()
        finally:
            self._watching = False
            for source in self._told:
                problems.forget(source)
            self._told = set()

    async def _look(self) -> tuple[Problem, ...]:
        """Return what a check finds now; told while somebody watches, in the order in which the checks began."""
        found = await self._found()
        if self._watching:
            self._tell(found)
        return found

    def _tell(self, found: tuple[Problem, ...]) -> None:
        # By its text: one that comes or goes leaves the others what they are.
        told = {f"{_BACKEND}: {problem.text}": problem for problem in found}
        for source in self._told - told.keys():
            problems.over(source)
        self._told = set(told)
        for source, problem in told.items():
            problems.tell(source, problem)

    async def _found(self) -> tuple[Problem, ...]:
        check = self._check
        if check is None:
            check = self._check = asyncio.create_task(self._backend.check(), name="backend check")
            check.add_done_callback(self._checked)
        # Waited for and not cancelled: what hangs in a thread cannot be stopped, and would keep whoever tried to.
        await asyncio.wait({check}, timeout=CHECK_SECONDS)
        if not check.done():
            text = f"the backend has not said within {CHECK_SECONDS:.0f} s whether it can work"
            return (Problem(text, "see what it waits for: its files or its engine"),)
        if not check.cancelled() and (error := check.exception()) is None:
            return check.result()
        kind = "CancelledError" if check.cancelled() else type(error).__name__
        return (Problem(f"the backend's check failed: {kind}", "report this fault"),)

    def _checked(self, check: asyncio.Task[tuple[Problem, ...]]) -> None:
        self._check = None
        if not check.cancelled():
            check.exception()  # mark as seen: nobody may have waited so long

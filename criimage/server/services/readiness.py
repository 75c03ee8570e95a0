"""Whether the service can do its work: what its backend's check finds, and what stands in `criimage.problems`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from criimage import problems
from criimage.problems import Problem

if TYPE_CHECKING:
    from criimage.backend import Backend

__all__ = ["CHECK_SECONDS", "WATCH_SECONDS", "Readiness"]

_BACKEND = "backend"

WATCH_SECONDS = 5.0
"""Between two looks of `watch`; whoever asks for health or a status has a look of his own."""

CHECK_SECONDS = 5.0
"""A backend that has not said by then whether it can work, cannot."""


class Readiness:
    """The one answer that health, `Status` and `criimage status` give.

    Args:
        backend: is asked each time.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._told: set[str] = set()
        self._watching = False
        self._looks = 0
        self._newest_told = 0

    async def problems(self) -> list[tuple[str, Problem]]:
        """Return what is wrong now, each with its source; those of the backend have the source `backend`.

        Never fails and always ends: a check that raises or hangs is a problem itself.
        """
        found = await self._look()
        own = {source: problem for source, problem in problems.standing().items() if source not in self._told}
        return [*((_BACKEND, problem) for problem in found), *own.items()]

    async def watch(self) -> None:
        """Look again and again, until cancelled: log and metric tell what the check finds as well."""
        self._watching = True
        try:
            while True:
                await self._look()
                await asyncio.sleep(WATCH_SECONDS)
        finally:
            self._watching = False
            for source in self._told:
                problems.forget(source)
            self._told = set()

    async def _look(self) -> tuple[Problem, ...]:
        """What a check finds now; told while somebody watches, unless a look that began later has been told already.

        One that takes long has seen what was, not what is: it must not take back what a later one has found.
        """
        self._looks += 1
        number = self._looks
        found = await self._checked()
        if self._watching and number > self._newest_told:
            self._newest_told = number
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

    async def _checked(self) -> tuple[Problem, ...]:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await self._backend.check()
        except TimeoutError:
            text = f"the backend has not said within {CHECK_SECONDS:.0f} s whether it can work"
            return (Problem(text, "see what it waits for: its files or its engine"),)
        except Exception as error:  # noqa: BLE001 - whatever a backend raises, this call's answer is that it cannot work
            return (Problem(f"the backend's check failed: {type(error).__name__}", "report this fault"),)

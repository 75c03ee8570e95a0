"""Whether the service can do its work: what its backend's check finds, and what stands in `criimage.problems`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from criimage import problems
from criimage.problems import Problem

if TYPE_CHECKING:
    from criimage.backend import Backend

__all__ = ["CHECK_SECONDS", "Readiness"]

CHECK_SECONDS = 5.0
"""A backend that has not said by then whether it can work, cannot."""


class Readiness:
    """The one answer that health, `Status` and `criimage status` give.

    Args:
        backend: is asked each time.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def problems(self) -> list[tuple[str, Problem]]:
        """Return what is wrong now, each with its source; those of the backend have the source `backend`.

        Never fails and always ends: a check that raises or hangs is a problem itself.
        """
        return [*(("backend", problem) for problem in await self._checked()), *problems.standing().items()]

    async def _checked(self) -> tuple[Problem, ...]:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await self._backend.check()
        except TimeoutError:
            text = f"the backend has not said within {CHECK_SECONDS:.0f} s whether it can work"
            return (Problem(text, "see what it waits for: its files or its engine"),)
        except Exception as error:  # noqa: BLE001 - whatever a backend raises, this call's answer is that it cannot work
            return (Problem(f"the backend's check failed: {type(error).__name__}", "report this fault"),)

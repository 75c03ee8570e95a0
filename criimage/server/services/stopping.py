"""How streams that never end by themselves learn that the server stops."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["Stopping"]


class Stopping:
    """Set once, when the server takes no more calls."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def begin(self) -> None:
        """Let every pause end."""
        self._event.set()

    async def pause(self, seconds: float) -> None:
        """Sleep, but no longer than until the server stops."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()

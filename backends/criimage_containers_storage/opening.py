"""A context that is entered when somebody first needs it, once for all, and left when its owner ends."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Generic, TypeVar

from criimage_containers_storage.finishing import settled

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["Opening"]

T = TypeVar("T")


class Opening(Generic[T]):
    """Enters a context for the first who asks, and gives what it yields to all.

    Args:
        make: makes the context; again after an entering that failed.

    Attributes:
        value: what it has yielded; None until then.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self.value: T | None = None
        self._make = make
        self._stack = AsyncExitStack()
        # What lives as long as the context is nothing of the call that happens to be the first.
        self._context = contextvars.copy_context()
        self._entering: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return what the context yields; a caller that is cancelled leaves the entering to itself.

        Raises:
            Exception: whatever entering raised; the next caller tries again.
        """
        if self.value is not None:
            return self.value
        if self._entering is None:
            self._entering = asyncio.create_task(self._enter(), context=self._context)
        entering = self._entering
        await asyncio.wait({entering})
        return entering.result()

    async def close(self) -> None:
        """Leave the context if it was entered; one that is being entered is waited for."""
        cancelled = self._entering is not None and await settled(self._entering)
        self.value = None
        await self._stack.aclose()
        if cancelled:
            raise asyncio.CancelledError

    async def _enter(self) -> T:
        try:
            self.value = await self._stack.enter_async_context(self._make())
            return self.value
        finally:
            self._entering = None

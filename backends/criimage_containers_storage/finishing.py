"""Work that has to come to its end although whoever began it is cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["finish", "settled"]

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

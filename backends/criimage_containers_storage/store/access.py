"""Keeps deletions and copies apart (cri-o T10).

A deletion can take away a layer that a running copy has decided to reuse; the copy then fails with `layer not known`
and has to begin again. So a deletion waits for a moment in which nothing is copied, but not for long: a copy may take
minutes or hang, and disk space is wanted now. What has waited in vain once is not waited for again by the next
deletion. The store itself stays consistent either way.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from criimage.backend import waiting_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["StoreAccess"]


class StoreAccess:
    """Copies pass together; deletions one at a time, without copies if that can be had within `patience` seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._copies = 0
        self._waited_in_vain = False
        self._no_copy = asyncio.Event()
        self._no_copy.set()
        self._deletion = asyncio.Lock()
        self._no_deletion = asyncio.Event()
        self._no_deletion.set()

    @contextlib.asynccontextmanager
    async def shared(self, waits: Callable[[], None]) -> AsyncIterator[None]:
        """Hold while a copy runs; waits only for a deletion that runs already, and calls `waits` if it has to.

        How long that may take is the core's to say (`store_timeout`, and `remove_timeout` of the deletion).
        """
        while not self._no_deletion.is_set():
            waits()
            await self._no_deletion.wait()
        self._copies += 1
        self._no_copy.clear()
        try:
            yield
        finally:
            self._copies -= 1
            if not self._copies:
                self._waited_in_vain = False
                self._no_copy.set()

    @contextlib.asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold while a deletion runs."""
        with waiting_for("another deletion in the store"):
            await self._deletion.acquire()
        try:
            if self._copies and not self._waited_in_vain:
                with waiting_for("the pulls that run"):
                    await self._moment_without_copies()
            self._no_deletion.clear()
            yield
        finally:
            self._no_deletion.set()
            self._deletion.release()

    async def _moment_without_copies(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                while self._copies:
                    await self._no_copy.wait()
        except TimeoutError:
            self._waited_in_vain = True

"""How many pulls run at once, in all and from one registry.

First come, first served within a registry. Registries do not wait for each other: a registry that has its share leaves
its places in the whole to others, and a pull that stands still gives its place in the whole away until it moves again,
so that hung registries cannot fill it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.pulls.policy import PullPolicy

__all__ = ["Place", "Places"]


class Place:
    """One running pull's place."""

    def __init__(self, places: Places, registry: str) -> None:
        self._places = places
        self.registry = registry
        self.moving = True

    def stands_still(self) -> None:
        """Let another pull go ahead: nothing has moved here for a while."""
        if self.moving:
            self.moving = False
            self._places.admit()

    def moves(self) -> None:
        """Count again; nobody who went ahead is stopped for it."""
        self.moving = True


class Places:
    """Hands out places.

    Args:
        policy: how many there are.
    """

    def __init__(self, policy: PullPolicy) -> None:
        self.policy = policy
        self._taken: set[Place] = set()
        self._queue: deque[tuple[str, asyncio.Future[Place]]] = deque()

    @asynccontextmanager
    async def take(self, registry: str) -> AsyncIterator[Place]:
        """Wait for a place and hold it; a cancel while waiting leaves the queue."""
        future: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._queue.append((registry, future))
        self.admit()
        try:
            place = await future
        except asyncio.CancelledError:
            self._leave(future)
            raise
        try:
            yield place
        finally:
            self._give_back(place)

    def admit(self) -> None:
        """Let in everybody for whom there is a place, in the order they came."""
        waiting: deque[tuple[str, asyncio.Future[Place]]] = deque()
        for registry, future in self._queue:
            if future.cancelled():
                continue
            if self._has_place(registry):
                place = Place(self, registry)
                self._taken.add(place)
                future.set_result(place)
            else:
                waiting.append((registry, future))
        self._queue = waiting

    def _has_place(self, registry: str) -> bool:
        if self.policy.parallel and sum(place.moving for place in self._taken) >= self.policy.parallel:
            return False
        share = self.policy.of(registry).parallel
        return not share or sum(place.registry == registry for place in self._taken) < share

    def _leave(self, future: asyncio.Future[Place]) -> None:
        if future.done() and not future.cancelled():
            self._give_back(future.result())  # the place came in the same moment as the cancel
        else:
            self._queue = deque(entry for entry in self._queue if entry[1] is not future)

    def _give_back(self, place: Place) -> None:
        self._taken.discard(place)
        self.admit()

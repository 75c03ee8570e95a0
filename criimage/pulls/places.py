"""How many pulls run at once, in all and from one registry.

First come, first served within a registry. Between registries the one that holds the fewest places is next, so that a
long queue for one does not keep the others waiting. A registry that has its share leaves its places in the whole to
others, and a pull that stands still leaves its place to other registries until it moves again: hung registries cannot
fill the whole, and none of them gets more places than the whole has.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
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
        """Let another registry's pull go ahead: nothing has moved here for a while."""
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
        self._queues: dict[str, deque[asyncio.Future[Place]]] = {}

    @asynccontextmanager
    async def take(self, registry: str) -> AsyncIterator[Place]:
        """Wait for a place and hold it; a cancel while waiting leaves the queue."""
        future: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(registry, deque()).append(future)
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
        """Let in everybody for whom there is a place."""
        while (registry := self._next_registry()) is not None:
            future = self._queues[registry].popleft()
            if not future.cancelled():
                place = Place(self, registry)
                self._taken.add(place)
                future.set_result(place)

    def _next_registry(self) -> str | None:
        """Return the registry whose first one in the queue is next; the dict has them as they came."""
        limit = self.policy.parallel
        held = Counter(place.registry for place in self._taken)
        still = Counter(place.registry for place in self._taken if not place.moving)
        moving = len(self._taken) - still.total()
        found = None
        for registry, queue in list(self._queues.items()):
            if not queue:
                del self._queues[registry]
                continue
            share = self.policy.of(registry).parallel
            has_place = not limit or moving + still[registry] < limit
            has_share = not share or held[registry] < share
            if has_place and has_share and (found is None or held[registry] < held[found]):
                found = registry
        return found

    def _leave(self, future: asyncio.Future[Place]) -> None:
        # A future that is waited for is cancelled with the waiter, and passed over when its turn comes.
        if not future.cancelled():
            self._give_back(future.result())  # the place came in the same moment as the cancel

    def _give_back(self, place: Place) -> None:
        self._taken.discard(place)
        self.admit()

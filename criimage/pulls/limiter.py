"""How many pulls run at once, in all and from one registry.

First come, first served within a registry. Between registries the one that holds the fewest slots is next, so that a
long queue for one does not keep the others waiting. A registry that has its share leaves its slots in the whole to
others, and a pull that stands still leaves its slot to other registries until it moves again: hung registries cannot
fill the whole, and none of them gets more slots than the whole has.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.pulls.policy import PullPolicy

__all__ = ["Limiter", "Slot"]


class Slot:
    """One running pull's slot."""

    def __init__(self, limiter: Limiter, registry: str) -> None:
        self._limiter = limiter
        self.registry = registry
        self.moving = True

    def stands_still(self) -> None:
        """Let another registry's pull go ahead: nothing has moved here for a while."""
        if self.moving:
            self.moving = False
            self._limiter.admit()

    def moves(self) -> None:
        """Count again; nobody who went ahead is stopped for it."""
        self.moving = True


class Limiter:
    """Hands out slots.

    Args:
        policy: how many there are.
    """

    def __init__(self, policy: PullPolicy) -> None:
        self.policy = policy
        self._taken: set[Slot] = set()
        self._queues: dict[str, deque[asyncio.Future[Slot]]] = {}

    @asynccontextmanager
    async def take(self, registry: str) -> AsyncIterator[Slot]:
        """Wait for a slot and hold it; a cancel while waiting leaves the queue."""
        future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(registry, deque()).append(future)
        self.admit()
        try:
            slot = await future
        except asyncio.CancelledError:
            self._leave(future)
            raise
        try:
            yield slot
        finally:
            self._give_back(slot)

    def admit(self) -> None:
        """Let in everybody for whom there is a slot."""
        while (registry := self._next_registry()) is not None:
            future = self._queues[registry].popleft()
            if not future.cancelled():
                slot = Slot(self, registry)
                self._taken.add(slot)
                future.set_result(slot)

    def _next_registry(self) -> str | None:
        """Return the registry whose first one in the queue is next; the dict has them as they came."""
        limit = self.policy.parallel
        held = Counter(slot.registry for slot in self._taken)
        still = Counter(slot.registry for slot in self._taken if not slot.moving)
        moving = len(self._taken) - still.total()
        found = None
        for registry, queue in list(self._queues.items()):
            if not queue:
                del self._queues[registry]
                continue
            share = self.policy.of(registry).parallel
            has_slot = not limit or moving + still[registry] < limit
            has_share = not share or held[registry] < share
            if has_slot and has_share and (found is None or held[registry] < held[found]):
                found = registry
        return found

    def _leave(self, future: asyncio.Future[Slot]) -> None:
        # A future that is waited for is cancelled with the waiter, and passed over when its turn comes.
        if not future.cancelled():
            self._give_back(future.result())  # the slot came in the same moment as the cancel

    def _give_back(self, slot: Slot) -> None:
        self._taken.discard(slot)
        self.admit()

"""What the engine has, without asking it every time.

A listing is used again while the engine's events say that nothing has changed. What makes that right (A6, A8):

- An image event of any kind but `save` and `push` ends the listing. Events do not say enough to mend it: an untag does
  not tell which tag, and the image that loses a stolen tag has no event at all.
- What this process did itself ends it before the call that did it returns: the engine's event may come half a
  millisecond after its reply. A pull of ours does not end it where one inspect tells what the pull did.
- The listing must have been asked for after the event stream began, and ends with it.
- It ends after a while in any case.

Without a live stream, or with the cache switched off, every call gets a listing that was begun after the call; calls
that come while one is under way share the next one, so that a store under load is asked one question at a time.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

from criimage.errors import CriimageError, OperationFailed
from criimage_docker.engine.api import Refusal
from criimage_docker.engine.records import convert, created, is_of_containerd
from criimage_docker.view.snapshot import SnapshotMaker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage.backend import Image
    from criimage.reference import Reference
    from criimage_docker.engine.api import Engine
    from criimage_docker.view.snapshot import Snapshot

__all__ = ["View"]

_EVENT_SECONDS = 2.0
"""How long after the end of a pull its event may come; half a millisecond was seen."""


class View:
    """The engine's images as they are now.

    Args:
        engine: is asked.
        enabled: whether a listing may be used again at all.
        ttl: seconds after which it may not, whatever the events say.

    Attributes:
        listings: how many times the engine was asked for all its images.
    """

    def __init__(self, engine: Engine, *, enabled: bool, ttl: float) -> None:
        self._engine = engine
        self._enabled = enabled
        self._ttl = ttl
        self._live = False
        self._generation = 0
        self._kept: tuple[Snapshot, int, float] | None = None
        self._maker = SnapshotMaker()
        self._running: asyncio.Task[Snapshot] | None = None
        self._running_generation = -1
        self._next: asyncio.Task[Snapshot] | None = None
        self._own_pulls: dict[str, list[float]] = {}
        self.listings = 0

    def changed(self) -> None:
        """Say that something may have changed: calls that begin from now on see what the engine has from now on."""
        self._generation += 1

    def live(self, alive: bool) -> None:
        """Say whether changes are being reported from now on."""
        self._live = alive
        # What was waited for may have been missed.
        self._own_pulls.clear()
        self.changed()

    def expect(self, event: str) -> None:
        """Say that a pull of ours begins: its event, named so, is no news, for `pulled` tells what it did.

        Others may pull the same at the same time; each pull has an event of its own, so one of two still counts.
        """
        self._own_pulls.setdefault(event, []).append(math.inf)

    def unexpect(self, event: str, *, soon: bool) -> None:
        """Say that a pull of ours has ended; a failed one has no event, that of another may come a moment later."""
        waiting = self._own_pulls.get(event, [])
        if math.inf in waiting:
            waiting.remove(math.inf)
            if soon:
                waiting.append(time.monotonic() + _EVENT_SECONDS)
        if not waiting:
            self._own_pulls.pop(event, None)

    def pull_event(self, event: str) -> None:
        """Take an event of a pull, ours or another's."""
        now = time.monotonic()
        waiting = [until for until in self._own_pulls.pop(event, []) if until > now]
        if not waiting:
            self.changed()
            return
        waiting.remove(min(waiting))
        if waiting:
            self._own_pulls[event] = waiting

    def pulled(self, reference: Reference, inspected: Mapping[str, Any]) -> Image | None:
        """Take over what a pull of ours did, if that is known without a listing; else `changed` is called.

        For a graph driver's image an inspect tells what the list would; the containerd store's tells another size. An
        image that is here as it was needs nothing at all.

        Args:
            reference: was pulled.
            inspected: the engine's answer about it, asked for afterwards.

        Returns:
            the image, or None if a listing is needed.
        """
        kept = self._kept
        if kept is not None and self._trusted and kept[1] == self._generation:
            snapshot, _, until = kept
            known = snapshot.with_name(reference)
            if is_of_containerd(inspected):
                if known is not None and str(known.id) == inspected.get("Id"):
                    return known
            else:
                after = self._with_pulled(snapshot, reference, inspected)
                if after is not None:
                    # A listing that was begun before is older than this.
                    if after is not snapshot:
                        self._generation += 1
                        self._maker.replace(after)
                        self._kept = (after, self._generation, until)
                    return after.with_name(reference)
        self.changed()
        return None

    @staticmethod
    def _with_pulled(snapshot: Snapshot, reference: Reference, inspected: Mapping[str, Any]) -> Snapshot | None:
        try:
            pulled = convert(inspected)
        except ValueError:
            return None
        return snapshot.with_pulled(reference, created(inspected), pulled)

    async def snapshot(self) -> Snapshot:
        """Return the images; asks the engine if needed.

        Raises:
            BackendUnavailable: it does not answer.
            OperationFailed: it answers with an error.
        """
        kept = self._kept
        if kept is not None and self._trusted and kept[1] == self._generation and time.monotonic() < kept[2]:
            return kept[0]
        try:
            return await asyncio.shield(self._listing())
        except CriimageError as error:
            # One exception object in several tasks would gather the tracebacks of all.
            raise error.for_another_waiter() from error.__cause__

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = [task for task in (self._next, self._running) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def _trusted(self) -> bool:
        return self._enabled and self._live

    def _listing(self) -> asyncio.Task[Snapshot]:
        if self._running is not None and self._trusted and self._running_generation == self._generation:
            return self._running
        # The next one has not begun: it will see whatever is true now.
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(
                self._list(self._running), name="list the engine's images"
            )
            self._next.add_done_callback(self._ended)
        return self._next

    def _ended(self, task: asyncio.Task[Snapshot]) -> None:
        if self._running is task:
            self._running = None
        if self._next is task:
            self._next = None
        if not task.cancelled():
            task.exception()  # mark as seen: those who waited have got it

    async def _list(self, before: asyncio.Task[Snapshot] | None) -> Snapshot:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._next = self._next, None
        generation = self._running_generation = self._generation
        self.listings += 1
        try:
            snapshot = self._maker.make(await self._engine.images())
        except Refusal as refusal:
            raise OperationFailed(f"the Docker engine cannot list its images: {refusal.message}") from refusal
        if self._kept is None or self._kept[1] <= generation:
            self._kept = (snapshot, generation, time.monotonic() + self._ttl)
        return snapshot

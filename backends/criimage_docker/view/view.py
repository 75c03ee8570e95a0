"""What the engine has, without asking it every time.

A listing is used again while the engine's events say that nothing has changed. What makes that right (A6, A8):

- An image event of any kind but `save` ends the listing. Events do not say enough to mend it: an untag does not tell
  which tag, the image that loses a stolen tag has no event at all, and a push gives the image another digest.
- What this process did itself ends it before the call that did it returns: the engine's event may come half a
  millisecond after its reply. A pull of ours does not end it where one inspect tells what the pull did.
- The listing must have been asked for after the event stream began, and ends with it.
- It ends after a while in any case: after seconds where the engine is known to change images without an event.

Without a live stream, or with the cache switched off, every call gets a listing that was begun after the call; calls
that come while one is under way share the next one, so that a store under load is asked one question at a time.

That a listing does not have an image is no proof that the engine has not: see `criimage_docker.view.finder`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Any

from criimage.reference import Reference
from criimage.rounds import Rounds
from criimage_docker.engine.answers import NOT_FOUND, Refusal
from criimage_docker.engine.features import UNKNOWN
from criimage_docker.engine.records import convert, created, is_of_containerd
from criimage_docker.engine.words import refused
from criimage_docker.view.snapshot import Snapshot, SnapshotMaker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from criimage.backend import Image
    from criimage.reference import ImageID
    from criimage_docker.engine.api import Engine
    from criimage_docker.engine.features import Features

__all__ = ["View"]

_EVENT_SECONDS = 2.0
"""How long after the end of a pull its event may come; half a millisecond was seen."""

_LAG = 5.0
"""Seconds after which a list shows what changed without an event."""

_UNLISTED_KEPT = 1000


class View:
    """The engine's images as they are now.

    Args:
        engine: is asked.
        enabled: whether a listing may be used again at all.
        ttl: seconds after which it may not, whatever the events say.

    Attributes:
        generation: grows with each change that may have happened.
        listings: how many times the engine was asked for all its images.
    """

    def __init__(self, engine: Engine, *, enabled: bool, ttl: float) -> None:
        self._engine = engine
        self._enabled = enabled
        self._ttl = ttl
        self._features: Features | None = None
        self.generation = 0
        self._kept: tuple[Snapshot, int, float] | None = None
        # Named images that the engine's list leaves out, by what an inspect told of them.
        self._unlisted: dict[ImageID, Image] = {}
        self._maker = SnapshotMaker()
        self._rounds = Rounds(self._list, "list the engine's images")
        self._running_generation = -1
        self._mending = 0
        self._own_pulls: dict[str, list[float]] = {}
        self.listings = 0

    def changed(self) -> None:
        """Say that something may have changed: calls that begin from now on see what the engine has from now on."""
        self.generation += 1

    def live(self, features: Features | None) -> None:
        """Say that changes are being reported from now on, by an engine with these features; None: no more."""
        self._features = features
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

    def pull_event(self, event: str) -> bool:
        """Take an event of a pull, and tell whether it was somebody else's: then what it did is to be found out."""
        now = time.monotonic()
        waiting = [until for until in self._own_pulls.pop(event, []) if until > now]
        if not waiting:
            return True
        waiting.remove(min(waiting))
        if waiting:
            self._own_pulls[event] = waiting
        return False

    @contextlib.contextmanager
    def mending(self) -> Iterator[None]:
        """While the block runs, the last listing counts for nobody: what a pull did is being found out."""
        self._mending += 1
        try:
            yield
        except BaseException:
            self.changed()
            raise
        finally:
            self._mending -= 1

    def names(self, reference: Reference) -> bool:
        """Tell whether an image had this name when the engine was listed last, which is no long time ago."""
        return self._kept is not None and self._age < self._ttl and self._kept[0].with_name(reference) is not None

    def unchanged(self, reference: Reference, digest: str) -> Image | None:
        """Return the image that a pull has left as it was, if that is certain without asking.

        Args:
            reference: was pulled, and the engine said that nothing is new.
            digest: of the manifest that the registry answered.
        """
        known = None if self._kept is None or self._age >= self._ttl else self._kept[0].with_name(reference)
        return known if known is not None and any(name.digest == digest for name in known.digests) else None

    def pulled(self, reference: Reference, inspected: Mapping[str, Any], *, same: bool) -> Image | None:
        """Take over what a pull of ours did, if that is known without a listing; else `changed` is called.

        For a graph driver's image an inspect tells what the list would; the containerd store's tells another size. An
        image that is here as it was needs nothing at all.

        Args:
            reference: was pulled.
            inspected: the engine's answer about it, asked for afterwards.
            same: whether its content is what it was when the engine was last asked about it.

        Returns:
            the image, or None if a listing is needed.
        """
        kept = self._kept
        if kept is not None and self.trusted and kept[1] == self.generation:
            snapshot, _, began = kept
            known = snapshot.with_name(reference)
            if is_of_containerd(inspected):
                if same and known is not None and str(known.id) == inspected.get("Id"):
                    return known
            else:
                after = self._with_pulled(snapshot, reference, inspected)
                if after is not None:
                    # A listing that was begun before is older than this.
                    if after is not snapshot:
                        self.generation += 1
                        self._maker.replace(after)
                        self._kept = (after, self.generation, began)
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
        """Return the images for a list: seconds old where the engine does not tell of every change.

        Raises:
            BackendUnavailable: it does not answer.
            OperationFailed: it answers with an error.
        """
        lag = self._ttl if self._features is None or self._features.tells_all else min(self._ttl, _LAG)
        age = self._age
        if self._kept is not None and age < lag:
            if age > lag / 2 and lag < self._ttl:
                # Compared in the background, so that who asks again and again need not wait.
                self._rounds.begin(current=self._current)
            return self._kept[0]
        return await self._rounds.answer(current=self._current)

    async def latest(self) -> tuple[Snapshot, bool]:
        """Return the last listing that no event has ended, and whether it was begun after the call.

        Raises:
            BackendUnavailable: the engine does not answer.
            OperationFailed: it answers with an error.
        """
        if self._kept is not None and self._age < self._ttl:
            return self._kept[0], False
        return await self._rounds.answer(current=self._current), True

    def known(self, image: ImageID) -> Image | None:
        """Return an image as the last listing has it, if that still counts."""
        return None if self._kept is None or self._age == math.inf else self._kept[0].with_id(image.hex)

    def shows(self, key: ImageID | Reference) -> bool:
        """Tell whether the last listing has an image."""
        if self._kept is None:
            return False
        found = self._kept[0].with_name(key) if isinstance(key, Reference) else self._kept[0].with_id(key.hex)
        return found is not None

    def unlisted(self, inspected: Mapping[str, Any], image: Image) -> None:
        """Take in an image with names that the engine's list leaves out: later lists have it until it is gone."""
        if len(self._unlisted) < _UNLISTED_KEPT:
            self._unlisted[image.id] = image
            if self._kept is not None:
                snapshot, generation, made = self._kept
                if snapshot.with_id(image.id.hex) is None:
                    snapshot = Snapshot([*snapshot.entries, (created(inspected), image)])
                    self._maker.replace(snapshot)
                    self._kept = (snapshot, generation, made)

    async def close(self) -> None:
        """Stop what is under way."""
        if ending := self._rounds.close():
            await asyncio.wait(ending)

    @property
    def trusted(self) -> bool:
        """Whether changes are being reported."""
        return self._enabled and self._features is not None

    @property
    def tells_removals(self) -> bool:
        """Whether an image of the last listing would have had an event if it were gone."""
        return self.trusted and (self._features or UNKNOWN).tells_removals

    @property
    def _age(self) -> float:
        """Of the last listing, in seconds; infinite if an event has ended it."""
        if self._kept is None or not self.trusted or self._kept[1] != self.generation or self._mending:
            return math.inf
        return time.monotonic() - self._kept[2]

    @property
    def _current(self) -> bool:
        """Whether a listing that runs, if there is one, has seen all that has changed until now."""
        return self.trusted and self._running_generation == self.generation and not self._mending

    async def _list(self) -> Snapshot:
        generation = self._running_generation = self.generation
        self.listings += 1
        began = time.monotonic()
        try:
            listed = await self._engine.images()
            snapshot = self._maker.make([*listed, *await self._left_out(listed)])
        except Refusal as refusal:
            raise refused(refusal, "list its images") from refusal
        if self._kept is None or self._kept[1] <= generation:
            self._kept = (snapshot, generation, began)
        return snapshot

    async def _left_out(self, listed: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return what the engine now tells about the named images that its list leaves out."""
        ids = {str(one.get("Id")).removeprefix("sha256:") for one in listed} if self._unlisted else set()
        found: list[Mapping[str, Any]] = []
        for image in list(self._unlisted):
            try:
                inspected = None if image.hex in ids else await self._engine.inspect(image)
            except Refusal as refusal:
                if refusal.status != NOT_FOUND:
                    raise
                inspected = None
            if inspected is None or not (inspected.get("RepoTags") or inspected.get("RepoDigests")):
                del self._unlisted[image]
            else:
                found.append(inspected)
        return found

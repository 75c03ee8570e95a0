"""Removes an image with all its names, or nothing (R1-R11)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import structlog

from criimage.backend import waiting_for
from criimage.disk_failures import disk_failure
from criimage.errors import CriimageError, ImageInUse, OperationFailed
from criimage.keyed_locks import KeyedLocks
from criimage.masking import mask_forms
from criimage.reference import ImageID, shown
from criimage_docker.engine.answers import CONFLICT, NOT_FOUND, Refusal
from criimage_docker.engine.records import convert, unreadable_names
from criimage_docker.engine.words import STORE, tidy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from criimage.backend import Image
    from criimage.reference import Lookup, Reference
    from criimage_docker.engine.api import Engine
    from criimage_docker.view.finder import Finder
    from criimage_docker.view.view import View

__all__ = ["Remover"]

_log = structlog.get_logger(__name__)

_ROUNDS = 3
"""How often an image is removed that others name again meanwhile."""

RESTORE_SECONDS = 3.0
"""How long whoever waited for a removal that was cancelled waits for the names to come back."""
_NAMED_AGAIN = "referenced in multiple repositories"


class Remover:
    """Removes images of one engine, each by one caller at a time.

    Args:
        engine: does it.
        view: is told.
        finder: asks the engine for the image.
    """

    def __init__(self, engine: Engine, view: View, finder: Finder) -> None:
        self._engine = engine
        self._view = view
        self._finder = finder
        self._locks = KeyedLocks[ImageID]()
        self._restoring: set[asyncio.Task[None]] = set()

    async def remove(self, lookup: Lookup) -> None:
        """Remove the image that the lookup finds; none is no error (R4, R11).

        When it returns, the engine itself has said that the image is gone. After an error the image has its tags; after
        a cancel they come back in a task of their own, for which the caller waits some seconds.

        Raises:
            ImageInUse: a container, running or not, was made of it (R9), or an image was built on it here; nothing was
                removed.
            OperationFailed: the engine refused.
        """
        with waiting_for("the Docker engine"):
            await self._remove_found(lookup)

    async def _remove_found(self, lookup: Lookup) -> None:
        found = await self._finder.find(lookup, ask=True)
        if found is None:
            return
        async with self._alone(found.image.id):
            removed: list[Reference] = []
            try:
                await self._remove_in_rounds(found.image.id, removed)
            except (ImageInUse, OperationFailed):
                await self._give_back(found.image.id, removed)
                raise
            except BaseException:
                # It took too long, the operator has ended it, or the engine does not answer: no name is lost for that,
                # as soon as the engine answers again.
                await self._give_back(found.image.id, removed, timeout=RESTORE_SECONDS)
                raise

    async def _remove_in_rounds(self, image: ImageID, removed: list[Reference]) -> None:
        """Remove an image, again where others name it meanwhile; the names that were taken are added to `removed`."""
        for _ in range(_ROUNDS):
            # Whoever was first may have removed it, or given it other names.
            inspected = await self._inspect(image)
            if inspected is None:
                return
            await self._remove(image, inspected, removed)
        if await self._inspect(image) is not None:
            raise OperationFailed(f"image {image} was given new names each time it was removed")

    async def finish(self) -> None:
        """Wait until names that a stopped removal had taken are given back, seconds at most."""
        if self._restoring:
            _, late = await asyncio.wait(self._restoring, timeout=RESTORE_SECONDS)
            for restoring in late:
                restoring.cancel()

    @contextlib.asynccontextmanager
    async def _alone(self, image: ImageID) -> AsyncIterator[None]:
        with self._locks.of(image) as lock:
            with waiting_for("another removal of the image"):
                await lock.acquire()
            try:
                yield
            finally:
                lock.release()

    async def _inspect(self, image: ImageID) -> Mapping[str, Any] | None:
        try:
            return await self._engine.inspect(image)
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise _failure(refusal) from refusal
            self._view.changed()
            return None

    async def _remove(self, found: ImageID, inspected: Mapping[str, Any], removed: list[Reference]) -> None:
        # All that the engine could refuse for is looked at before anything changes: a graph driver's engine takes the
        # repository's digests away with its last tag, and nothing but a pull can give those back.
        unreadable = unreadable_names(inspected)
        if unreadable:
            name = shown(unreadable[0])
            raise OperationFailed(f"image {found} has names that cannot be read, nothing was removed: {name}")
        try:
            image = convert(inspected)
            users = await self._engine.containers_of(found)
            children = () if users else await self._children(found)
        except ValueError as error:
            raise OperationFailed(f"what the Docker engine tells about {found} cannot be read: {error}") from error
        except Refusal as refusal:
            if refusal.status == NOT_FOUND:
                return
            raise _failure(refusal) from refusal
        if users:
            raise ImageInUse(f"image {found} is used by container {', '.join(users)}")
        if children:
            raise ImageInUse(f"image {found} is the parent of image {', '.join(children)}")
        await self._remove_names(image, removed)

    async def _remove_names(self, image: Image, removed: list[Reference]) -> None:
        try:
            # Tag by tag, because the engine refuses an ID with several names unless it is forced, and force would take
            # the image away under a stopped container (R3, R7, R9). The last repository goes with the ID: then the
            # engine looks for users before it takes the names.
            for name in _all_but_the_last(image):
                # A tag that has moved meanwhile is another image's, perhaps its only name: it would go with that.
                if name.tag is None or await self._holder(name) == str(image.id):
                    removed.append(name)
                    await self._deleted(name)
            await self._deleted(image.id)
        except Refusal as refusal:
            if refusal.status == CONFLICT and _NAMED_AGAIN in refusal.message:
                return  # by somebody else, meanwhile: the next round
            raise _failure(refusal) from refusal
        finally:
            self._view.changed()

    async def _give_back(self, image: ImageID, removed: list[Reference], *, timeout: float | None = None) -> None:
        """Give back the tags: a container can be made between the look at the containers and the last removal (R9).

        In a task of its own, which goes on when nobody waits for it any more.
        """
        if not removed:
            return
        restoring = asyncio.create_task(self._restore(image, removed), name=f"give back the tags of {image}")
        self._restoring.add(restoring)
        restoring.add_done_callback(self._restoring.discard)
        await asyncio.wait({restoring}, timeout=timeout)

    async def _children(self, image: ImageID) -> tuple[str, ...]:
        """Return the images that were built on this one, where the engine would not remove it for them.

        The containerd store removes an image whatever was built on it.
        """
        if (await self._engine.features()).containerd_store:
            return ()
        found = await self._engine.images(hidden=True)
        return tuple(sorted(str(one.get("Id")) for one in found if one.get("ParentId") == str(image)))

    async def _deleted(self, what: Reference | ImageID) -> None:
        """Delete a name or an ID; one that is gone already is as good (R5)."""
        try:
            await self._engine.delete(what)
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise

    async def _holder(self, name: Reference) -> str:
        """Return the ID of the image that has a name now; empty if none has."""
        try:
            return str((await self._engine.inspect(name)).get("Id"))
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return ""

    async def _restore(self, image: ImageID, removed: list[Reference]) -> None:
        for name in dict.fromkeys(removed):
            if name.tag is not None:
                try:
                    # Somebody may have pulled or built another image under it since: the engine would move it back. One
                    # that is still there may be about to go: a deletion that was given up may come yet.
                    if await self._holder(name) in {"", str(image)}:
                        await self._engine.tag(image, name)
                except (CriimageError, Refusal) as error:
                    _log.warning("a removed tag could not be restored", name=str(name), reason=str(error))
        self._view.changed()


def _all_but_the_last(image: Image) -> tuple[Reference, ...]:
    """Return the names to delete one by one, so that one tag at most, and one repository, are left for the ID."""
    names = (*image.digests, *image.tags)
    if not names:
        return ()
    last = (image.tags or image.digests)[-1]
    kept = {last, *(name for name in image.digests if name.repository == last.repository)}
    return tuple(name for name in (*image.tags, *image.digests) if name not in kept)


def _failure(refusal: Refusal) -> CriimageError:
    if refusal.status == CONFLICT:
        return ImageInUse(tidy(refusal.message))
    error = disk_failure(mask_forms(refusal.message), STORE)
    why = tidy(refusal.message) if error is None else error.text
    return OperationFailed(f"the Docker engine cannot remove the image: {why}")

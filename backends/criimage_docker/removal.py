"""Removes an image with all its names, or nothing (R1-R11)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from criimage.backend import waiting_for
from criimage.errors import CriimageError, ImageInUse, OperationFailed
from criimage_docker.engine.api import CONFLICT, NOT_FOUND, Refusal
from criimage_docker.engine.words import tidy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from criimage.backend import Image
    from criimage.reference import ImageID, Lookup, Reference
    from criimage_docker.engine.api import Engine
    from criimage_docker.view.view import View

__all__ = ["Remover"]

_log = structlog.get_logger(__name__)

RESTORE_SECONDS = 3.0
"""How long the names of an image whose removal was cancelled may take to come back: its caller waits for that."""

_HAS_CHILDREN = "has dependent child images"


class Remover:
    """Removes images of one engine, each by one caller at a time.

    Args:
        engine: does it.
        view: finds the image, and is told.
    """

    def __init__(self, engine: Engine, view: View) -> None:
        self._engine = engine
        self._view = view
        self._locks: dict[ImageID, tuple[asyncio.Lock, int]] = {}

    async def remove(self, lookup: Lookup) -> None:
        """Remove the image that the lookup finds; none is no error (R4, R11).

        Raises:
            ImageInUse: a container, running or not, was made of it; nothing was removed (R9).
            OperationFailed: the engine refused.
        """
        found = (await self._view.snapshot()).find(lookup)
        if found is None:
            return
        async with self._alone(found.id):
            # Whoever was first may have removed it, or given it other names.
            image = (await self._view.snapshot()).with_id(found.id.hex)
            if image is not None:
                with waiting_for("the Docker engine"):
                    await self._remove(image)

    @contextlib.asynccontextmanager
    async def _alone(self, image: ImageID) -> AsyncIterator[None]:
        lock, waiting = self._locks.get(image, (asyncio.Lock(), 0))
        self._locks[image] = (lock, waiting + 1)
        try:
            with waiting_for("another removal of the image"):
                await lock.acquire()
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, waiting = self._locks[image]
            if waiting > 1:
                self._locks[image] = (lock, waiting - 1)
            else:
                del self._locks[image]

    async def _remove(self, image: Image) -> None:
        removed: list[Reference] = []
        try:
            users = await self._users(image)
            if users:
                raise ImageInUse(f"image {image.id} is used by container {', '.join(users)}")
            # Tag by tag, because the engine refuses an ID with several names unless it is forced, and force would take
            # the image away under a stopped container (R3, R7, R9). The last name takes the image with it (R6).
            for name in (*image.tags, *image.digests):
                await self._deleted(name)
                removed.append(name)
            await self._delete_rest(image)
        except asyncio.CancelledError:
            # It took too long, or the operator has ended it: no name is lost for that, if the engine answers at all.
            restoring = asyncio.create_task(self._restore(image, removed), name=f"restore the names of {image.id}")
            await asyncio.wait({restoring}, timeout=RESTORE_SECONDS)
            restoring.cancel()
            raise
        except (CriimageError, Refusal) as error:
            await self._restore(image, removed)
            if isinstance(error, CriimageError):
                raise
            raise _failure(error) from error
        finally:
            self._view.changed()

    async def _users(self, image: Image) -> list[str]:
        try:
            return await self._engine.containers_of(image.id)
        except Refusal as refusal:
            if refusal.status == NOT_FOUND:
                return []
            raise _failure(refusal) from refusal

    async def _deleted(self, what: Reference | ImageID) -> None:
        """Delete a name or an ID; one that is gone already is as good (R5)."""
        try:
            await self._engine.delete(what)
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise

    async def _delete_rest(self, image: Image) -> None:
        """Delete an image that has no name, or none that could be told."""
        try:
            await self._deleted(image.id)
        except Refusal as refusal:
            # Without names, and with images built on it, it is in no list any more; its layers are the children's.
            if refusal.status != CONFLICT or _HAS_CHILDREN not in refusal.message:
                raise

    async def _restore(self, image: Image, removed: list[Reference]) -> None:
        """Give back the tags: a container can be made between the look at the containers and the last removal (R9)."""
        for name in removed:
            if name.tag is not None:
                try:
                    await self._engine.tag(image.id, name)
                except (CriimageError, Refusal) as error:
                    _log.warning("a removed tag could not be restored", name=str(name), reason=str(error))


def _failure(refusal: Refusal) -> CriimageError:
    if refusal.status == CONFLICT:
        return ImageInUse(tidy(refusal.message))
    return OperationFailed(f"the Docker engine cannot remove the image: {tidy(refusal.message)}")

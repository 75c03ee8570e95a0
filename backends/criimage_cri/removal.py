"""Removes an image with all its names, or nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.backend import waiting_for
from criimage.errors import ImageInUse, OperationFailed
from criimage.keyed_locks import KeyedLocks
from criimage.reference import ImageID
from criimage_cri.containers import user_of
from criimage_cri.failures import is_in_use
from criimage_cri.view import image_spec

if TYPE_CHECKING:
    from criimage.backend import Image
    from criimage.reference import Lookup
    from criimage_cri.upstream import Upstream
    from criimage_cri.view import View

__all__ = ["Remover"]

_ROUNDS = 3


class Remover:
    """Removes images; at the same time only different ones.

    Args:
        upstream: the runtime.
        view: what it has.
    """

    def __init__(self, upstream: Upstream, view: View) -> None:
        self._upstream = upstream
        self._view = view
        self._removals = KeyedLocks[ImageID]()

    async def remove(self, lookup: Lookup) -> None:
        """Remove what the lookup finds; see the contract."""
        with waiting_for("the container runtime"):
            details = await self._view.find(lookup)
            if details is not None:
                await self._remove_alone(details.image.id)

    async def _remove_alone(self, identity: ImageID) -> None:
        with self._removals.of(identity) as lock:
            with waiting_for("another removal of the image"):
                await lock.acquire()
            try:
                await self._remove(identity)
            finally:
                lock.release()

    async def _remove(self, identity: ImageID) -> None:
        """Ask for the ID, which takes all names along on every runtime known; where some are left, for each of them."""
        refused: OperationFailed | None = None
        for _ in range(_ROUNDS):
            details = await self._view.with_id(identity)
            if details is None:
                return
            image = details.image
            container = user_of(image, await self._upstream.containers())
            if container is not None:
                raise ImageInUse(f"image used by container {container}: {image.id}")
            refused = await self._ask_for_all(image)
        if await self._view.with_id(identity) is None:
            return
        raise refused or OperationFailed(f"the container runtime says that {identity} is removed, and still has it")

    async def _ask_for_all(self, image: Image) -> OperationFailed | None:
        """Return why the runtime refused, where it did: another's removal may have been the reason."""
        refused = await self._ask(str(image.id))
        for name in (*image.tags, *image.digests):
            found = await self._view.with_id(image.id)
            if found is None:
                return None
            if refused is not None:
                break
            # A tag that has moved meanwhile is another image's, which would go with it.
            if name in (*found.image.tags, *found.image.digests):
                refused = await self._ask(str(name))
        return refused

    async def _ask(self, name: str) -> OperationFailed | None:
        try:
            await self._upstream.images("RemoveImage", image_spec(name))
        except OperationFailed as error:
            if is_in_use(error):
                raise ImageInUse(error.text) from error
            return error
        return None

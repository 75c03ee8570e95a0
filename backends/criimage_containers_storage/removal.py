"""Removing images and names (cri-o section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.errors import ReadOnlyImage

if TYPE_CHECKING:
    from criimage.reference import Reference
    from criimage_containers_storage.pulling.changes import StoreChanges
    from criimage_containers_storage.store.access import StoreAccess
    from criimage_containers_storage.store.reader import Store, Stored

__all__ = ["Remover"]


class Remover:
    """Removes from one store."""

    def __init__(self, store: Store, changes: StoreChanges, access: StoreAccess) -> None:
        self._store = store
        self._changes = changes
        self._access = access

    async def remove(self, stored: Stored) -> None:
        """Remove an image with all its names and the layers that nothing else needs (R2, R6).

        That somebody else was faster is success (R1). skopeo looks for containers under the store's own locks and
        refuses before it changes anything (R5, skopeo 1.9.3, seen).

        Raises:
            ImageInUse: a container uses it.
            ReadOnlyImage: it lies in a read-only store; the tools would say that there is no such image (R7).
        """
        if stored.read_only:
            raise ReadOnlyImage(f"image {stored.image.id} is in a read-only store")
        async with self._access.exclusive():
            if stored.image.id.hex not in (await self._store.snapshot()).by_id:
                return
            await self._changes.delete(stored.image.id)

    async def untag(self, stored: Stored, reference: Reference) -> None:
        """Remove one name; with the last one the image (R3).

        A digest stands for all names of its repository on this image (R4).

        Raises:
            ImageInUse: it is the last name and a container uses the image.
            ReadOnlyImage: it lies in a read-only store.
            ConfigurationError: the tool for it is not installed.
        """
        if stored.read_only:
            raise ReadOnlyImage(f"image {stored.image.id} is in a read-only store")
        async with self._access.exclusive():
            now = (await self._store.snapshot()).by_id.get(stored.image.id.hex)
            if now is None:
                return
            dropped = {
                name
                for name in now.names
                if name == reference or (reference.digest is not None and name.repository == reference.repository)
            }
            keep = [name for name in now.names if name not in dropped]
            if keep:
                await self._changes.set_names(now.image.id, keep)
            else:
                await self._changes.delete(now.image.id)

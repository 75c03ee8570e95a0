"""Removing images and names (cri-o section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from criimage.errors import InvalidRequest, ReadOnlyImage
from criimage.reference import Reference
from criimage_containers_storage.store.in_use import read_in_use

if TYPE_CHECKING:
    from criimage_containers_storage.pulling.changes import StoreChanges
    from criimage_containers_storage.store.access import StoreAccess
    from criimage_containers_storage.store.snapshot import Stored
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["Remover"]


class Remover:
    """Removes from one store."""

    def __init__(self, layout: Layout, changes: StoreChanges, access: StoreAccess) -> None:
        self._layout = layout
        self._changes = changes
        self._access = access

    async def remove(self, stored: Stored) -> None:
        """Remove an image with all its names and the layers that nothing else needs (R2, R6).

        That somebody else was faster is success (R1).

        Raises:
            ImageInUse: a container uses it; nothing was changed (R5).
            ReadOnlyImage: it lies in a read-only store, alone or as well: the tools would say that there is no such
                image, or it would be there again under its names of that store (R7, 14).
            OperationFailed: it is still there.
        """
        if stored.pinned:
            raise ReadOnlyImage(f"image {stored.image.id} is in a read-only store")
        await self.remove_record(stored.record.id)

    async def remove_record(self, identity: str) -> None:
        """Remove what the writable store has under this ID, whether or not lists show it.

        Raises:
            ImageInUse: a container uses it; nothing was changed.
            OperationFailed: it is still there.
        """
        async with self._access.exclusive():
            await self._changes.delete(identity)

    async def untag(self, stored: Stored, reference: Reference) -> None:
        """Remove one name; with the last one the image (R3).

        A digest stands for all names of its repository on this image (R4). Names that no client can be shown count as
        names: an image that has one stays.

        Raises:
            ImageInUse: it is the last name and a container uses the image.
            ReadOnlyImage: it is a name of a read-only store.
            ConfigurationError: the tool for it is not installed.
            OperationFailed: it failed.
        """
        identity = stored.record.id
        async with self._access.exclusive():
            names = (await anyio.to_thread.run_sync(read_in_use, self._layout)).names(identity)
            dropped = [name for name in names if _is_meant(name, reference)]
            if stored.read_only or (stored.pinned and not dropped):
                raise ReadOnlyImage(f"image {stored.image.id} is in a read-only store")
            if set(dropped) == set(names) and not stored.pinned:
                await self._changes.delete(identity)
                return
            for name in dropped:
                await self._changes.remove_name(identity, name)


def _is_meant(name: str, reference: Reference) -> bool:
    try:
        parsed = Reference.parse(name)
    except InvalidRequest:
        return False
    return parsed == reference or (reference.digest is not None and parsed.repository == reference.repository)

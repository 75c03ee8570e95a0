"""Changes to what the store holds, other than copies: deletions and names (cri-o section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from criimage.errors import ConfigurationError, CriimageError, OperationFailed
from criimage_containers_storage.pulling.failures import store_failure
from criimage_containers_storage.pulling.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from criimage.reference import ImageID, Reference
    from criimage_containers_storage.pulling.skopeo import Skopeo
    from criimage_containers_storage.store.access import StoreAccess
    from criimage_containers_storage.store.reader import Store, Stored
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["StoreChanges"]

_log = structlog.get_logger(__name__)

_PATIENCE = 2.0


class StoreChanges:
    """Changes one store with its tools.

    Args:
        layout: the store.
        environment: the tools'.
        store: what is in it.
        skopeo: deletes.
        access: keeps copies and deletions apart.
    """

    def __init__(
        self, layout: Layout, environment: Mapping[str, str], store: Store, skopeo: Skopeo, access: StoreAccess
    ) -> None:
        self._layout = layout
        self._environment = environment
        self._store = store
        self._skopeo = skopeo
        self._access = access

    async def undo(self, reference: Reference, stored: Stored, before: Stored | None, *, known: bool) -> None:
        """Take back a pull whose result must not stay: the image goes, its name returns to where it was.

        An image that was here before, or has other names, stays and loses this name only.

        Args:
            reference: the name.
            stored: the image that has it now.
            before: the image that had it.
            known: `stored` was here before.
        """
        if before is not None and before.image.id == stored.image.id:
            return  # it was here before us
        async with self._access.exclusive():
            others = [name for name in stored.names if name != reference]
            try:
                if others or known:
                    await self.set_names(stored.image.id, others)
                else:
                    await self.delete(stored.image.id)
                if before is not None:
                    await self.set_names(before.image.id, before.names)
            except CriimageError as error:
                _log.warning("a refused image could not be taken back", image=str(reference), error=error.text)

    async def delete(self, identity: ImageID) -> None:
        """Delete an image with all its names; that it is gone is success, whoever did it.

        Raises:
            ImageInUse: a container uses it.
            OperationFailed: it is still there.
        """
        outcome = await self._skopeo.delete(identity)
        if outcome.code == 0:
            return
        # An image over a read-only store's layers, too, is removed whole before skopeo
        # 1.9.3 fails on the first layer that is not its own, with `layer not known`.
        left = (await self._store.snapshot()).by_id.get(identity.hex)
        if left is not None and not left.read_only:
            raise store_failure(outcome, f"removing image {identity}")

    async def set_names(self, identity: ImageID, names: Sequence[Reference]) -> None:
        """Give an image these names and no others.

        Raises:
            ConfigurationError: the tool for it is not installed.
            OperationFailed: it failed.
        """
        # The complete list is replaced (T8): ours is seconds old at most and read after the wait.
        flags = [part for name in names for part in ("-n", str(name))]
        command = ["containers-storage", *self._layout.flags, "set-names", *flags, identity.hex]
        try:
            outcome = await run(command, environment=self._environment, patience=_PATIENCE)
        except FileNotFoundError:
            raise ConfigurationError(
                "containers-storage is not installed; it is needed to remove a single name"
            ) from None
        if outcome.code != 0:
            raise OperationFailed(f"removing a name of image {identity}: containers-storage ended with {outcome.code}")

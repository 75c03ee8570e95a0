"""Removing images and names (cri-o section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from criimage.errors import ConfigurationError, CriimageError, OperationFailed, ReadOnlyImage
from criimage_containers_storage.failures import store_failure
from criimage_containers_storage.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from criimage.reference import ImageID, Reference
    from criimage_containers_storage.gate import Gate
    from criimage_containers_storage.skopeo import Skopeo
    from criimage_containers_storage.storage_conf import Layout
    from criimage_containers_storage.store import Store, Stored

__all__ = ["Remover"]

_log = structlog.get_logger(__name__)

_PATIENCE = 2.0


class Remover:
    """Removes from one store."""

    def __init__(
        self, layout: Layout, environment: Mapping[str, str], store: Store, skopeo: Skopeo, gate: Gate
    ) -> None:
        self._layout = layout
        self._environment = environment
        self._store = store
        self._skopeo = skopeo
        self._gate = gate

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
        async with self._gate.deleting():
            if stored.image.id.hex not in (await self._store.snapshot()).by_id:
                return
            await self._delete(stored.image.id)

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
        async with self._gate.deleting():
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
                await self._set_names(now.image.id, keep)
            else:
                await self._delete(now.image.id)

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
        async with self._gate.deleting():
            others = [name for name in stored.names if name != reference]
            try:
                if others or known:
                    await self._set_names(stored.image.id, others)
                else:
                    await self._delete(stored.image.id)
                if before is not None:
                    await self._set_names(before.image.id, before.names)
            except CriimageError as error:
                _log.warning("a refused image could not be taken back", image=str(reference), error=error.text)

    async def _delete(self, identity: ImageID) -> None:
        outcome = await self._skopeo.delete(identity)
        if outcome.code == 0:
            return
        # Gone is gone, whoever did it. An image over a read-only store's layers, too, is removed whole before skopeo
        # 1.9.3 fails on the first layer that is not its own, with `layer not known`.
        left = (await self._store.snapshot()).by_id.get(identity.hex)
        if left is not None and not left.read_only:
            raise store_failure(outcome, f"removing image {identity}")

    async def _set_names(self, identity: ImageID, names: Sequence[Reference]) -> None:
        # The complete list is replaced (T8): ours is seconds old at most and read after the gate.
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

"""Changes to what the store holds, other than copies: deletions and names (cri-o section 5)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio.to_thread
import structlog

from criimage.backend import waiting_for
from criimage.errors import ConfigurationError, CriimageError, InvalidRequest, OperationFailed
from criimage.reference import ImageID, Reference
from criimage_containers_storage.pulling.failures import store_failure
from criimage_containers_storage.pulling.process import run
from criimage_containers_storage.store.in_use import read_in_use

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from criimage_containers_storage.pulling.process import Outcome
    from criimage_containers_storage.pulling.skopeo import Skopeo
    from criimage_containers_storage.store.access import StoreAccess
    from criimage_containers_storage.store.in_use import InUse
    from criimage_containers_storage.store.snapshot import Stored
    from criimage_containers_storage.store.storage_conf import Layout

__all__ = ["StoreChanges"]

_log = structlog.get_logger(__name__)

_PATIENCE = 2.0
_UNDO_SECONDS = 100.0


class StoreChanges:
    """Changes one store with its tools.

    Args:
        layout: the store.
        environment: the tools'.
        skopeo: deletes.
        access: keeps copies and deletions apart.
    """

    def __init__(self, layout: Layout, environment: Mapping[str, str], skopeo: Skopeo, access: StoreAccess) -> None:
        self._layout = layout
        self._environment = environment
        self._skopeo = skopeo
        self._access = access

    async def delete(self, identity: str) -> None:
        """Delete an image with all its names; that it is gone is success, whoever did it.

        Who uses it is looked up directly before, in all files: skopeo before 1.11 does not see CRI-O's containers (14).
        Newer ones look again, under the store's own locks.

        Args:
            identity: 64 digits.

        Raises:
            ImageInUse: a container uses it; nothing was changed.
            OperationFailed: a file cannot be read, or the image is still there, or in a split store another image would
                lose a layer.
        """
        users = await self._users()
        if users.image(identity) is None:
            return
        users.refuse_if_used(identity)
        users.refuse_if_shared(identity)
        with waiting_for("skopeo and the store's locks"):
            outcome = await self._skopeo.delete(ImageID(identity))
        # An image over a read-only store's layers is removed whole before skopeo 1.9.3 fails on the first layer that is
        # not its own, with `layer not known`.
        if outcome.code != 0 and (await self._users()).image(identity) is not None:
            raise store_failure(outcome, f"removing image {identity}")

    async def remove_name(self, identity: str, name: str) -> None:
        """Take one name from an image that has others; nothing is done about an image whose last name it is.

        buildah takes the one name under the store's own lock, but from whatever image has it by then, and takes that
        image with its last name. `containers-storage` can only write the whole list. Either is looked up directly
        before.

        Args:
            identity: 64 digits.
            name: as it is in the store.

        Raises:
            ConfigurationError: no tool for it is installed, or the store is split.
            OperationFailed: it failed.
        """
        names = (await self._users()).names(identity)
        if name not in names:
            return  # somebody has moved it
        single = self._layout.image_store is None
        if single and name == _reference_text(name) and await self._untag_by_buildah(name):
            return
        names = (await self._users()).names(identity)
        rest = [one for one in names if one != name]
        if rest and len(rest) < len(names):
            await self._storage("set-names", [part for one in rest for part in ("-n", one)], identity)

    async def undo(self, reference: Reference, stored: Stored, before: Stored | None, *, known: bool) -> None:
        """Take back a pull whose result must not stay: the image goes, its name returns to where it was.

        An image that was here before, has other names or is in use stays and loses this name only. Only the one name is
        touched, and only as long as it is where the pull has put it. What is not possible is a line in the log.

        Args:
            reference: the name.
            stored: the image that has it now.
            before: the image that had it.
            known: `stored` was here before.
        """
        identity, name = stored.record.id, str(reference)
        if before is not None and before.record.id == identity:
            return  # it was here before us
        try:
            async with self._access.exclusive(), asyncio.timeout(_UNDO_SECONDS):
                users = await self._users()
                names = users.names(identity)
                if name in names:  # else somebody has moved it since
                    await self._take_back_name(name, identity, before, users, keep=known or len(names) > 1)
                if not known and set((await self._users()).names(identity)) <= {name}:
                    await self.delete(identity)
        except (CriimageError, TimeoutError) as error:
            _log.warning("a refused image could not be taken back", image=name, error=str(error) or "the store is busy")

    async def _take_back_name(
        self, name: str, identity: str, before: Stored | None, users: InUse, *, keep: bool
    ) -> None:
        try:
            if before is not None and users.image(before.record.id) is not None:
                await self._storage("add-names", ["-n", name], before.record.id)
            elif keep:
                await self._drop_name(identity, name, users.names(identity))
        except CriimageError as error:
            if keep:
                raise
            # A name that is lost comes back with the next pull; refused content must not be found under it.
            _log.warning("a name could not be given back to the image that had it", image=name, error=str(error))

    async def _drop_name(self, identity: str, name: str, names: list[str]) -> None:
        if len(names) > 1:
            await self.remove_name(identity, name)
        else:
            await self._storage("set-names", [], identity)

    async def _users(self) -> InUse:
        return await anyio.to_thread.run_sync(read_in_use, self._layout)

    async def _untag_by_buildah(self, name: str) -> bool:
        layout = self._layout
        where = ["--root", str(layout.root), "--runroot", str(layout.run_root), "--storage-driver", layout.driver]
        options = [part for option in layout.store_options for part in ("--storage-opt", option)]
        try:
            outcome = await self._run(["buildah", *where, *options, "rmi", name])
        except FileNotFoundError:
            return False
        return outcome.code == 0

    async def _storage(self, verb: str, flags: Sequence[str], identity: str) -> None:
        if self._layout.image_store is not None:
            # An older containers-storage or buildah would look into the graph root alone.
            raise ConfigurationError("single names cannot be changed in a store that imagestore splits")
        try:
            outcome = await self._run(["containers-storage", *self._layout.flags, verb, *flags, identity])
        except FileNotFoundError:
            raise ConfigurationError(
                "containers-storage is not installed; it is needed to remove a single name"
            ) from None
        if outcome.code != 0:
            raise OperationFailed(f"changing a name of image {identity}: containers-storage ended with {outcome.code}")

    async def _run(self, command: Sequence[str]) -> Outcome:
        with waiting_for("the tool that changes names and the store's locks"):
            return await run(command, environment=self._environment, patience=_PATIENCE)


def _reference_text(name: str) -> str:
    try:
        return str(Reference.parse(name))
    except InvalidRequest:
        return ""
